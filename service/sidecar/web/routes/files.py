"""Documents to chunks and their vectors: from an allowed folder, or carried by the request."""

from __future__ import annotations

import asyncio
import base64
import binascii
from email.message import Message

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from sidecar.documents import extraction
from sidecar.documents.chunking import Chunking
from sidecar.problems import Problem
from sidecar.web import bodies, responses, schemas
from sidecar.web.budget import share_of
from sidecar.web.responses import (
    body_of,
    departure,
    json_response,
    problem_responses,
    query_of,
    validated,
    with_vectors,
)
from sidecar.web.routes import ndjson, service_of

router = APIRouter()
MAX_BODY_BYTES = 1 << 16  # of a path and options: the longest path that systems open is half of it
HEADER = "X-Document-Password"
SENT = f"Content-Type: {', '.join(extraction.MEDIA_TYPES)}"
ANSWER = {"model": schemas.EmbedFileAnswer, "content": {ndjson.MEDIA_TYPE: {}}}


@router.post(
    "/embed-file",
    openapi_extra=body_of(schemas.EmbedFileRequest),
    responses={200: ANSWER, **problem_responses(400, 403, 404, 409, 413, 415, 422, 429, 503, 507)},
)
async def embed_file(request: Request) -> Response:
    """Cut a document from an allowed folder into chunks and embed them."""
    service = service_of(request)
    engine = service.encoder.ready().engine
    service.encoder.require_room()
    limits = service.settings.limits
    bodies.refuse_kind(request)
    body = await bodies.collect(
        request,
        "the body, which is to hold a path and options alone,",
        max_bytes=MAX_BODY_BYTES,
        next_step="send the document itself to /embed-file/upload",
    )
    asked = await validated(body, schemas.EmbedFileRequest)
    wanted = asked.chunking(engine)
    file = await asyncio.to_thread(
        service.allowed_dirs.read, asked.path, max_bytes=limits.max_file_bytes
    )
    share_of(request).take(len(file.data))
    return await _answer(request, file.data, file.suffix, asked, wanted)


@router.post(
    "/embed-file/upload",
    openapi_extra={
        "parameters": [*query_of(schemas.FileOptions), schemas.PASSWORD_HEADER],
        "requestBody": {
            "required": True,
            "content": {
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in extraction.MEDIA_TYPES
            },
        },
    },
    responses={200: ANSWER, **problem_responses(400, 413, 415, 422, 429, 503, 507)},
)
async def upload(request: Request) -> Response:
    """Cut the document that is the body into chunks and embed them; no folder need be allowed."""
    service = service_of(request)
    engine = service.encoder.ready().engine
    service.encoder.require_room()
    suffix = _suffix_of(request)
    if suffix == ".pdf":
        service.pdf_pool.require_room()
    options = _options(request)
    asked = schemas.validate(options, schemas.FileOptions, is_spelled=True)
    wanted = asked.chunking(engine)
    instead, most = "split it, or send its text alone", service.settings.limits.max_file_bytes
    data = await bodies.collect(request, "the document", max_bytes=most, next_step=instead)
    return await _answer(request, data, suffix, asked, wanted)


async def _answer(
    request: Request,
    data: bytes,
    suffix: str,
    asked: schemas.FileOptions,
    wanted: Chunking,
) -> Response:
    if responses.prefers(request, ndjson.MEDIA_TYPE):
        return await ndjson.answer(request, data, suffix, asked, wanted)
    service = service_of(request)
    loaded = service.encoder.ready()
    async with departure(request) as disconnected:
        chunks = await service.read(data, suffix, wanted, disconnected=disconnected)
        share_of(request).expect(
            sum(chunks.lengths)
            + responses.size_of(len(chunks), loaded.engine.dim, encoding=asked.encoding)
        )
        found = await service.encoder.embed(
            chunks, pooling=asked.pooling, normalize=asked.normalize, disconnected=disconnected
        )

    def rest() -> dict[str, object]:
        return {
            "chunks": chunks[:],
            "spans": chunks.spans(found),
            **chunks.said(),
            "model": loaded.snapshot.repository,
            "dim": loaded.engine.dim,
            "fingerprint": found.fingerprint,
        }

    return json_response(await with_vectors(found.rows, rest, encoding=asked.encoding))


def _suffix_of(request: Request) -> str:
    """Return the suffix that decides how the body is read, by its media type.

    Raises Problem 415 for a type that is not read, or a content encoding.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in extraction.MEDIA_TYPES:
        what = "the Content-Type is not that of a supported document"
        raise Problem("media-type", what, next_step=SENT)
    bodies.refuse_encoding(request)
    return extraction.MEDIA_TYPES[kind]


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
        raise Problem(
            "bad-value",
            "password: it is not taken from the query",
            why="proxies log addresses with their queries",
            next_step=f"send the header {HEADER}: the password's UTF-8 in base64",
        )
    charset, password = _charset_of(request), _password_of(request)
    told = {"charset": charset, **found, "password": password}
    return {name: value for name, value in told.items() if value is not None}


def _password_of(request: Request) -> str | None:
    """Return the password in the headers. Raises Problem 422 unless it is base64 of UTF-8, once."""
    sent = request.headers.getlist(HEADER)
    if not sent:
        return None
    try:
        if len(sent) > 1:
            raise ValueError  # noqa: TRY301 (which it is cannot be told)
        return base64.b64decode(sent[0], validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        # No cause: what is wrong with it would say some of it.
        raise Problem(
            "bad-value",
            f"{HEADER}: it is not base64 of UTF-8",
            next_step="send the password's UTF-8 in base64, in one header",
        ) from None


def _charset_of(request: Request) -> str | None:
    """Return what the body's type says that it is encoded in, if it is text and says so."""
    declared = Message()
    declared["Content-Type"] = request.headers.get("content-type", "")
    if declared.get_content_maintype() != "text":
        return None
    return declared.get_content_charset() or None
