"""The bytes of one digest on their way into the store."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Self

from bundler.atomic import disk_error
from bundler.errors import DiskError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from bundler.artifacts.store import Store
    from bundler.digests import Digest


class WrongBytesError(Exception):
    """What was written is whole, but it is not what was asked for; `sha256` is what it is."""

    def __init__(self, sha256: str) -> None:
        """Keep the digest the bytes really have."""
        super().__init__(sha256)
        self.sha256 = sha256


class Writer:
    """What fills one entry of a store; a context that cleans up after itself.

    Left with an error the unfinished bytes stay for the next writer of the same digest, also one
    in another process, except when the disk is full.
    """

    def __init__(self, store: Store, digest: Digest, name: str) -> None:
        """Begin with nothing; Store.writer adds what an earlier writer left."""
        self.digest = digest
        self.name = name
        self._store = store
        self._needed = digest.size
        self.partial = store.partial(digest.sha256)

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the file, keeping what another writer can continue."""
        resumable = error is not None and not isinstance(error, DiskError) and self.offset > 0
        self.partial.close(keep=resumable)

    @property
    def offset(self) -> int:
        """How many bytes are there."""
        return self.partial.offset

    @property
    def is_complete(self) -> bool:
        """Whether the bytes are the ones asked for."""
        return self.partial.sha256 == self.digest.sha256

    def expect(self, total: int) -> None:
        """Say how many bytes there will be in all. Raises DiskError if they cannot fit."""
        self._needed = total
        missing = total - self.offset
        if missing > self._store.free_bytes():
            raise self._full(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), missing)

    def write(self, data: bytes) -> None:
        """Append `data`. Raises DiskError."""
        before = self.offset
        try:
            self.partial.write(data)
        except OSError as error:
            missing = len(data) if self._needed is None else self._needed - before
            raise self._full(error, missing) from error

    def restart(self) -> None:
        """Forget what is there."""
        self.partial.restart()

    def commit(self) -> Path:
        """Make the bytes an entry and return it. Raises WrongBytesError, DiskError."""
        if not self.is_complete:
            raise WrongBytesError(self.partial.sha256)
        try:
            return self._store.publish(self.partial, self.digest.sha256)
        except OSError as error:
            raise self._full(error, self.offset) from error

    def _full(self, error: OSError, needed: int) -> DiskError:
        return disk_error(error, self._store.root, purpose=self.name, needed=needed)
