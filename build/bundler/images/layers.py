"""The layers of an image: parts of a bundle as tars, compressed once and kept in the store."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import multiprocessing
import re
import tarfile
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import deflate

from bundler.archive import content, tar_pieces
from bundler.assembly.linkage import version_key
from bundler.atomic import PLAIN, disk_errors
from bundler.bundle import folders_of
from bundler.digests import Digest
from bundler.errors import IntegrityError, PolicyError, UnreachableError, UsageError
from bundler.profiles import WITH_SHELL
from sidecar.manifest import FileEntry
from sidecar.process import cores

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Executor, Future
    from pathlib import Path
    from typing import Self

    from bundler.artifacts.store import Store
    from bundler.console import Progress
    from sidecar.manifest import Manifest

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
        ordered = sorted(self.entries, key=lambda entry: entry.path)
        files = {f"{PLACE}/{entry.path}": entry for entry in ordered}
        # Each layer names all folders: what one is never depends on which layers lie below.
        return tar_pieces(self.root, dict.fromkeys(folders_of(files)) | files, self.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """The layer below the bundle's: a tar of a root file system, taken as it is."""

    path: Path
    digest: Digest
    name: str = "base"

    @property
    def key(self) -> str:
        """What decides the bytes of the layer, and nothing else."""
        return f"image layer {FORMAT}, {self.name}, {self.digest.sha256}"

    @property
    def size(self) -> int:
        """The bytes of the tar."""
        return self.digest.size or 0

    def pieces(self) -> Iterator[bytes]:
        """Yield the tar. Raises VerificationError if it is not what it was."""
        tar = FileEntry(path=self.path.name, mode=PLAIN, size=self.size, sha256=self.digest.sha256)
        return content(self.path.parent, tar)


class Layers:
    """Makes layers, or takes them from `store` if they were made before. A context."""

    def __init__(self, store: Store, progress: Progress) -> None:
        """Keep what is made in `store`, and tell `progress`."""
        self._store = store
        self._progress = progress
        self._processes = min(cores.count(), MOST_PROCESSES)
        # Processes, since the wheel keeps the interpreter's lock while it works; started afresh and
        # not forked, since the caller may have threads. The first starts with the second block.
        self._pool = ProcessPoolExecutor(
            self._processes, mp_context=multiprocessing.get_context("spawn")
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes that compress."""
        self._pool.shutdown(cancel_futures=True)

    def layer(self, part: Part | Foundation) -> Layer:
        """Return the layer of `part`; one that was made before is hashed and not made again.

        Its bytes become an entry of the store before the record that names them does: a run killed
        in between makes them again. Raises VerificationError, DiskError.
        """
        key = f"{part.key}, {compressor()}"
        return self._made(part.name, key) or self._make(part, key)

    def _made(self, name: str, key: str) -> Layer | None:
        made = self._store.noted(key)
        if made is None:
            return None
        with contextlib.suppress(IntegrityError, UnreachableError):
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
        with (
            disk_errors(self._store.root, purpose=f"the layer {part.name}"),
            contextlib.closing(partial),
        ):
            for packed in members(counted(), self._pool, WAITING * self._processes):
                partial.write(packed)
            digest = Digest(sha256=partial.sha256, size=partial.offset)
            path = self._store.publish(partial, digest.sha256)
        diff_id = tar.hexdigest()
        facts = {"diff_id": diff_id, "sha256": digest.sha256, "size": digest.size}
        self._store.note(key, facts)
        self._progress.finish(part.name)
        return Layer(name=part.name, digest=digest, diff_id=diff_id, path=path)


BLOCK_BYTES = 4 << 20
# Of 120 MB of torch, level 1 left 42.7 MB in 1.1 s, 6 left 39.4 in 3.3, and 12 left 38.3 in 50.
LEVEL = 6
WAITING = 3
MOST_PROCESSES = 61  # that Windows can wait for at once


def compressor() -> str:
    """Return everything that decides the compressed bytes of a stream, as one line."""
    return f"gzip by libdeflate (deflate {version('deflate')}) level {LEVEL} block {BLOCK_BYTES}"


def in_blocks(pieces: Iterable[bytes], size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield the bytes of `pieces` again, `size` at a time; the last block may be shorter."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)


def member(block: bytes) -> bytes:
    """Return `block` as one gzip member."""
    return bytes(deflate.gzip_compress(block, LEVEL))


def members(blocks: Iterable[bytes], pool: Executor, most: int) -> Iterator[bytes]:
    """Yield every block's member, in order, made by `pool`; at most so many blocks wait for it.

    One that stands alone is compressed here.
    """
    stream = iter(blocks)
    first, second = next(stream, None), next(stream, None)
    if first is None:
        return
    if second is None:
        yield member(first)
        return
    waiting: deque[Future[bytes]] = deque()
    for block in itertools.chain((first, second), stream):
        waiting.append(pool.submit(member, block))
        if len(waiting) > most:
            yield waiting.popleft().result()
    yield from (one.result() for one in waiting)


LIBC = "libc.so.6"
# What a base with a shell has: Ray starts workers by bash and jobs by sh, KubeRay calls the others.
PROGRAMS = ("bash", "grep", "ray", "sh", "sleep", "wget")
# The machine that an ELF file is for, as its header spells it (elf.h).
MACHINES = {"amd64": 62, "arm64": 183}
_LIBRARY = re.compile(r"lib.+\.so\.\d+")
_SYMBOLS = re.compile(rb"GLIBC_(2\.\d+)\0")


def check_base(path: Path, manifest: Manifest, architecture: str) -> Foundation:
    """Return the tar at `path` as a layer that the bundle of `manifest` can stand on.

    Raises UsageError if it is no tar, and PolicyError if a library of the manifest's floor is not
    in it, too old, or another machine's, or if it lacks a program that the profile wants.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            names = {member.name.rpartition("/")[2]: member for member in tar if not member.isdir()}
            libc = _content_of(tar, names.get(LIBC))
    except (tarfile.TarError, OSError, EOFError, KeyError, RecursionError) as error:
        # The last two: a link that leads nowhere, or to itself.
        raise UsageError(
            f"{path.name} is no base for an image",
            why=f"it must be a tar of a root file system, not compressed ({error})",
            next_step="ci/base makes one",
        ) from error
    wanted = [LIBC, *(name for name in manifest.floor if _LIBRARY.fullmatch(name))]
    wanted += PROGRAMS if manifest.profile in WITH_SHELL else ()
    missing = sorted({name for name in wanted if name not in names})
    if missing:
        raise _unfit_base(path, f"it has no {', '.join(missing)}")
    if int.from_bytes(libc[18:20], "little") != MACHINES[architecture]:
        raise _unfit_base(path, f"it is not for {architecture}")
    newest = max((found.decode() for found in _SYMBOLS.findall(libc)), key=version_key, default="")
    floor = manifest.floor.get("glibc", "")
    if version_key(newest) < version_key(floor):
        raise _unfit_base(
            path, f"its C library has the symbols of {newest}, the bundle wants {floor}"
        )
    return Foundation(path=path, digest=Digest.of_file(path))


def _content_of(tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> bytes:
    """Return a file's bytes; a link's are those of what it leads to."""
    stream = tar.extractfile(member) if member else None
    return stream.read() if stream else b""


def _unfit_base(path: Path, why: str) -> PolicyError:
    return PolicyError(
        f"this bundle cannot run on {path.name}",
        why=why,
        next_step="ci/base makes one: --suite NAME from a newer release, ARCH for another machine, "
        "--shell for the profile cluster",
    )
