"""Folders of documents, read and divided as /embed-file does, into a row for each chunk."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import hashlib
import itertools
import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pyarrow as pa

from sidecar.batch.inputs import PACKED, Block, kind_of
from sidecar.documents import chunking
from sidecar.documents.allowed_dirs import AllowedDirs
from sidecar.documents.chunking import Chunking, Chunks
from sidecar.documents.extraction import SUFFIXES
from sidecar.documents.pdf_pool import PROCESSES, PdfPool
from sidecar.errors import DiskError, ModelError, UsageError
from sidecar.models.loader import Loaded
from sidecar.problems import Problem
from sidecar.process.clock import Clock
from sidecar.scheduling.encoder import Encoder
from sidecar.settings import Settings

# So many documents are read at a time: PDFs each in a process of its own.
AT_ONCE = 2 * PROCESSES
NO_CHUNKS = "document-empty"
CHANGED = "file-changed"
# What the machine lacks while it reads a document, which is nothing to say of that for ever.
LACKING = {"bundle-gone", "busy", "engine-died", "engine-fails", "out-of-memory", "system-limit"}
# The same of a file that could be read at the start.
AWAY = {"disk-error", "folder-missing", "no-permission"}
AGAIN = "see to it, and run the command again: it goes on"
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "text": pa.large_string(),
        "problem": pa.string(),
        "chunk": pa.int32(),
        "page": pa.int32(),
        "start": pa.int64(),
        "end": pa.int64(),
        "losses": pa.string(),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """The bytes of a file, or the kind of the problem that kept them from being read."""

    name: str
    suffix: str = ""
    data: bytes | None = None
    problem: str | None = None


# Of a row: the place of its document among all.
ITEM = "item"
# Documents as a table, which is what goes from one node to another.
FILES = pa.schema(
    {"name": pa.string(), "suffix": pa.string(), "data": pa.large_binary(), "problem": pa.string()}
)


def table_of(document: FileContent) -> pa.Table:
    """Return a document as a table of one row."""
    return pa.Table.from_pylist([dataclasses.asdict(document)], schema=FILES)


def documents_of(table: pa.Table) -> Iterator[FileContent]:
    """Yield the documents of a table."""
    for row in table.select(FILES.names).to_batches(max_chunksize=1):
        yield FileContent(**row.to_pylist()[0])


def by_item(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield the rows of each document apart, however many tables they come in."""
    held: list[pa.Table] = []
    for table in tables:
        items = table.column(ITEM).to_numpy()
        ends = [*(items[1:] != items[:-1]).nonzero()[0] + 1, len(items)]
        for start, end in itertools.pairwise([0, *ends]):
            piece = table.slice(start, end - start)
            if held and held[-1].column(ITEM)[0] != piece.column(ITEM)[0]:
                yield pa.concat_tables(held)
                held = []
            held.append(piece)
    if held:
        yield pa.concat_tables(held)


class Folders:
    """Finds the PDF, text and Markdown files below folders, in the order of their paths."""

    def __init__(self, folders: Sequence[Path], *, max_bytes: int) -> None:
        """Read every file once, for its digest. Raises UsageError if there is none."""
        self._roots = tuple(folder.resolve() for folder in folders)
        self._identities = list(map(_identity, self._roots))
        names = _names(folders)
        self._files: list[tuple[Path, str]] = []  # and the name that its rows have
        self._max_bytes, self._first = max_bytes, 0
        others, links = [], 0
        for folder, root in zip(names, self._roots, strict=True):
            found, left = _files_below(root)
            links += left
            for path in found:
                if path.suffix.lower() not in SUFFIXES:
                    others.append(path.relative_to(root))
                    continue
                name = path.relative_to(root).as_posix()
                several = len(folders) > 1
                self._files.append((path, f"{folder}/{name}" if several else name))
        if not self._files:
            what = f"there are no documents in {folders[0]}"
            why = f"documents are {', '.join(SUFFIXES)}; {len(others)} other files are there"
            why += f", and {links} links, which are not followed" if links else ""
            pattern = next(filter(None, map(_pattern, others)), "*.parquet")
            step = f"name the files of rows themselves: {folders[0]}/{pattern}"
            raise UsageError(what, why=why, next_step=step)
        self._digests = [_digest(path) for path, _ in self._files]
        whole = hashlib.sha256()
        for (_, name), digest in zip(self._files, self._digests, strict=True):
            whole.update(json.dumps([name, digest]).encode())
        self.facts: list[dict[str, object]] = [
            {
                "path": ", ".join(map(str, folders)),
                "documents": len(self._files),
                "other_files": len(others),
                "links": links,
                "sha256": whole.hexdigest(),
            }
        ]

    def __len__(self) -> int:
        """Return how many documents there are."""
        return len(self._files)

    def summary(self) -> str:
        """Return how many there are, and what is left out."""
        (fact,) = self.facts
        counts = (("other_files", "other files"), ("links", "links"))
        left = ", ".join(f"{fact[key]:,} {word}" for key, word in counts if fact[key])
        return f"{len(self):,} documents" + (f"; left out: {left}" if left else "")

    def part(self, first: int, count: int) -> Folders:
        """Return the same with `count` documents alone, from `first` on."""
        made = copy.copy(self)
        made._files = self._files[first : first + count]  # noqa: SLF001 (its own class)
        made._digests = self._digests[first : first + count]  # noqa: SLF001
        made._first = self._first + first  # noqa: SLF001
        made.facts = []
        return made

    def tables(self) -> Iterator[pa.Table]:
        """Yield the documents as tables, with their places in the part."""
        for item, document in enumerate(self.read()):
            yield table_of(document).append_column(ITEM, pa.array([self._first + item]))

    def read(self) -> Iterator[FileContent]:
        """Yield the documents. Raises DiskError where they were lost with their folder or disk."""
        allowed = AllowedDirs(self._roots)
        for (path, name), digest in zip(self._files, self._digests, strict=True):
            try:
                file = allowed.read(str(path), max_bytes=self._max_bytes)
            except Problem as problem:
                if digest is not None and self._is_away():
                    why = "the folder is not there, or another one is in its place"
                    raise _unread(path, why) from problem
                if digest is not None and problem.kind in AWAY:
                    raise _unread(path, problem.why or problem.what) from problem
                yield FileContent(name=name, problem=problem.kind)
                continue
            except OSError as error:  # of a limit of the system
                raise _unread(path, error.strerror or "") from error
            if hashlib.sha256(file.data).hexdigest() != digest:
                yield FileContent(name=name, problem=CHANGED)
            else:
                yield FileContent(name=name, suffix=file.suffix, data=file.data)

    def _is_away(self) -> bool:
        """Return whether a folder is not there, or another one, as where a share was."""
        return list(map(_identity, self._roots)) != self._identities


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what tells a folder from another one under its name; None if it is not there."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _unread(path: Path, why: str) -> DiskError:
    return DiskError(f"{path} cannot be read any more", why=why, next_step=AGAIN)


class Chunker:
    """Divides documents into chunks.

    To be used on the thread that ends last, as Linux ends processes with the thread that started
    them, and closed.
    """

    def __init__(self, settings: Settings, loaded: Loaded, wanted: Chunking) -> None:
        """Start what reads."""
        self._limits, self._wanted = settings.limits, wanted
        self._runner = asyncio.Runner()
        self._clock = Clock()
        self._pool = PdfPool(settings.limits, clock=self._clock)
        self._encoder = Encoder(lambda _: loaded, limits=settings.limits)
        self._runner.run(self._begin())

    async def _begin(self) -> None:
        self._clock.run()
        await self._encoder.start()

    def close(self) -> None:
        """End what reads."""
        self._pool.close()
        self._encoder.close()
        self._runner.close()

    def blocks(self, documents: Iterable[FileContent]) -> Iterator[Block]:
        """Yield the chunks of `documents`, those of one together. Raises ModelError."""
        left = iter(documents)
        while some := list(itertools.islice(left, AT_ONCE)):
            yield from self._runner.run(self._together(some))

    async def _together(self, documents: Sequence[FileContent]) -> list[Block]:
        return await asyncio.gather(*map(self._chunks, documents))

    async def _chunks(self, document: FileContent) -> Block:
        name = document.name
        if document.data is None:
            return _block([_row(name, problem=document.problem)])
        try:
            never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            found = await chunking.read(
                document.data,
                document.suffix,
                self._wanted,
                encoder=self._encoder,
                model=self._encoder.named(None),
                pdf_pool=self._pool,
                limits=self._limits,
                disconnected=never,
            )
        except Problem as problem:
            if problem.kind in LACKING:
                raise ModelError(problem.what, why=problem.why, next_step=AGAIN) from problem
            return _block([_row(name, problem=problem.kind)])
        if not found:
            return _block([_row(name, problem=NO_CHUNKS, losses=_losses(found))])
        return _block(list(_rows(name, found)))


class Documents:
    """Reads documents and divides them, in one process."""

    is_by_row = False

    def __init__(self, folders: Folders, chunker: Chunker) -> None:
        """Read `folders` by `chunker`."""
        self._folders, self._chunker = folders, chunker
        self.total, self.facts = len(folders), folders.facts

    def blocks(self, first: int) -> Iterator[Block]:
        """Yield the chunks of the documents from `first` on, those of one together."""
        rest = self._folders.part(first, self.total)
        return self._chunker.blocks(rest.read())


def _rows(name: str, found: Chunks) -> Iterator[dict[str, object]]:
    losses = _losses(found)
    for number, (start, end) in enumerate(found.places):
        row = _row(name, losses=losses)
        page = found.document.page_at(start)
        row |= {"text": found[number], "chunk": number, "page": page, "start": start, "end": end}
        yield row


def _row(name: str, *, problem: str | None = None, losses: str | None = None) -> dict[str, object]:
    readable = name.encode("utf-8", "backslashreplace").decode()
    return {"id": readable, "problem": problem, "losses": losses}


def _block(rows: list[dict[str, object]]) -> Block:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    return Block(items=1, table=table, is_divisible=False)


def _losses(found: Chunks) -> str | None:
    """Return what the document has and its chunks lack, as /embed-file answers it; None if none."""
    losses = [loss.as_json() for loss in found.losses]
    return orjson.dumps(losses).decode() if losses else None


def _digest(path: Path) -> str | None:
    """Return the sha256 of a file, None where it cannot be read: its row says so."""
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return None


def _names(folders: Sequence[Path]) -> Sequence[str]:
    """Return what folders are called. Raises UsageError for two whose names are the same."""
    names = [Path(os.path.abspath(folder)).name for folder in folders]  # noqa: PTH100 (links stay)
    for place, name in enumerate(names):
        if name in names[:place]:
            what = f"{folders[names.index(name)]} and {folders[place]} have one name"
            why = "of several folders, a document is known by its folder's name and its path there"
            raise UsageError(what, why=why, next_step="embed each to an output of its own")
    return names


def _pattern(file: Path) -> str | None:
    """Return what the shell finds files of rows by that lie as `file` does, None if it has none."""
    try:
        kind_of(file)
    except UsageError:
        return None
    ending = f"*{''.join(file.suffixes[-2:]) if file.suffix in PACKED else file.suffix}"
    return "/".join([*("*" for _ in file.parent.parts), ending])


def _files_below(root: Path) -> tuple[list[Path], int]:
    """Return the regular files below `root` in the order of their paths, and how many links.

    Hidden ones are left out. Links are not followed: they may lead out of the folder, and around in
    it. Raises DiskError.
    """
    found: list[Path] = []
    links = 0
    try:
        for place, folders, names in os.walk(root, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            links += sum(Path(place, name).is_symlink() for name in folders)
            for path in (Path(place, name) for name in names if not name.startswith(".")):
                mode = path.lstat().st_mode
                links += stat.S_ISLNK(mode)
                if stat.S_ISREG(mode):
                    found.append(path)
    except OSError as error:
        what = f"{root} cannot be read"
        why = error.strerror or ""
        raise DiskError(what, why=why, next_step="let this user read all that is in it") from error
    return sorted(found, key=lambda path: path.relative_to(root).parts), links


def _raise(error: OSError) -> None:
    raise error
