"""OpenAI's API for embeddings (https://platform.openai.com/docs/api-reference/embeddings)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter
from pydantic import BeforeValidator, FailFast, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from sidecar.models.loader import Loaded, Space
from sidecar.problems import Problem
from sidecar.scheduling.encoder import Embedded
from sidecar.web import bodies, responses
from sidecar.web.budget import share_of
from sidecar.web.routes import RequestRoute, in_use, service_of
from sidecar.web.routes.dialects import (
    TEXT_OR_TEXTS,
    Dialect,
    headers_of,
    texts_in,
)
from sidecar.web.schemas import (
    Answer,
    Dimensions,
    ModelName,
    PromptFor,
    PromptName,
    PromptText,
    Wire,
)

router = APIRouter(route_class=RequestRoute)
PREFIX = "/v1/"
PATHS = ("/v1/embeddings", "/embeddings")
# Clients send these again after a while: it may help.
PASSING = frozenset((408, 409, 429, 500, 503))
_NO_IDS = (
    "token ids are not accepted, for they are of another vocabulary than this model's: send "
    "strings (LangChain: check_embedding_ctx_length=False)"
)
_TEXTS = BeforeValidator(partial(texts_in, instead=_NO_IDS))
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}


class EmbeddingsRequest(Wire):
    """Texts to embed; other fields, as `user`, are ignored."""

    texts: Annotated[
        list[str],
        FailFast(),
        _TEXTS,
        WithJsonSchema(TEXT_OR_TEXTS),
    ] = Field(alias="input", description="A text or a list of them.")
    model: ModelName = None
    encoding_format: Literal["float", "base64"] | None = Field(
        default="float",
        description="base64: every vector is the base64 of its little-endian float32 values.",
    )
    dimensions: Dimensions = None
    # None of OpenAI's: other services of this API have them, and no client sends one unasked.
    prompt_name: PromptName = None
    prompt: PromptText = None
    input_type: PromptFor = None


class Vector(Answer):
    """The vector of one text."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="With base64, that of the values' bytes.")


class Usage(Answer):
    """The tokens of all texts, counted by the model that is served."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(Answer):
    """Vectors in the order of the texts."""

    object: Literal["list"]
    data: list[Vector]
    model: str = Field(description="As the request names it, else as it is listed.")
    usage: Usage


class ModelAnswer(Answer):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int = Field(description="When its files were made, in seconds since 1970.")
    owned_by: str


class ModelsAnswer(Answer):
    """The models that are served."""

    object: Literal["list"]
    data: list[ModelAnswer]


class ErrorDetail(Answer):
    """What went wrong, why, and what to do next."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: None
    code: str


class OpenAIError(Answer):
    """Any error of these routes."""

    error: ErrorDetail


def form(problem: Problem) -> tuple[int, dict[str, object], dict[str, str]]:
    """Return the status, the body and the headers that OpenAI's clients read of an error."""
    status = problem.status
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    kind = "invalid_request_error"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "rate_limit_error"
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = "server_error"
    said = [problem.what, problem.why, problem.next_step]
    error = {
        "message": "; ".join(part for part in said if part),
        "type": kind,
        "param": None,
        "code": _CODES.get(problem.kind, problem.kind.replace("-", "_")),
    }
    may_pass = status in PASSING or problem.retry_s is not None
    headers = {} if may_pass else {"x-should-retry": "false"}
    return int(status), {"error": error}, headers


_CODES: Mapping[str, str] = {"unknown-model": "model_not_found", "no-token": "invalid_api_key"}
DIALECT = Dialect(paths=frozenset(PATHS), prefixes=(PREFIX,), form=form)


async def embeddings(request: Request) -> Response:
    """Embed texts as OpenAI's API does."""
    service = service_of(request)
    service.encoder.ready()
    body = await bodies.read(request, max_bytes=service.settings.limits.max_body_bytes)
    asked = await responses.validated(body, EmbeddingsRequest)
    model = service.encoder.named(asked.model)
    encoding = asked.encoding_format or "float"
    async with in_use(request, model) as (loaded, disconnected):
        prompt = loaded.prompts.choose(
            name=asked.prompt_name, text=asked.prompt, input_type=asked.input_type
        )
        space = Space(loaded.engine.pooling, prompt=prompt, width=loaded.width(asked.dimensions))
        dim = space.width or loaded.engine.dim
        size = responses.size_of(len(asked.texts), dim, encoding=encoding)
        share_of(request).expect(size)
        found = await service.encoder.embed(
            asked.texts, space, model=model, disconnected=disconnected
        )
    name = asked.model or loaded.snapshot.names[0]
    made = await responses.written(found.rows.size, lambda: _answer(found, encoding, name))
    return responses.json_response(made, headers=headers_of(loaded, found))


_errors = partial(responses.error_responses, OpenAIError)


for path in PATHS:
    router.post(
        path,
        openapi_extra=responses.body_of(EmbeddingsRequest),
        responses={200: {"model": EmbeddingsAnswer}, **_errors(400, 404, 413, 415, 429, 503, 507)},
        include_in_schema=path.startswith(PREFIX),
    )(embeddings)


def _answer(found: Embedded, encoding: str, name: str) -> bytes:
    rows = responses.rows_of(found.rows, encoding=encoding)
    data = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%b}' % (index, row)
        for index, row in enumerate(rows)
    )
    total = sum(found.tokens)
    rest = {"model": name, "usage": {"prompt_tokens": total, "total_tokens": total}}
    return b'{"object":"list","data":[%b],%b' % (data, orjson.dumps(rest)[1:])


def _described(loaded: Loaded) -> dict[str, Any]:
    served = loaded.snapshot
    return {
        "id": served.names[0],
        "object": "model",
        "created": loaded.description.modified_s,
        "owned_by": served.repository.partition("/")[0],
    }


@router.head("/v1/models", include_in_schema=False)
@router.get("/v1/models", responses={200: {"model": ModelsAnswer}, **_errors(503)})
async def models(request: Request) -> Response:
    """List the models that are served, as OpenAI's API does."""
    encoder = service_of(request).encoder
    encoder.ready()
    found = [_described(model.loaded) for model in encoder.models.all]
    return responses.answer({"object": "list", "data": found})


@router.head("/v1/models/{name:path}", include_in_schema=False)  # noqa: FAST003 (as below)
@router.get(
    "/v1/models/{name:path}",
    openapi_extra={"parameters": [_NAME]},
    responses={200: {"model": ModelAnswer}, **_errors(404, 503)},
)
async def model(request: Request) -> Response:
    """Describe the model of this name, as OpenAI's API does."""
    encoder = service_of(request).encoder
    encoder.ready()
    return responses.answer(_described(encoder.named(request.path_params["name"]).loaded))
