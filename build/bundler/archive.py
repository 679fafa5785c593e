"""The bundle as one file: a tar.zst or a zip whose bytes depend on the bundle and little else.

It is verified before it is packed, and again where it arrives.
"""

from __future__ import annotations

import shutil
import stat
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from bundler.assembly import safe_extract
from bundler.assembly.path_rules import ArchiveLimits
from bundler.atomic import FOLDER, PLAIN, disk_error, whole
from bundler.bundle import read_bundle
from bundler.digests import Digest
from bundler.errors import PolicyError, UsageError, VerificationError
from bundler.profiles import label
from bundler.verify import verify
from sidecar.manifest import CHUNK_BYTES

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from bundler.console import Progress
    from bundler.verify import Verified
    from sidecar.manifest import Manifest

PRODUCT = "sidecar"
SUFFIX = ".tar.zst"
MOST_PARTS = 999
# Made 436 MB of 1,164, where zstd made 353.
ZIP_LEVEL = 6
UNIX = 3
# A zip knows no year before.
EARLIEST = 315_532_800
# A tree of 1,018 MB became 240 MB at level 3, 221 at 6 and 208 at 9, in ever longer time.
ZSTD_LEVEL = 6
WINDOW_LOG = 23
JOB_BYTES = 16 << 20
READ_BYTES = 1 << 20
# What a bundle holds is known: more than any archive from elsewhere.
BUNDLE_LIMITS = ArchiveLimits(member_bytes=16 << 30, total_bytes=64 << 30, ratio=1_000)


def write_tar_zst(
    root: Path,
    output: Path,
    *,
    epoch: int,
    level: int = ZSTD_LEVEL,
    threads: int = 2,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> None:
    """Write the bundle at `root` to `output`, a tar.zst with every time set to `epoch` (seconds).

    Entries are sorted by path; owners are 0 and nameless; modes are the manifest's. zstd cuts its
    input into jobs of a fixed size, so the count of `threads` (at least one) never shows. Written
    beside, synced, renamed: a crash leaves the old archive or the new one, and perhaps a hidden
    file that the next run sweeps. Raises PolicyError for a link or a device, VerificationError
    for a file that is not the manifest's or changes meanwhile, DiskError.
    """
    modes = read_bundle(root).modes
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        window_log=WINDOW_LOG,
        job_size=JOB_BYTES,
        threads=max(1, threads),
        write_checksum=True,
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    with whole(output) as raw, compressor.stream_writer(raw, closefd=False) as packed:
        _write_members(root, modes, packed, epoch, on_bytes)


def unpack(
    packed: Path, destination: Path, *, on_bytes: Callable[[int], None] = lambda _: None
) -> dict[str, int]:
    """Unpack what `archive` wrote into the new folder `destination`, as archives.extract does."""
    return safe_extract.extract(
        packed, destination, strip=0, limits=BUNDLE_LIMITS, on_bytes=on_bytes
    )


def _write_members(
    root: Path,
    modes: Mapping[str, int],
    stream: zstandard.ZstdCompressionWriter,
    epoch: int,
    on_bytes: Callable[[int], None],
) -> None:
    """Write the tar to `stream`."""
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*")}
    with tarfile.open(
        fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8", bufsize=READ_BYTES
    ) as tar:
        for name in sorted(paths):
            info = _header(name, paths[name].lstat(), modes, epoch)
            if info.isdir():
                tar.addfile(info)
                continue
            with paths[name].open("rb") as data:
                try:
                    tar.addfile(info, data)
                except OSError as error:
                    if error.errno is not None:
                        raise
                    raise _changed(name) from error
                if data.read(1):
                    raise _changed(name)
            on_bytes(info.size)


def _changed(name: str, why: str = "its size changed") -> VerificationError:
    return VerificationError(
        f"{name} changed while it was packed",
        why=why,
        next_step="stop programs that write into the bundle, verify it, then pack it again",
    )


def mode_of_file(name: str, status: os.stat_result, modes: Mapping[str, int]) -> int:
    """Return the mode in `modes` of a file called `name` that is to be packed.

    Raises PolicyError for a link or a device, VerificationError for a file that has none.
    """
    if not stat.S_ISREG(status.st_mode):
        raise PolicyError(
            f"{name} cannot be packed",
            why="it is a link, a device or a socket; a bundle holds files and folders",
            next_step="remove it and assemble again",
        )
    if name not in modes:
        raise VerificationError(
            f"{name} cannot be packed",
            why="the manifest does not list it",
            next_step="remove it",
        )
    return modes[name]


def _header(
    name: str, status: os.stat_result, modes: Mapping[str, int], epoch: int
) -> tarfile.TarInfo:
    if stat.S_ISDIR(status.st_mode):
        return tar_header(name, epoch)
    mode = mode_of_file(name, status, modes)
    return tar_header(name, epoch, size=status.st_size, mode=mode)


def tar_header(
    name: str, epoch: int, *, size: int | None = None, mode: int = PLAIN
) -> tarfile.TarInfo:
    """Return the header of a file of `size` bytes, or without a size of a folder.

    It holds nothing of this machine; owners are 0 and nameless.
    """
    info = tarfile.TarInfo(name)
    info.mtime = epoch
    if size is None:
        info.type, info.mode = tarfile.DIRTYPE, FOLDER
    else:
        info.size, info.mode = size, mode
    return info


def write_zip(
    root: Path, output: Path, *, epoch: int, on_bytes: Callable[[int], None] = lambda _: None
) -> None:
    """Write the bundle at `root` to the zip `output`, sorted, every time set to `epoch` (UTC).

    Modes are the manifest's. Files and archives over 4 GiB are written as ZIP64. Apart from the
    bundle the bytes depend on the zlib of the Python that runs this, which a release's statement
    names. Raises PolicyError for a link or a device, VerificationError for a file that is not the
    manifest's or changes, DiskError.
    """
    modes = read_bundle(root).modes
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*")}
    try:
        with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=ZIP_LEVEL) as packed:
            for name in sorted(paths):
                status = paths[name].lstat()
                if stat.S_ISDIR(status.st_mode):
                    continue
                mode = mode_of_file(name, status, modes)
                size = 0
                with (
                    paths[name].open("rb") as data,
                    packed.open(_zip_entry(name, mode, status.st_size, epoch), "w") as sink,
                ):
                    while chunk := data.read(CHUNK_BYTES):
                        sink.write(chunk)
                        size += len(chunk)
                        on_bytes(len(chunk))
                if size != status.st_size:
                    raise _changed(name, f"it had {status.st_size} bytes, and {size} were read")
    except OSError as error:
        raise disk_error(error, output.parent, purpose=output.name) from error


def _zip_entry(name: str, mode: int, size: int, epoch: int) -> zipfile.ZipInfo:
    """Return what the zip says of a file, with nothing of this machine in it."""
    moment = datetime.fromtimestamp(max(epoch, EARLIEST), UTC)
    entry = zipfile.ZipInfo(name, moment.timetuple()[:6])
    entry.create_system = UNIX
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | mode) << 16
    entry.file_size = size
    return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBundle:
    """A bundle's archive: where it lies, its digest with the size, and what it holds."""

    path: Path
    digest: Digest
    manifest: Manifest


def name_of(manifest: Manifest) -> str:
    """Return the file name of a bundle's archive."""
    return f"{PRODUCT}-{manifest.version}-{label(manifest.target, manifest.profile)}{SUFFIX}"


def pack_verified(
    bundle: Path, output: Path | None, *, epoch: int, progress: Progress
) -> PackedBundle:
    """Pack the bundle at `bundle` after verifying it; equal bundles make equal archives.

    Goes beside the bundle, under its own name, unless `output` names a file. `epoch` is the date
    of every entry, in seconds since 1970. Raises VerificationError, PolicyError, DiskError.
    """
    verified = verify(bundle, progress)
    path = output or bundle.parent / name_of(verified.manifest)
    step = "archive"
    progress.start(step, verified.size)
    write_tar_zst(bundle, path, epoch=epoch, on_bytes=lambda size: progress.advance(step, size))
    progress.finish(step)
    return PackedBundle(path=path, digest=Digest.of_file(path), manifest=verified.manifest)


def verify_packed(archive: Path, progress: Progress) -> Verified:
    """Unpack `archive` beside itself, verify what comes out, and remove it again.

    A killed run leaves a hidden folder beside the archive. Raises VerificationError, PolicyError
    or IntegrityError for an archive that is damaged or hostile, and DiskError.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{archive.name}.", dir=archive.parent))
    except OSError as error:
        raise disk_error(error, archive.parent, purpose=f"what {archive.name} holds") from error
    try:
        step = "unpack"
        progress.start(step, None)
        root = folder / "bundle"
        unpack(archive, root, on_bytes=lambda size: progress.advance(step, size))
        progress.finish(step)
        return verify(root, progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def split_file(path: Path, part_bytes: int) -> tuple[Path, ...]:
    """Replace a file larger than `part_bytes` by `path`.001, .002 and so on; return what is there.

    `cat` in the order of names gives the file back. A smaller file stays as it is. Raises
    UsageError where a thousand parts would not do, DiskError.
    """
    size = path.stat().st_size
    if size <= part_bytes:
        return (path,)
    if size > MOST_PARTS * part_bytes:
        raise UsageError(
            f"{path.name} cannot be cut into parts that small",
            why=f"it has {size} bytes, and parts are numbered up to {MOST_PARTS}",
            next_step=f"--split-mb {size // MOST_PARTS // 10**6 + 1}, or more",
        )
    parts: list[Path] = []
    try:
        with path.open("rb") as whole:
            while whole.tell() < size:
                part = path.with_name(f"{path.name}.{len(parts) + 1:03}")
                left = part_bytes
                with part.open("wb") as sink:
                    while left and (chunk := whole.read(min(left, CHUNK_BYTES))):
                        left -= sink.write(chunk)
                parts.append(part)
        path.unlink()
    except OSError as error:
        raise disk_error(error, path.parent, purpose=f"the parts of {path.name}") from error
    return tuple(parts)
