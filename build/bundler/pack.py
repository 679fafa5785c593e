"""The bundle as one file: a tar.zst whose bytes depend on the bundle and nothing else."""

from __future__ import annotations

import stat
import tarfile
from typing import TYPE_CHECKING

import zstandard

from bundler.assembly import safe_extract
from bundler.assembly.path_rules import ArchiveLimits
from bundler.errors import PolicyError, VerificationError
from bundler.files.modes import FOLDER, listed
from bundler.files.whole import whole

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from pathlib import Path

# A tree of 1,018 MB became 240 MB at level 3, 221 at 6 and 208 at 9, in ever longer time.
LEVEL = 6
WINDOW_LOG = 23
JOB_BYTES = 16 << 20
READ_BYTES = 1 << 20
# What a bundle holds is known: more than any archive from elsewhere.
BUNDLE_LIMITS = ArchiveLimits(member_bytes=16 << 30, total_bytes=64 << 30, ratio=1_000)


def archive(
    root: Path,
    output: Path,
    *,
    epoch: int,
    level: int = LEVEL,
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
    modes = listed(root)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        window_log=WINDOW_LOG,
        job_size=JOB_BYTES,
        threads=max(1, threads),
        write_checksum=True,
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    with whole(output) as raw, compressor.stream_writer(raw, closefd=False) as packed:
        _write(root, modes, packed, epoch, on_bytes)


def unpack(
    packed: Path, destination: Path, *, on_bytes: Callable[[int], None] = lambda _: None
) -> dict[str, int]:
    """Unpack what `archive` wrote into the new folder `destination`, as archives.extract does."""
    return safe_extract.extract(
        packed, destination, strip=0, limits=BUNDLE_LIMITS, on_bytes=on_bytes
    )


def _write(
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


def _changed(name: str) -> VerificationError:
    """Return the error for a file that is not what it was a moment ago."""
    return VerificationError(
        f"{name} changed while it was packed",
        why="its size is not the one it had before",
        next_step="let nothing write into the bundle, verify it, then pack it again",
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
            why="it is no part of the bundle: the manifest does not list it",
            next_step="remove it",
        )
    return modes[name]


def _header(
    name: str, status: os.stat_result, modes: Mapping[str, int], epoch: int
) -> tarfile.TarInfo:
    """Return the entry of a file or folder, with nothing of this machine in it."""
    info = tarfile.TarInfo(name)
    info.mtime = epoch
    if stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
        info.mode = FOLDER
    else:
        info.mode = mode_of_file(name, status, modes)
        info.size = status.st_size
    return info
