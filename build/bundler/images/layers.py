"""The layers of an image: parts of a bundle as tars, compressed once and kept in the store."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.archive import tar_header
from bundler.atomic import EXECUTABLE, PLAIN, disk_error
from bundler.digests import Digest
from bundler.errors import IntegrityError, UnreachableError, VerificationError
from bundler.images.blocks import Compressors, compressor, in_blocks
from sidecar.manifest import CHUNK_BYTES, canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import Self

    from bundler.artifacts.store import Store
    from bundler.console import Progress
    from sidecar.manifest import FileEntry

# Where a bundle lies in an image, as the names of a tar spell it.
PLACE = "opt/sidecar"
# Goes into every key: a change of how layers are written is a change of this number.
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer: the digest of its compressed bytes and where they lie; `diff_id` is the tar's."""

    name: str
    digest: Digest
    diff_id: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What goes into one layer: the files `entries` below the bundle `root`, dated `epoch`.

    `identity` is a digest that decides the entries.
    """

    name: str
    identity: str
    root: Path
    entries: tuple[FileEntry, ...]
    epoch: int

    @property
    def key(self) -> str:
        """What decides the bytes of the layer, and nothing else."""
        return f"image layer {FORMAT}, {PLACE}, {self.epoch}, {self.name}, {self.identity}"

    @property
    def size(self) -> int:
        """The bytes of its files."""
        return sum(entry.size for entry in self.entries)

    def pieces(self) -> Iterator[bytes]:
        """Yield the tar: every folder, then every file, by path; owned by 0, dated `epoch`.

        A file is hashed while it is read. Raises VerificationError if it is not the listed one.
        """
        paths = [f"{PLACE}/{entry.path}" for entry in self.entries]
        for folder in _folders(paths):
            yield _packed(tar_header(folder, self.epoch))
        for entry in sorted(self.entries, key=lambda entry: entry.path):
            mode = EXECUTABLE if entry.mode & 0o100 else PLAIN
            name = f"{PLACE}/{entry.path}"
            yield _packed(tar_header(name, self.epoch, size=entry.size, mode=mode))
            yield from _content(self.root, entry)
            yield b"\0" * (-entry.size % tarfile.BLOCKSIZE)
        yield b"\0" * (2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """The layer below the bundle's: a tar of a root file system, taken as it is."""

    path: Path
    identity: str
    name: str = "base"

    @property
    def key(self) -> str:
        """What decides the bytes of the layer, and nothing else."""
        return f"image layer {FORMAT}, {self.name}, {self.identity}"

    @property
    def size(self) -> int:
        """The bytes of the tar."""
        return self.path.stat().st_size

    def pieces(self) -> Iterator[bytes]:
        """Yield the tar. Raises VerificationError if it is not what it was."""
        digest = hashlib.sha256()
        with self.path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                yield chunk
        if digest.hexdigest() != self.identity:
            raise _changed(self.path.name, digest.hexdigest())


class Layers:
    """Makes layers, or takes them from `store` if they were made before. A context."""

    def __init__(self, store: Store, progress: Progress, *, processes: int | None = None) -> None:
        """Keep what is made in `store`, and tell `progress`."""
        self._store = store
        self._progress = progress
        self._compressors = Compressors(processes)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes that compress."""
        self._compressors.close()

    def layer(self, part: Part | Foundation) -> Layer:
        """Return the layer of `part`; one that was made before is hashed and not made again.

        Its bytes become an entry of the store before the record that names them does: a run killed
        in between makes them again. Raises VerificationError, DiskError.
        """
        key = f"{part.key}, {compressor()}"
        return self._made(part.name, key) or self._make(part, key)

    def _made(self, name: str, key: str) -> Layer | None:
        record = self._store.derived(key)
        if record is None:
            return None
        with contextlib.suppress(IntegrityError, UnreachableError):
            made = json.loads(record.read_bytes())
            digest = Digest(sha256=made["sha256"], size=made["size"])
            path = self._store.verified(digest, f"the layer {name}")
            return Layer(name=name, digest=digest, diff_id=made["diff_id"], path=path)
        return None

    def _make(self, part: Part | Foundation, key: str) -> Layer:
        self._progress.start(part.name, part.size)
        tar = hashlib.sha256()

        def counted() -> Iterator[bytes]:
            for block in in_blocks(part.pieces()):
                tar.update(block)
                self._progress.advance(part.name, len(block))
                yield block

        partial = self._store.partial("layer")
        try:
            for packed in self._compressors.members(counted()):
                partial.write(packed)
            digest = Digest(sha256=partial.sha256, size=partial.offset)
            path = self._store.publish(partial, digest.sha256)
        except OSError as error:
            raise disk_error(error, self._store.root, purpose=f"the layer {part.name}") from error
        finally:
            partial.close(keep=False)
        diff_id = tar.hexdigest()
        record = canonical({"diff_id": diff_id, "sha256": digest.sha256, "size": digest.size})
        self._store.put_derived(key, self._store.verified(self._store.add_bytes(record)))
        self._progress.finish(part.name)
        return Layer(name=part.name, digest=digest, diff_id=diff_id, path=path)


def _folders(paths: Iterable[str]) -> list[str]:
    """Return every folder that `paths` lie in, parents first.

    Each layer names them all: what a folder is never depends on which layers lie below.
    """
    found: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return sorted(found)


def _packed(header: tarfile.TarInfo) -> bytes:
    return header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _content(root: Path, entry: FileEntry) -> Iterator[bytes]:
    digest = hashlib.sha256()
    size = 0
    try:
        with (root / entry.path).open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                if size > entry.size:
                    break
                yield chunk
    except OSError as error:
        raise VerificationError(
            f"{entry.path} of the bundle cannot be read",
            why=error.strerror or str(error),
            next_step="python3 build assemble puts it right",
        ) from error
    if size != entry.size or digest.hexdigest() != entry.sha256:
        raise _changed(entry.path, digest.hexdigest())


def _changed(name: str, sha256: str) -> VerificationError:
    return VerificationError(
        f"{name} is not what the manifest says",
        why=f"read for the image, its sha256 was {sha256}",
        next_step="let nothing write there; python3 build assemble puts a bundle right",
    )
