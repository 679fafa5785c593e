"""A file cut into numbered parts, where an installer or a host takes no larger ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundler.errors import UsageError
from bundler.files.partial import disk_error
from sidecar.manifest import CHUNK_BYTES

if TYPE_CHECKING:
    from pathlib import Path

MOST = 999


def split(path: Path, part_bytes: int) -> tuple[Path, ...]:
    """Replace a file larger than `part_bytes` by `path`.001, .002 and so on; return what is there.

    `cat` in the order of names gives the file back. A smaller file stays as it is. Raises
    UsageError where a thousand parts would not do, DiskError.
    """
    size = path.stat().st_size
    if size <= part_bytes:
        return (path,)
    if size > MOST * part_bytes:
        raise UsageError(
            f"{path.name} cannot be cut into parts that small",
            why=f"it has {size} bytes, and parts are numbered up to {MOST}",
            next_step=f"--split-mb {size // MOST // 10**6 + 1}, or more",
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
