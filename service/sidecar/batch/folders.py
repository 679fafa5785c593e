"""Folders of documents, read and divided as /embed-file does, into a row for each chunk."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
import pyarrow as pa

from sidecar.batch.inputs import Block
from sidecar.documents import chunking
from sidecar.documents.allowed_dirs import AllowedDirs
from sidecar.documents.chunking import Chunking, Chunks
from sidecar.documents.extraction import SUFFIXES
from sidecar.documents.pdf_pool import PROCESSES, PdfPool
from sidecar.errors import DiskError, UsageError
from sidecar.models.loader import Loaded
from sidecar.problems import Problem
from sidecar.process.clock import Clock
from sidecar.scheduling.encoder import Encoder
from sidecar.settings import Settings

# So many documents are read at a time: PDFs each in a process of its own.
AT_ONCE = 2 * PROCESSES
NO_CHUNKS = "document-empty"
CHANGED = "file-changed"
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


class Documents:
    """Reads the PDF, text and Markdown files below folders, in the order of their paths.

    To be used on the thread that ends last, as Linux ends processes with the thread that started
    them, and closed.
    """

    is_by_row = False

    def __init__(
        self, folders: Sequence[Path], *, settings: Settings, loaded: Loaded, wanted: Chunking
    ) -> None:
        """Read every file once, for its digest. Raises UsageError if there is none."""
        self._settings, self._loaded, self._wanted = settings, loaded, wanted
        self._roots = tuple(folder.resolve() for folder in folders)
        self._files: list[tuple[Path, str]] = []  # and the name that its rows have
        others = 0
        for folder, root in zip(folders, self._roots, strict=True):
            for path in _files_below(root):
                if path.suffix.lower() not in SUFFIXES:
                    others += 1
                    continue
                name = path.relative_to(root).as_posix()
                several = len(folders) > 1
                self._files.append((path, f"{folder.name}/{name}" if several else name))
        if not self._files:
            what = f"there are no documents in {folders[0]}"
            why = f"documents are {', '.join(SUFFIXES)}; {others} other files are there"
            step = f"name the files of rows themselves: {folders[0]}/*.parquet"
            raise UsageError(what, why=why, next_step=step)
        self.total = len(self._files)
        self._digests = [_digest(path) for path, _ in self._files]
        whole = hashlib.sha256()
        for (_, name), digest in zip(self._files, self._digests, strict=True):
            whole.update(json.dumps([name, digest]).encode())
        self.facts: list[dict[str, object]] = [
            {
                "path": ", ".join(map(str, folders)),
                "documents": self.total,
                "other_files": others,
                "sha256": whole.hexdigest(),
            }
        ]
        self._runner = asyncio.Runner()
        self._allowed = AllowedDirs(self._roots)
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

    def blocks(self, first: int) -> Iterator[Block]:
        """Yield the chunks of the documents from `first` on, those of one together."""
        for start in range(first, self.total, AT_ONCE):
            some = range(start, min(start + AT_ONCE, self.total))
            yield from self._runner.run(self._some(some))

    async def _some(self, places: Sequence[int]) -> list[Block]:
        return await asyncio.gather(*map(self._read, places))

    async def _read(self, place: int) -> Block:
        path, name = self._files[place]
        try:
            file = self._allowed.read(str(path), max_bytes=self._settings.limits.max_file_bytes)
            if hashlib.sha256(file.data).hexdigest() != self._digests[place]:
                return _block([_row(name, problem=CHANGED)])
            never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            found = await chunking.read(
                file.data,
                file.suffix,
                self._wanted,
                encoder=self._encoder,
                model=self._encoder.named(None),
                pdf_pool=self._pool,
                limits=self._settings.limits,
                disconnected=never,
            )
        except Problem as problem:
            return _block([_row(name, problem=problem.kind)])
        if not found:
            return _block([_row(name, problem=NO_CHUNKS, losses=_losses(found))])
        return _block(list(_rows(name, found)))


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


def _files_below(root: Path) -> list[Path]:
    """Return the regular files below `root` in the order of their paths, hidden ones left out.

    Links are not followed: they may lead out of the folder, and around in it. Raises DiskError.
    """
    found: list[Path] = []
    try:
        for place, folders, names in os.walk(root, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            paths = [Path(place, name) for name in names if not name.startswith(".")]
            found += [path for path in paths if stat.S_ISREG(path.lstat().st_mode)]
    except OSError as error:
        what = f"{root} cannot be read"
        why = error.strerror or ""
        raise DiskError(what, why=why, next_step="let this user read all that is in it") from error
    return sorted(found, key=lambda path: path.relative_to(root).parts)


def _raise(error: OSError) -> None:
    raise error
