"""Tar archives member by member, with whatever headers a test wants."""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One member: a file unless `type` says otherwise; `size` may lie about `data`."""

    name: str
    data: bytes = b""
    type: bytes = tarfile.REGTYPE
    mode: int = 0o644
    link: str = ""
    size: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def tar_bytes(entries: Iterable[Entry]) -> bytes:
    """Return an uncompressed tar."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.type = entry.type
            info.mode = entry.mode
            info.linkname = entry.link
            info.pax_headers = dict(entry.headers)
            info.size = len(entry.data) if entry.size is None else entry.size
            info.uid, info.gid, info.uname, info.gname = 1000, 1000, "builder", "builders"
            if entry.size is None:
                tar.addfile(info, io.BytesIO(entry.data))
            else:
                tar.addfile(info)
    return stream.getvalue()


def write_tar(path: Path, entries: Iterable[Entry]) -> Path:
    """Write a tar to `path`, packed as its suffix says (.tar, .gz, .zst)."""
    data = tar_bytes(entries)
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    elif path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)
    return path
