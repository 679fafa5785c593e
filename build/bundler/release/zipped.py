"""The bundle as a zip, for systems that open nothing else without a program of their own."""

from __future__ import annotations

import stat
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bundler.errors import VerificationError
from bundler.files.modes import listed
from bundler.files.partial import disk_error
from bundler.pack import mode_of_file
from sidecar.manifest import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Made 436 MB of 1,164, where zstd made 353.
LEVEL = 6
UNIX = 3
# A zip knows no year before.
EARLIEST = 315_532_800


def archive(
    root: Path, output: Path, *, epoch: int, on_bytes: Callable[[int], None] = lambda _: None
) -> None:
    """Write the bundle at `root` to the zip `output`, sorted, every time set to `epoch` (UTC).

    Modes are the manifest's. Files and archives over 4 GiB are written as ZIP64. Apart from the
    bundle the bytes depend on the zlib of the Python that runs this, which a release's statement
    names. Raises PolicyError for a link or a device, VerificationError for a file that is not the
    manifest's or changes, DiskError.
    """
    modes = listed(root)
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*")}
    try:
        with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as packed:
            for name in sorted(paths):
                status = paths[name].lstat()
                if stat.S_ISDIR(status.st_mode):
                    continue
                mode = mode_of_file(name, status, modes)
                size = 0
                with (
                    paths[name].open("rb") as data,
                    packed.open(_entry(name, mode, status.st_size, epoch), "w") as sink,
                ):
                    while chunk := data.read(CHUNK_BYTES):
                        sink.write(chunk)
                        size += len(chunk)
                        on_bytes(len(chunk))
                if size != status.st_size:
                    raise VerificationError(
                        f"{name} changed while it was packed",
                        why=f"it had {status.st_size} bytes, and {size} were read",
                        next_step="let nothing write into the bundle, then pack it again",
                    )
    except OSError as error:
        raise disk_error(error, output.parent, purpose=output.name) from error


def _entry(name: str, mode: int, size: int, epoch: int) -> zipfile.ZipInfo:
    """Return what the zip says of a file, with nothing of this machine in it."""
    moment = datetime.fromtimestamp(max(epoch, EARLIEST), UTC)
    entry = zipfile.ZipInfo(name, moment.timetuple()[:6])
    entry.create_system = UNIX
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | mode) << 16
    entry.file_size = size
    return entry
