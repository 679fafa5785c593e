"""Texts to vectors."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from sidecar.models.loader import Space
from sidecar.scheduling.encoder import Embedded
from sidecar.web import bodies, responses, schemas
from sidecar.web.budget import share_of
from sidecar.web.errors import FORM
from sidecar.web.routes import RequestRoute, in_use, service_of, tei

router = APIRouter(route_class=RequestRoute)
BINARY = "application/octet-stream"
TOKENS = "X-Sidecar-Tokens"
OURS, THEIRS = b'"texts"', b'"inputs"'
HEAD_BYTES = 1 << 10


@router.post("/", include_in_schema=False)  # what text-embeddings-inference has there, too
@router.post(
    "/embed",
    openapi_extra=responses.body_of(schemas.EmbedRequest, tei.InputsRequest),
    responses={
        200: {"model": schemas.EmbedAnswer | tei.Vectors, "content": {BINARY: {}}},
        **responses.problem_responses(413, 415),
        **responses.problem_responses(400, 404, 422, 429, 503, 507, or_json=tei.TeiError),
    },
)
async def embed(request: Request) -> Response:
    """Embed texts."""
    service = service_of(request)
    service.encoder.ready()
    body = await bodies.read(request, max_bytes=service.settings.limits.max_body_bytes)

    def choose(kind: type[schemas.Wire]) -> None:
        request.scope[FORM] = tei.form if kind is tei.InputsRequest else None

    # Of a body that cannot be read the beginning says whose client sent it.
    if THEIRS in body[:HEAD_BYTES] and OURS not in body[:HEAD_BYTES]:
        request.scope[FORM] = tei.form
    asked: schemas.EmbedRequest | tei.InputsRequest = await responses.validated(
        body, schemas.EmbedRequest, tei.InputsRequest, choose=choose
    )
    if isinstance(asked, tei.InputsRequest):
        return await tei.embed(request, asked)
    model = service.encoder.named(asked.model)
    is_binary = responses.prefers(request, BINARY)
    encoding = "binary" if is_binary else asked.encoding
    async with in_use(request, model) as (loaded, disconnected):
        prompt = loaded.prompts.choose(
            name=asked.prompt_name, text=asked.prompt, input_type=asked.input_type
        )
        space = Space(asked.pooling, asked.normalize, prompt, loaded.width(asked.dimensions))
        dim = space.width or loaded.engine.dim
        size = responses.size_of(len(asked.texts), dim, encoding=encoding)
        share_of(request).expect(size)
        found = await service.encoder.embed(
            asked.texts,
            space,
            model=model,
            truncate="right" if asked.truncate else "never",
            priority=asked.priority,
            disconnected=disconnected,
        )
    if is_binary:
        return Response(responses.raw(found.rows), media_type=BINARY, headers=_headers(found))
    rest = {
        "model": loaded.snapshot.repository,
        "dim": dim,
        "tokens": found.tokens,
        "truncated": found.truncated,
        "fingerprint": found.fingerprint,
    }
    made = await responses.with_vectors(found.rows, lambda: rest, encoding=asked.encoding)
    answer = responses.json_response(made)
    answer.headers[TOKENS] = str(sum(found.tokens))
    return answer


def _headers(found: Embedded) -> dict[str, str]:
    return {
        "X-Sidecar-Count": str(len(found.rows)),
        "X-Sidecar-Dim": str(found.rows.shape[1]),
        TOKENS: str(sum(found.tokens)),
        "X-Sidecar-Truncated": responses.indices(found.truncated),
        "X-Sidecar-Fingerprint": found.fingerprint,
    }
