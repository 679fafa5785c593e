"""Verified content, kept by its sha256 in one folder that any number of builders may share."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

from bundler.atomic import (
    Partial,
    abandoned,
    disk_error,
    disk_errors,
    free_bytes,
    remove,
    require_space,
)
from bundler.digests import Digest
from bundler.errors import DiskError, IntegrityError, UnreachableError
from sidecar.manifest import canonical, file_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Self

    from bundler.console import Progress
    from bundler.digests import Artifact


CACHEDIR_TAG = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# Made by a bundle builder. Everything here is fetched or made again when it is missing.\n"
)


def not_locked(name: str, *, actual: str, locked: Digest, next_step: str) -> IntegrityError:
    """Return the error that says which bytes were found and which were locked."""
    return IntegrityError(
        f"{name} is not the file that was locked",
        why=f"its sha256 is {actual}, the lock says {locked.sha256}",
        next_step=next_step,
    )


def lay(entry: Path, target: Path) -> None:
    """Put the content of an entry at `target`, as a link where the disk allows it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove(target)
    try:
        os.link(entry, target)
    except OSError:
        shutil.copyfile(entry, target)


class Store:
    """Files named by their content below `root`: sha256/ab/HEX, with partial/ and derived/ beside.

    An entry appears under its name by a rename, after its bytes were hashed and synced, and never
    changes: a process killed at any point leaves whole entries and files in partial/ that the next
    run resumes or sweeps. No lock guards the entries: two builders that write the same one write
    the same bytes. Entries are read-only, and hashed again the first time a process uses them.
    """

    def __init__(self, root: Path) -> None:
        """Name the folder; it is made when something is first written."""
        self.root = root
        self._unfinished = root / "partial"
        self._verified: dict[str, tuple[int, int, int]] = {}

    def _entry(self, sha256: str) -> Path:
        return self.root / "sha256" / sha256[:2] / sha256

    def _derived(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.root / "derived" / name[:2] / name

    def partial(self, stem: str) -> Partial:
        """Return a new unfinished file in this store. Raises DiskError."""
        partial = Partial(self._unfinished, stem)
        # It tells backups what they may leave out; nothing else needs it.
        tag = self.root / "CACHEDIR.TAG"
        with contextlib.suppress(OSError):
            if not tag.exists():
                tag.write_bytes(CACHEDIR_TAG)
        return partial

    def path(self, digest: Digest) -> Path | None:
        """Return where the entry lies, or None. It only looks: use `verified` to use the bytes."""
        path = self._entry(digest.sha256)
        return path if path.is_file() else None

    def verified(self, digest: Digest, name: str = "") -> Path:
        """Return the entry, hashed once in a process for as long as it is untouched.

        Raises UnreachableError if there is none, and IntegrityError, with the entry dropped, if it
        has come to differ from its name.
        """
        path = self._entry(digest.sha256)
        name = name or f"the entry {digest.sha256[:12]}"
        try:
            before = _identity(path)
            if self._verified.get(digest.sha256) == before:
                return path
            actual = file_sha256(path)
        except FileNotFoundError as error:
            raise UnreachableError(
                f"{name} is not in the store",
                why=f"nothing at {path}",
                next_step="run the fetch command with a network",
            ) from error
        except OSError as error:
            raise disk_error(error, path, purpose=f"{name} in the store") from error
        if actual != digest.sha256:
            remove(path)
            raise not_locked(
                f"the stored copy of {name}",
                actual=actual,
                locked=digest,
                next_step="run the fetch command with a network; the damaged copy was removed",
            )
        self._verified[digest.sha256] = before
        return path

    def held(self, artifact: Artifact, progress: Progress) -> Path | None:
        """Return the verified entry; None where there is none, or it was damaged, which is told."""
        try:
            return self.verified(artifact.digest, artifact.name)
        except UnreachableError:
            return None
        except IntegrityError:
            progress.note(artifact.name, "its stored copy was damaged; fetching it again")
            return None

    def writer(self, digest: Digest, name: str = "") -> Writer:
        """Return a writer for `digest`, begun with what a dead one left. Raises DiskError."""
        writer = Writer(self, digest, name or digest.sha256[:12])
        try:
            for leftover in abandoned(self._unfinished, f"{digest.sha256}.*"):
                if leftover == writer.partial.path:
                    continue
                if not writer.offset:
                    writer.partial.adopt(leftover)
                leftover.unlink(missing_ok=True)
        except OSError as error:
            writer.partial.close(keep=False)
            raise disk_error(error, self.root, purpose=writer.name) from error
        return writer

    def add_bytes(self, data: bytes) -> Digest:
        """Store `data`. Raises DiskError."""
        partial = self.partial("new")
        with (
            disk_errors(self.root, purpose="an entry", needed=len(data)),
            contextlib.closing(partial),
        ):
            partial.write(data)
            digest = Digest(sha256=partial.sha256, size=partial.offset)
            try:
                self.verified(digest)
            except (IntegrityError, UnreachableError):
                self.publish(partial, digest.sha256)
        return digest

    def publish(self, partial: Partial, sha256: str) -> Path:
        """Make `partial`, whose sha256 the caller has compared, an entry. Raises OSError."""
        path = self._entry(sha256)
        partial.publish(path)
        self._verified[sha256] = _identity(path)
        return path

    def note(self, key: str, facts: Mapping[str, Any]) -> None:
        """Keep `facts` as what is known of `key`. Raises DiskError.

        `key` must name everything that decides them: the digests of what they are about, and the
        version of what makes it.
        """
        checked = {"key": key, "facts": facts}
        record = canonical({**checked, "sha256": Digest.of_bytes(canonical(checked)).sha256})
        partial = self.partial("derived")
        with (
            disk_errors(self.root, purpose=key, needed=len(record)),
            contextlib.closing(partial),
        ):
            partial.write(record)
            partial.publish(self._derived(key))

    def noted(self, key: str) -> dict[str, Any] | None:
        """Return what is known of `key`, or None when it must be found out (again)."""
        record = self._derived(key)
        try:
            raw = json.loads(record.read_bytes())
            facts: dict[str, Any] = raw["facts"]
            checked = canonical({"key": key, "facts": facts})
            if raw["sha256"] == Digest.of_bytes(checked).sha256:
                return facts
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        remove(record)
        return None

    def sweep(self) -> int:
        """Remove what dead processes left unfinished, and return how many files that were."""
        count = 0
        for path in abandoned(self._unfinished):
            with contextlib.suppress(OSError):
                path.unlink()
                count += 1
        return count

    def free_bytes(self) -> int:
        """Return how many bytes the store's disk has left."""
        return free_bytes(self.root)


def _identity(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


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

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
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
        require_space(self._store.root, total - self.offset, purpose=self.name)

    def write(self, data: bytes) -> None:
        """Append `data`. Raises DiskError."""
        missing = len(data) if self._needed is None else self._needed - self.offset
        with disk_errors(self._store.root, purpose=self.name, needed=missing):
            self.partial.write(data)

    def restart(self) -> None:
        """Forget what is there."""
        self.partial.restart()

    def commit(self) -> Path:
        """Make the bytes an entry and return it. Raises DiskError.

        Raises WrongBytesError for others than were asked for, and forgets those.
        """
        if not self.is_complete:
            wrong = WrongBytesError(self.partial.sha256)
            self.restart()
            raise wrong
        with disk_errors(self._store.root, purpose=self.name, needed=self.offset):
            return self._store.publish(self.partial, self.digest.sha256)
