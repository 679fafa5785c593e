"""What identifies bytes: sha256, and the size where a lock knows it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.manifest import file_sha256

if TYPE_CHECKING:
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
