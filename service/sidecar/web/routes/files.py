"""Documents to chunks and their vectors."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from sidecar.documents import cutting, documents, uploads
from sidecar.problems import Problem
from sidecar.web import bodies, schemas, vectors
from sidecar.web.admission import share_of
from sidecar.web.routes import lines
from sidecar.web.routes.answers import (
    as_json,
    body_of,
    departure,
    problems,
    query_of,
    validated,
    with_vectors,
)
from sidecar.web.state import service_of

router = APIRouter()
MAX_BODY_BYTES = 1 << 16  # of a path and options: the longest path that systems open is half of it
ANSWER = {"model": schemas.EmbedFileAnswer, "content": {lines.MEDIA_TYPE: {}}}


@router.post(
    "/embed-file",
    openapi_extra=body_of(schemas.EmbedFileRequest),
    responses={200: ANSWER, **problems(400, 403, 404, 409, 413, 415, 422, 429, 503, 507)},
)
async def embed_file(request: Request) -> Response:
    """Cut a document from an allowed folder into chunks and embed them."""
    service = service_of(request)
    service.encoder.ready()
    service.encoder.require_room()
    limits = service.settings.limits
    bodies.refuse_kind(request)
    body = await bodies.collect(request, max_bytes=MAX_BODY_BYTES, too_large=_too_large)
    asked = await validated(schemas.EmbedFileRequest, body)
    cutting.sizes(service, asked)
    file = await asyncio.to_thread(service.roots.read, asked.path, max_bytes=limits.max_file_bytes)
    share_of(request).take(len(file.data))
    return await _answer(request, file.data, file.suffix, asked)


@router.post(
    "/embed-file/upload",
    openapi_extra={
        "parameters": [*query_of(schemas.FileOptions), schemas.PASSWORD_HEADER],
        "requestBody": {
            "required": True,
            "content": {
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in documents.MEDIA_TYPES
            },
        },
    },
    responses={200: ANSWER, **problems(400, 413, 415, 422, 429, 503, 507)},
)
async def upload(request: Request) -> Response:
    """Cut the document that is the body into chunks and embed them; no folder need be allowed."""
    service = service_of(request)
    service.encoder.ready()
    service.encoder.require_room()
    suffix = uploads.suffix_of(request)
    if suffix == ".pdf":
        service.workers.require_room()
    options = dict(uploads.options(request))
    asked = schemas.validate(schemas.FileOptions, options, is_spelled=True)
    cutting.sizes(service, asked)
    data = await uploads.read(request, max_bytes=service.settings.limits.max_file_bytes)
    return await _answer(request, data, suffix, asked)


async def _answer(
    request: Request, data: bytes, suffix: str, asked: schemas.FileOptions
) -> Response:
    if lines.MEDIA_TYPE in request.headers.get("accept", ""):
        return await lines.answer(request, data, suffix, asked)
    service = service_of(request)
    loaded = service.encoder.ready()
    async with departure(request) as gone:
        cut = await cutting.cut(service, data, suffix, asked, gone=gone)
        share_of(request).expect(
            sum(cut.lengths) + vectors.size_of(len(cut), loaded.engine.dim, encoding=asked.encoding)
        )
        found = await service.encoder.embed(
            cut, pooling=asked.pooling, normalize=asked.normalize, gone=gone
        )

    def rest() -> dict[str, object]:
        return {
            "chunks": cut[:],
            "spans": cut.spans(found),
            **cut.said(),
            "model": loaded.snapshot.repository,
            "dim": loaded.engine.dim,
            "fingerprint": found.fingerprint,
        }

    return as_json(await with_vectors(found.rows, rest, encoding=asked.encoding))


def _too_large(limit: int) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too-large",
        f"the body is larger than {limit} bytes, and holds a path and options alone",
        next_step="send the document itself to /embed-file/upload",
        headers={"Connection": "close"},
    )
