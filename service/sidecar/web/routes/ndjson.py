"""Answers to long documents, line by line: JSON objects with a `type` and its `data`.

`progress` while the document is read, then `start`, any number of `chunks`, with `progress` while
they wait for their turn, and `end`; or, at any point after the first line, `problem`. What goes
wrong before the first line is an ordinary answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator

import orjson
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from sidecar.documents.chunking import Chunking
from sidecar.problems import Problem
from sidecar.scheduling.encoder import Embedded
from sidecar.scheduling.tokenizing import Disconnected
from sidecar.web import errors
from sidecar.web.responses import departure, with_vectors
from sidecar.web.routes import Service, service_of
from sidecar.web.schemas import FileOptions

MEDIA_TYPE = "application/x-ndjson"
PROGRESS_S = 1.0
CHUNKS_PER_LINE = 48
log = logging.getLogger("sidecar.ndjson")


class Lines(StreamingResponse):
    """The answer that sends lines as they are made; it ends with the client, as they do."""

    def __init__(self, lines: AsyncGenerator[bytes]) -> None:
        super().__init__(lines, media_type=MEDIA_TYPE)
        self._lines = lines

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send everything; whoever makes the lines listens for the client's leaving."""
        async with contextlib.aclosing(self._lines):
            with contextlib.suppress(OSError):
                await self.stream_response(send)


async def answer(
    request: Request, data: bytes, suffix: str, asked: FileOptions, wanted: Chunking
) -> Lines:
    """Return the answer once its first line is there. Raises Problem for what fails before."""
    lines = _lines(request, data, suffix, asked, wanted)
    first = await anext(lines)

    async def all_of_them() -> AsyncGenerator[bytes]:
        async with contextlib.aclosing(lines):
            yield first
            async for line in lines:
                yield line

    return Lines(all_of_them())


def line(kind: str, data: bytes) -> bytes:
    """Return a line of type `kind` with the JSON in `data`."""
    return b'{"type":"' + kind.encode() + b'","data":' + data + b"}\n"


async def _lines(
    request: Request, data: bytes, suffix: str, asked: FileOptions, wanted: Chunking
) -> AsyncGenerator[bytes]:
    is_begun = False
    try:
        async with departure(request) as disconnected:
            made = _made(service_of(request), data, suffix, asked, wanted, disconnected)
            async with contextlib.aclosing(made):
                async for found in made:
                    yield found
                    is_begun = True
    except Problem as problem:
        if not is_begun:
            raise
        yield line("problem", bytes(errors.response(problem).body))
    except Exception as error:
        if not is_begun:
            raise
        try:
            said = await errors.answer_memory(request, error)
        except Exception:
            log.exception("lines of an answer ended early")
            said = await errors.answer_bug(request, error)
        yield line("problem", bytes(said.body))


async def _made(
    service: Service,
    data: bytes,
    suffix: str,
    asked: FileOptions,
    wanted: Chunking,
    disconnected: Disconnected,
) -> AsyncGenerator[bytes]:
    loaded = service.encoder.ready()
    reading = asyncio.ensure_future(service.read(data, suffix, wanted, disconnected=disconnected))
    try:
        while not (await asyncio.wait({reading}, timeout=PROGRESS_S))[0]:
            yield line("progress", b'{"phase":"reading"}')
        found = reading.result()
    finally:
        reading.cancel()
    total, done = len(found), 0
    start = {
        "pages": found.document.pages,
        "chunks": total,
        **found.said(),
        "model": loaded.snapshot.repository,
        "dim": loaded.engine.dim,
        "fingerprint": loaded.fingerprint(pooling=asked.pooling, normalize=asked.normalize),
    }
    yield line("start", orjson.dumps(start))
    parts = service.encoder.parts(
        found,
        pooling=asked.pooling,
        normalize=asked.normalize,
        disconnected=disconnected,
        is_patient=True,
    )
    steps = _steps(parts)
    async with contextlib.aclosing(parts), contextlib.aclosing(steps):
        async for part in steps:
            if part is None:
                yield line("progress", b'{"phase":"waiting"}')
                continue
            spans = found.spans(part, done)
            for at in range(0, len(spans), CHUNKS_PER_LINE):
                own = slice(at, at + CHUNKS_PER_LINE)
                first, done = done, done + len(spans[own])
                rest = {
                    "first": first,
                    "chunks": found[first:done],
                    "spans": spans[own],
                    "done": done,
                    "total": total,
                }
                rows, encoding = part.rows[own], asked.encoding
                yield line("chunks", await with_vectors(rows, rest.copy, encoding=encoding))
    yield line("end", b"{}")


async def _steps(parts: AsyncGenerator[Embedded]) -> AsyncGenerator[Embedded | None]:
    """Yield what `parts` does, and None for every PROGRESS_S that it takes."""
    is_over = False
    while not is_over:
        step = asyncio.ensure_future(anext(parts, None))
        try:
            while not (await asyncio.wait({step}, timeout=PROGRESS_S))[0]:
                yield None
            part = step.result()
        finally:
            step.cancel()
        is_over = part is None
        if part is not None:
            yield part
