"""The five routes of the v1 API and what was added beside its fields."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from sidecar import __version__, bodies, documents, schemas, vectors
from sidecar.encoder import Embedded, Encoder, Gone
from sidecar.engines import Vectors
from sidecar.roots import Roots
from sidecar.settings import Settings

router = APIRouter()
BINARY = "application/octet-stream"
DOCUMENT_READERS = 2
INLINE_VALUES = 1 << 14
LARGE_BODY = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the routes work with; one per app, in `app.state.service`."""

    settings: Settings
    encoder: Encoder
    roots: Roots
    instance: str
    request_stop: Callable[[], None]
    readers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(DOCUMENT_READERS))


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


@contextlib.asynccontextmanager
async def _departure(request: Request) -> AsyncIterator[Gone]:
    """Yield what is done once the client has left; to be used when the body has been read."""

    async def listen() -> None:
        message: dict[str, Any] = {}
        while message.get("type") != "http.disconnect":
            message = dict(await request.receive())

    task = asyncio.create_task(listen())
    try:
        yield task
    finally:
        task.cancel()


async def _validated(kind: type[schemas.Request], body: bytes) -> schemas.Request:
    def read() -> schemas.Request:
        return schemas.validate(kind, bodies.parse(body))

    return read() if len(body) < LARGE_BODY else await asyncio.to_thread(read)


def _json(value: object, status: int = HTTPStatus.OK) -> Response:
    return Response(orjson.dumps(value), status_code=status, media_type="application/json")


async def _with_vectors(rows: Vectors, rest: dict[str, object], *, encoding: str) -> Response:
    def build() -> bytes:
        write = vectors.as_base64_json if encoding == "base64" else vectors.as_json
        return b'{"vectors":' + write(rows) + b"," + orjson.dumps(rest)[1:]

    # To change threads takes longer than to write a few rows.
    is_small = rows.size <= INLINE_VALUES
    body = build() if is_small else await asyncio.to_thread(build)
    return Response(body, media_type="application/json")


def _body(kind: type[schemas.Wire]) -> dict[str, Any]:
    schema = kind.model_json_schema()
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    }


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": schemas.ProblemAnswer} for status in statuses}


@router.get(
    "/health",
    responses={
        200: {"model": schemas.HealthAnswer},
        503: {"model": schemas.HealthAnswer},
    },
)
async def health(request: Request) -> Response:
    """Say whether requests are served; answers at all times."""
    service = _service(request)
    encoder, loaded = service.encoder, service.encoder.loaded
    status = encoder.status
    answer = {
        "status": status,
        "model": loaded.snapshot.repository if loaded else None,
        "dim": loaded.engine.dim if loaded else None,
        "device": loaded.engine.device if loaded else None,
        "phase": encoder.phase,
        "instance": service.instance,
        "version": __version__,
    }
    return _json(answer, HTTPStatus.OK if status == "ok" else HTTPStatus.SERVICE_UNAVAILABLE)


@router.get("/info", responses={200: {"model": schemas.InfoAnswer}, **_problems(503)})
async def info(request: Request) -> Response:
    """Say what is served: the model, the engine, the limits."""
    service = _service(request)
    loaded = service.encoder.ready()
    limits = service.settings.limits
    return _json(
        {
            "model_id": loaded.snapshot.repository,
            "dim": loaded.engine.dim,
            "device": loaded.engine.device,
            "version": __version__,
            "engine": loaded.engine.name,
            "unpacked_because": loaded.unpacked_because,
            "precision": loaded.engine.precision,
            "threads": service.settings.threads,
            "pooling": loaded.engine.pooling,
            "max_tokens": loaded.engine.max_tokens,
            "revision": loaded.snapshot.revision,
            "fingerprint": loaded.fingerprint(),
            "limits": {name: getattr(limits, name) for name in schemas.LimitsAnswer.model_fields},
            "plan": loaded.snapshot.plan,
        }
    )


@router.post(
    "/embed",
    openapi_extra=_body(schemas.EmbedRequest),
    responses={
        200: {"model": schemas.EmbedAnswer, "content": {BINARY: {}}},
        **_problems(400, 413, 415, 422, 503, 507),
    },
)
async def embed(request: Request) -> Response:
    """Embed texts."""
    service = _service(request)
    loaded = service.encoder.ready()
    body = await bodies.read(request, max_bytes=service.settings.limits.max_body_bytes)
    asked = await _validated(schemas.EmbedRequest, body)
    async with _departure(request) as gone:
        found = await service.encoder.embed(
            asked.texts,
            pooling=asked.pooling,
            normalize=asked.normalize,
            truncate=asked.truncate,
            priority=asked.priority,
            gone=gone,
        )
    if BINARY in request.headers.get("accept", ""):
        return Response(vectors.raw(found.rows), media_type=BINARY, headers=_headers(found))
    rest = {
        "model": loaded.snapshot.repository,
        "dim": loaded.engine.dim,
        "tokens": found.tokens,
        "truncated": found.truncated,
        "fingerprint": found.fingerprint,
    }
    return await _with_vectors(found.rows, rest, encoding=asked.encoding)


def _headers(found: Embedded) -> dict[str, str]:
    return {
        "X-Sidecar-Count": str(len(found.rows)),
        "X-Sidecar-Dim": str(found.rows.shape[1]),
        "X-Sidecar-Truncated": vectors.indices(found.truncated),
        "X-Sidecar-Fingerprint": found.fingerprint,
    }


@router.post(
    "/embed-file",
    openapi_extra=_body(schemas.EmbedFileRequest),
    responses={
        200: {"model": schemas.EmbedFileAnswer},
        **_problems(400, 403, 404, 409, 413, 415, 422, 503, 507),
    },
)
async def embed_file(request: Request) -> Response:
    """Cut a document from an allowed folder into chunks and embed them."""
    service = _service(request)
    encoder, limits = service.encoder, service.settings.limits
    loaded = encoder.ready()
    engine = loaded.engine
    body = await bodies.read(request, max_bytes=limits.max_body_bytes)
    asked = await _validated(schemas.EmbedFileRequest, body)
    size, overlap = asked.sizes(max_content_tokens=engine.max_tokens - engine.special_tokens)
    data = await asyncio.to_thread(service.roots.read, asked.path, max_bytes=limits.max_file_bytes)
    suffix = documents.suffix_of(asked.path)
    async with service.readers:
        document = await documents.read(data, suffix, limits=limits)
    async with _departure(request) as gone:
        if asked.unit == "tokens":
            spans = await encoder.spans(document.text, gone=gone)
            places = documents.token_chunks(spans, size=size, overlap=overlap)
        else:
            places = documents.char_chunks(document.text, size=size, overlap=overlap)
        kept, is_all = await asyncio.to_thread(
            documents.take,
            places,
            max_chunks=asked.max_chunks,
            max_chars=limits.max_chunked_chars,
        )
        chunks = [document.text[start:end] for start, end in kept]
        found = await encoder.embed(
            chunks, pooling=asked.pooling, normalize=asked.normalize, gone=gone
        )
    truncated = frozenset(found.truncated)
    rest = {
        "chunks": chunks,
        "spans": [
            {
                "page": document.page_at(start),
                "start": start,
                "end": end,
                "tokens": found.tokens[index],
                "truncated": index in truncated,
            }
            for index, (start, end) in enumerate(kept)
        ],
        "complete": document.is_complete and is_all,
        "model": loaded.snapshot.repository,
        "dim": engine.dim,
        "fingerprint": found.fingerprint,
    }
    return await _with_vectors(found.rows, rest, encoding="float")


@router.post(
    "/shutdown",
    status_code=HTTPStatus.ACCEPTED,
    responses={202: {"model": schemas.ShutdownAnswer}, **_problems(415)},
)
async def shutdown(request: Request) -> Response:
    """Stop the service once its running requests are answered."""
    if bodies.is_sent(request):
        bodies.refuse_kind(request)
    _service(request).request_stop()
    return _json({"status": "stopping"}, HTTPStatus.ACCEPTED)
