"""The bundle as one file: a tar.zst or a zip whose bytes depend on the bundle and little else."""

from __future__ import annotations

import hashlib
import stat
import tarfile
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import zstandard

from bundler.atomic import EXECUTABLE, FOLDER, PLAIN, disk_errors, whole
from bundler.bundle import folders_of, read_bundle
from bundler.digests import Digest
from bundler.errors import UsageError, VerificationError
from bundler.profiles import label
from bundler.verify import verify
from sidecar.manifest import CHUNK_BYTES, strays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from bundler.console import Progress
    from sidecar.manifest import FileEntry, Manifest

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
THREADS = 2


def write_tar_zst(
    root: Path, output: Path, *, epoch: int, on_bytes: Callable[[int], None] = lambda _: None
) -> None:
    """Write the bundle at `root` to `output`, a tar.zst with every time set to `epoch` (seconds).

    Entries are sorted by path; owners are 0 and nameless; modes are the manifest's. zstd cuts its
    input into jobs of a fixed size, so the count of threads (at least one) never shows. Written
    beside, synced, renamed: a crash leaves the old archive or the new one, and perhaps a hidden
    file that the next run sweeps. Raises VerificationError for a file that is not the manifest's
    or changes meanwhile, DiskError.
    """
    entries = _listed(root)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        ZSTD_LEVEL, window_log=WINDOW_LOG, job_size=JOB_BYTES, threads=THREADS, write_checksum=True
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    members = dict.fromkeys(folders_of(entries)) | entries
    size = 0
    with whole(output) as raw, compressor.stream_writer(raw, closefd=False) as packed:
        for piece in tar_pieces(root, dict(sorted(members.items())), epoch, on_bytes):
            size += packed.write(piece)
        packed.write(bytes(-size % tarfile.RECORDSIZE))


def _listed(root: Path) -> dict[str, FileEntry]:
    """Return the files of the bundle at `root`, by path. Raises VerificationError for others."""
    entries = read_bundle(root).everything
    if (stray := next(strays(root, entries), None)) is not None:
        raise VerificationError(
            f"{stray.path} cannot be packed",
            why=stray.detail or "the manifest does not list it",
            next_step="remove it and assemble again",
        )
    return dict(sorted(entries.items()))


def tar_pieces(
    root: Path,
    members: Mapping[str, FileEntry | None],
    epoch: int,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Iterator[bytes]:
    """Yield a tar of `members`: names with files of the bundle at `root`, or None for folders.

    A file is hashed while it is read. Raises VerificationError if it is not the listed one.
    """
    for name, entry in members.items():
        if entry is None:
            yield _packed(tar_header(name, epoch))
            continue
        mode = EXECUTABLE if entry.mode & 0o100 else PLAIN
        yield _packed(tar_header(name, epoch, size=entry.size, mode=mode))
        yield from content(root, entry)
        yield bytes(-entry.size % tarfile.BLOCKSIZE)
        on_bytes(entry.size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _packed(header: tarfile.TarInfo) -> bytes:
    return header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def content(root: Path, entry: FileEntry) -> Iterator[bytes]:
    """Yield the bytes of a bundle's file. Raises VerificationError if it is not the listed one."""
    digest = hashlib.sha256()
    left = entry.size
    try:
        with (root / entry.path).open("rb") as stream:
            while (chunk := stream.read(CHUNK_BYTES)) and left >= 0:
                digest.update(chunk)
                left -= len(chunk)
                if left >= 0:
                    yield chunk
    except OSError as error:
        raise VerificationError(
            f"{entry.path} of the bundle cannot be read",
            why=error.strerror or str(error),
            next_step="python3 build assemble repairs it",
        ) from error
    if left or digest.hexdigest() != entry.sha256:
        raise VerificationError(
            f"{entry.path} is not what the manifest says",
            why=f"read to be packed, its sha256 was {digest.hexdigest()}",
            next_step="stop programs that write there; python3 build assemble repairs a bundle",
        )


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
    names. Raises VerificationError for a file that is not the manifest's or changes, DiskError.
    """
    with (
        disk_errors(output.parent, purpose=output.name),
        zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=ZIP_LEVEL) as packed,
    ):
        for entry in _listed(root).values():
            with packed.open(_zip_entry(entry, epoch), "w") as sink:
                for chunk in content(root, entry):
                    sink.write(chunk)
                    on_bytes(len(chunk))


def _zip_entry(entry: FileEntry, epoch: int) -> zipfile.ZipInfo:
    """Return what the zip says of a file, with nothing of this machine in it."""
    moment = datetime.fromtimestamp(max(epoch, EARLIEST), UTC)
    info = zipfile.ZipInfo(entry.path, moment.timetuple()[:6])
    info.create_system = UNIX
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | entry.mode) << 16
    info.file_size = entry.size
    return info


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBundle:
    """A bundle's archive: where it lies, its digest with the size, and what it holds."""

    path: Path
    digest: Digest
    manifest: Manifest


def name_of(*manifests: Manifest, suffix: str = SUFFIX) -> str:
    """Return the file name of an archive of bundles."""
    targets = "-".join(label(one.target, one.profile) for one in manifests)
    return f"{PRODUCT}-{manifests[0].version}-{targets}{suffix}"


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
    with disk_errors(path.parent, purpose=f"the parts of {path.name}"):
        with path.open("rb") as whole:
            while whole.tell() < size:
                part = path.with_name(f"{path.name}.{len(parts) + 1:03}")
                left = part_bytes
                with part.open("wb") as sink:
                    while left and (chunk := whole.read(min(left, CHUNK_BYTES))):
                        left -= sink.write(chunk)
                parts.append(part)
        path.unlink()
    return tuple(parts)
