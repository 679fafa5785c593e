"""Documents to chunks and their vectors: from an allowed folder, or carried by the request.

Answers to long ones may be read line by line: JSON objects with a `type` and its `data`. They are
`progress` while the document is read, then `start`, any number of `chunks`, with `progress` while
they wait for their turn, and `end`; or, at any point after the first line, `problem`. What goes
wrong before the first line is an ordinary answer.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from email.message import Message
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from sidecar.documents import chunking, extraction
from sidecar.documents.chunking import Chunking, Chunks
from sidecar.models.loader import Loaded, Space
from sidecar.problems import Problem
from sidecar.scheduling.served import ServedModel
from sidecar.scheduling.tokenizing import Disconnected
from sidecar.web import bodies, errors, responses, schemas
from sidecar.web.budget import share_of
from sidecar.web.routes import RequestRoute, Service, from_drive, in_use, service_of

Read = Callable[[Chunking, Disconnected], Coroutine[Any, Any, Chunks]]
log = logging.getLogger("sidecar.files")
router = APIRouter(route_class=RequestRoute)
MAX_BODY_BYTES = 1 << 16  # of a path and options: the longest path that systems open is half of it
LINES = "application/x-ndjson"
PROGRESS_S = 1.0
CHUNKS_PER_LINE = 48
HEADER = "X-Document-Password"
ANSWER = {"model": schemas.EmbedFileAnswer, "content": {LINES: {}}}


@router.post(
    "/embed-file",
    openapi_extra=responses.body_of(schemas.EmbedFileRequest),
    responses={
        200: ANSWER,
        **responses.problem_responses(400, 403, 404, 409, 413, 415, 422, 429, 503, 507),
    },
)
async def embed_file(request: Request) -> Response:
    """Cut a document from an allowed folder into chunks and embed them."""
    service = service_of(request)
    service.encoder.ready()
    service.encoder.require_room()
    limits = service.settings.limits
    bodies.kind_of(request)
    what = "the body, which is to hold a path and options alone,"
    instead, most = "send the document itself to /embed-file/upload", MAX_BODY_BYTES
    body = await bodies.collect(request, what, max_bytes=most, next_step=instead)
    asked = await responses.validated(body, schemas.EmbedFileRequest)
    model = service.encoder.named(asked.model)
    await _check(service, model, asked)
    find = partial(service.allowed_dirs.read, asked.path, max_bytes=limits.max_file_bytes)
    file = await from_drive(request, find)
    share_of(request).take(len(file.data))
    return await _answer(request, file.data, file.suffix, asked, model)


@router.post(
    "/embed-file/upload",
    openapi_extra={
        "parameters": [*responses.query_of(schemas.FileOptions), schemas.PASSWORD_HEADER],
        "requestBody": {
            "required": True,
            "content": {
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in extraction.MEDIA_TYPES
            },
        },
    },
    responses={
        200: ANSWER,
        # The longest prompt may be too long for a query, and 431.
        **responses.problem_responses(400, 404, 413, 415, 422, 429, 431, 503, 507),
    },
)
async def upload(request: Request) -> Response:
    """Cut the document that is the body into chunks and embed them; no folder need be allowed."""
    service = service_of(request)
    service.encoder.ready()
    service.encoder.require_room()
    suffix = extraction.MEDIA_TYPES[bodies.kind_of(request, extraction.MEDIA_TYPES)]
    if suffix == ".pdf":
        service.pdf_pool.require_room()
    options = _options(request)
    asked = schemas.validate(options, schemas.FileOptions, is_spelled=True)
    model = service.encoder.named(asked.model)
    await _check(service, model, asked)
    instead, most = "split it, or send its text alone", service.settings.limits.max_file_bytes
    data = await bodies.collect(request, "the document", max_bytes=most, next_step=instead)
    return await _answer(request, data, suffix, asked, model)


async def _check(service: Service, model: ServedModel, asked: schemas.FileOptions) -> None:
    """Raise Problem 422 for what is refused without the document, if the model can tell now."""
    if model.is_open:
        async with service.encoder.using(model) as loaded:
            await _wanted(service, model, loaded, asked)


async def _wanted(
    service: Service, model: ServedModel, loaded: Loaded, asked: schemas.FileOptions
) -> tuple[Chunking, Space]:
    """Return how the document is divided, and what its vectors are of. Raises Problem 422."""
    prompt = loaded.prompts.choose(
        name=asked.prompt_name, text=asked.prompt, input_type=asked.input_type
    )
    starts, _ = await service.encoder.spans(prompt, model=model)
    chunking = asked.chunking(loaded.engine, prompt_tokens=len(starts))
    width = loaded.width(asked.dimensions)
    return chunking, Space(asked.pooling, asked.normalize, prompt, width)


async def _answer(
    request: Request,
    data: bytes,
    suffix: str,
    asked: schemas.FileOptions,
    model: ServedModel,
) -> Response:
    service = service_of(request)

    def read(wanted: Chunking, disconnected: Disconnected) -> Coroutine[Any, Any, Chunks]:
        """Read the document and divide it, until `disconnected` is done. Raises Problem."""
        work = chunking.read(
            data,
            suffix,
            wanted,
            encoder=service.encoder,
            model=model,
            pdf_pool=service.pdf_pool,
            limits=service.settings.limits,
            disconnected=disconnected,
        )
        return service.encoder.while_wanted(work, disconnected=disconnected)

    if responses.prefers(request, LINES):
        lines = _lines(request, asked, model, read)
        return Lines(await anext(lines), lines)  # what fails before the first is raised
    async with in_use(request, model) as (loaded, disconnected):
        wanted, space = await _wanted(service, model, loaded, asked)
        dim = space.width or loaded.engine.dim
        chunks = await read(wanted, disconnected)
        size = responses.size_of(len(chunks), dim, encoding=asked.encoding)
        share_of(request).expect(sum(chunks.lengths) + size)
        found = await service.encoder.embed(chunks, space, model=model, disconnected=disconnected)

    def rest() -> dict[str, object]:
        return {
            "chunks": chunks[:],
            "spans": chunks.spans(found),
            **chunks.said(),
            "model": loaded.snapshot.repository,
            "dim": dim,
            "fingerprint": found.fingerprint,
        }

    made = await responses.with_vectors(found.rows, rest, encoding=asked.encoding)
    return responses.json_response(made)


def _options(request: Request) -> dict[str, str]:
    """Return the options of an upload: those in the query, and what its headers say beside.

    Raises Problem 422 for one that is given twice, or a password where it would be seen.
    """
    query = request.query_params.multi_items()
    found = dict(query)
    if len(found) != len(query):
        what = "the query has an option twice"
        raise Problem("bad-value", what)
    if any(name.lower() in {"password", HEADER.lower()} for name in found):
        what = "password: it is not taken from the query"
        why = "proxies log addresses with their queries"
        step = f"send the header {HEADER}: the password's UTF-8 in base64"
        raise Problem("bad-value", what, why, step)
    charset, password = _charset_of(request), _password_of(request)
    told = {"charset": charset, **found, "password": password}
    return {name: value for name, value in told.items() if value is not None}


def _password_of(request: Request) -> str | None:
    """Return the password in the headers. Raises Problem 422 unless it is base64 of UTF-8, once."""
    sent = request.headers.getlist(HEADER)
    if not sent:
        return None
    try:
        (only,) = sent
        return base64.b64decode(only, validate=True).decode("utf-8")
    except ValueError:
        # No cause: what is wrong with it would say some of it.
        step = "send the password's UTF-8 in base64, in one header"
        raise Problem("bad-value", f"{HEADER}: it is not base64 of UTF-8", "", step) from None


def _charset_of(request: Request) -> str | None:
    """Return what the body's type says that it is encoded in, if it is text and says so.

    Raises Problem 422 for a name that cannot be read.
    """
    declared = Message()
    declared["Content-Type"] = request.headers.get("content-type", "")
    if declared.get_content_maintype() != "text":
        return None
    try:
        return declared.get_content_charset() or None
    except ValueError:  # of an encoded name (RFC 2231), whose own encoding has a NUL in its name
        what, step = "charset: its name cannot be read", "send the header with charset=NAME"
        raise Problem("bad-value", what, next_step=step) from None


class Lines(StreamingResponse):
    """The answer that sends lines as they are made; it ends with the client, as they do."""

    def __init__(self, first: bytes, others: AsyncGenerator[bytes]) -> None:
        async def lines() -> AsyncGenerator[bytes]:
            yield first
            async for other in others:
                yield other

        super().__init__(lines(), media_type=LINES)
        self._others = others

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send everything; what makes the lines watches for a client that leaves."""
        async with contextlib.aclosing(self._others):
            with contextlib.suppress(OSError):
                await self.stream_response(send)


def line(kind: str, data: bytes) -> bytes:
    """Return a line of type `kind` with the JSON in `data`."""
    return b'{"type":"' + kind.encode() + b'","data":' + data + b"}\n"


async def _lines(
    request: Request, asked: schemas.FileOptions, model: ServedModel, read: Read
) -> AsyncGenerator[bytes]:
    is_begun = False
    try:
        async with in_use(request, model) as (loaded, disconnected):
            service = service_of(request)
            wanted, space = await _wanted(service, model, loaded, asked)
            reading = read(wanted, disconnected)
            made = _made(service, asked, model, space, reading, disconnected)
            async with contextlib.aclosing(made):
                async for found in made:
                    yield found
                    is_begun = True
    except Exception as error:
        if not is_begun:
            raise
        problem = errors.known(error)
        if problem is None:
            log.exception("lines of an answer ended early")
            problem = errors.bug(request, error)
        yield line("problem", bytes(errors.ProblemResponse(problem).body))


async def _made(
    service: Service,
    asked: schemas.FileOptions,
    model: ServedModel,
    space: Space,
    read: Coroutine[Any, Any, Chunks],
    disconnected: Disconnected,
) -> AsyncGenerator[bytes]:
    loaded = model.loaded
    reading = asyncio.ensure_future(read)
    async with contextlib.aclosing(_waits(reading)) as waits:
        async for _ in waits:
            yield line("progress", b'{"phase":"reading"}')
    found = reading.result()
    total, done = len(found), 0
    start = {
        "pages": found.document.pages,
        "chunks": total,
        **found.said(),
        "model": loaded.snapshot.repository,
        "dim": space.width or loaded.engine.dim,
        "fingerprint": loaded.fingerprint(space),
    }
    yield line("start", orjson.dumps(start))
    parts = service.encoder.parts(
        found, space, model=model, disconnected=disconnected, is_patient=True
    )
    async with contextlib.aclosing(parts):
        while True:
            step = asyncio.ensure_future(anext(parts, None))
            async with contextlib.aclosing(_waits(step)) as waits:
                async for _ in waits:
                    yield line("progress", b'{"phase":"waiting"}')
            part = step.result()
            if part is None:
                break
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
                made = await responses.with_vectors(rows, rest.copy, encoding=encoding)
                yield line("chunks", made)
    yield line("end", b"{}")


async def _waits(step: asyncio.Future[Any]) -> AsyncGenerator[None]:
    """Yield for every PROGRESS_S that `step` takes; it is cancelled, and over, with who waits."""
    try:
        while not (await asyncio.wait({step}, timeout=PROGRESS_S))[0]:
            yield
    finally:
        if step.cancel():
            await asyncio.wait({step})  # what it was a step of can be closed then
