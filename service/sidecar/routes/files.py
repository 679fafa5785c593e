"""Documents to chunks and their vectors."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from sidecar import bodies, documents, schemas
from sidecar.routes.answers import body_of, departure, problems, validated, with_vectors
from sidecar.service import service_of

router = APIRouter()


@router.post(
    "/embed-file",
    openapi_extra=body_of(schemas.EmbedFileRequest),
    responses={
        200: {"model": schemas.EmbedFileAnswer},
        **problems(400, 403, 404, 409, 413, 415, 422, 503, 507),
    },
)
async def embed_file(request: Request) -> Response:
    """Cut a document from an allowed folder into chunks and embed them."""
    service = service_of(request)
    encoder, limits = service.encoder, service.settings.limits
    loaded = encoder.ready()
    engine = loaded.engine
    body = await bodies.read(request, max_bytes=limits.max_body_bytes)
    asked = await validated(schemas.EmbedFileRequest, body)
    size, overlap = asked.sizes(max_content_tokens=engine.max_tokens - engine.special_tokens)
    data = await asyncio.to_thread(service.roots.read, asked.path, max_bytes=limits.max_file_bytes)
    suffix = documents.suffix_of(asked.path)
    async with service.readers:
        document = await documents.read(data, suffix, limits=limits)
    async with departure(request) as gone:
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
    return await with_vectors(found.rows, rest, encoding="float")
