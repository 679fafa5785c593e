"""What identifies bytes: sha256, and the size where a lock knows it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.manifest import file_sha256

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """A sha256 in lower-case hex, with the size in bytes where it is known."""

    sha256: str
    size: int | None = None

    def __post_init__(self) -> None:
        """Refuse anything that is not a whole sha256."""
        if not SHA256.fullmatch(self.sha256):
            message = f"not a sha256: {self.sha256!r}"
            raise ValueError(message)

    @classmethod
    def of_bytes(cls, data: bytes) -> Digest:
        """Return the digest of `data`."""
        return cls(sha256=hashlib.sha256(data).hexdigest(), size=len(data))

    @classmethod
    def of_file(cls, path: Path) -> Digest:
        """Return the digest of the file at `path`."""
        return cls(sha256=file_sha256(path), size=path.stat().st_size)

    def admits(self, other: Digest) -> bool:
        """Return whether `other` is the same content; an unknown size matches any."""
        sizes_agree = self.size is None or other.size is None or self.size == other.size
        return self.sha256 == other.sha256 and sizes_agree


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file from elsewhere whose bytes are known before it is fetched."""

    name: str
    digest: Digest


def tree_digest(
    root: Path, *, suffixes: tuple[str, ...] = (), names: Collection[str] = ()
) -> Digest:
    """Return one digest for the files below `root`: paths and contents, in path order.

    Bytecode folders are passed over. `suffixes`, if given, keeps only files that end so, and
    `names` only those paths.
    """
    total = hashlib.sha256()
    size = 0
    for path in sorted(root.rglob("*"), key=lambda path: path.relative_to(root).as_posix()):
        if not path.is_file() or "__pycache__" in path.parts:
            continue
        if suffixes and not path.name.endswith(suffixes):
            continue
        if names and path.relative_to(root).as_posix() not in names:
            continue
        total.update(f"{path.relative_to(root).as_posix()}\0{file_sha256(path)}\n".encode())
        size += path.stat().st_size
    return Digest(sha256=total.hexdigest(), size=size)
