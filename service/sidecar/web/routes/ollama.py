"""Ollama's API as far as it embeds (https://github.com/ollama/ollama, docs/api.md)."""

from __future__ import annotations

import hashlib
import re
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import APIRouter
from pydantic import BeforeValidator, FailFast, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from sidecar.models.loader import Loaded, Space
from sidecar.problems import Problem
from sidecar.scheduling.encoder import Encoder
from sidecar.scheduling.served import ServedModel
from sidecar.web import bodies, callers, responses
from sidecar.web.budget import share_of
from sidecar.web.routes import RequestRoute, in_use, service_of
from sidecar.web.routes.dialects import TEXTS_OR_NONE, Dialect, headers_of
from sidecar.web.schemas import Answer, Dimensions, ModelName, Wire

router = APIRouter(route_class=RequestRoute)
# That of Ollama whose routes these are: clients compare it before they use one.
VERSION = "0.12.0"
RUNNING = "Ollama is running"  # what its clients ask for at /
FOREVER = "9999-12-31T23:59:59Z"
LINES = "application/x-ndjson"
MAX_NAME_BYTES = 1 << 16
MAX_DURATION_CHARS = 64
TEXT_OR_NONE = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": ""}
# Its older route leaves vectors of these families as they are pooled (llama-server's own default).
RAW_FAMILIES = frozenset({"nomic_bert", "xlm-roberta"})


def _texts(value: object) -> object:
    """Return the texts of `input`, which may be one; an empty one alone is none."""
    if value is None or value == "":
        return []
    items = value if isinstance(value, list) else [value]
    if any(not isinstance(item, str) for item in items[:1]):
        kind, what = "no_text", "invalid input type: a text or a list of texts is needed"
        raise PydanticCustomError(kind, what)
    return items


def _prompt(value: object) -> object:
    """Return the text of `prompt` in a list; an empty one is none."""
    if value is None:
        return []
    if not isinstance(value, str):
        kind, what = "no_text", "a text is needed"
        raise PydanticCustomError(kind, what)
    return [value] if value else []


def _seconds(value: object) -> object:
    """Return the seconds of `keep_alive`: a number, or a duration as Go spells it."""
    if not isinstance(value, str):
        return value
    digits = value.removeprefix("-")
    sign = 1 if digits == value else -1
    if _NUMBER.fullmatch(digits):
        return sign * float(digits)
    parts = _PART.findall(digits) if len(value) <= MAX_DURATION_CHARS else []
    if not parts or "".join(number + unit for number, unit in parts) != digits:
        kind, what = "duration", "a number of seconds or a duration, as 5m, is needed"
        raise PydanticCustomError(kind, what)
    return sign * sum(float(number) * _UNITS_S[unit] for number, unit in parts)


_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,9})?")
_PART = re.compile(rf"({_NUMBER.pattern})(ns|us|µs|ms|s|m|h)")
_SPELLED = rf"^-?(?:{_NUMBER.pattern}|(?:{_NUMBER.pattern}(?:{'|'.join(_UNITS_S)}))+)$"
KeepAlive = Annotated[
    float | None,
    BeforeValidator(_seconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number"},
                {"type": "string", "pattern": _SPELLED, "maxLength": MAX_DURATION_CHARS},
                {"type": "null"},
            ]
        }
    ),
    Field(
        alias="keep_alive",
        description="Seconds, or a duration as 5m, that the model stays in memory after this "
        "request: at most those of --idle-unload, without which it is never unloaded.",
    ),
]


class Named(Wire):
    """What has the name of a model, by either key."""

    model: ModelName = None
    name: str | None = Field(default=None, description="The same, as older clients send it.")
    stream: bool | None = Field(default=True, description="With false, the last line alone.")


class OllamaRequest(Wire):
    """Texts to embed; other fields, as `options`, are ignored."""

    texts: Annotated[
        list[str], FailFast(), BeforeValidator(_texts), WithJsonSchema(TEXTS_OR_NONE)
    ] = Field(default=[], alias="input", description="A text or a list of them.")
    model: ModelName = None
    keep_s: KeepAlive = None
    truncate: bool | None = Field(
        default=True, description="With false a text that is too long is 400."
    )
    dimensions: Dimensions = None


class PromptRequest(Wire):
    """One text to embed; other fields are ignored."""

    texts: Annotated[list[str], BeforeValidator(_prompt), WithJsonSchema(TEXT_OR_NONE)] = Field(
        default_factory=list, alias="prompt", description="The text."
    )
    model: ModelName = None
    keep_s: KeepAlive = None


class OllamaAnswer(Answer):
    """Vectors of length 1 in the order of the texts."""

    model: str = Field(description="As the request names it, else as it is listed.")
    embeddings: list[list[float]]
    total_duration: int = Field(description="Nanoseconds.")
    prompt_eval_count: int = Field(description="Tokens of all texts, by the model's own count.")


class PromptAnswer(Answer):
    """The vector of the text; none for an empty one."""

    embedding: list[float]


class OllamaError(Answer):
    """Any error of these routes."""

    error: str = Field(description="What went wrong, why, and what to do next.")


def form(problem: Problem) -> tuple[int, dict[str, object], dict[str, str]]:
    """Return the status and the body that Ollama's clients read of an error."""
    status = _STATUSES.get(problem.status, problem.status)
    what = problem.what
    if problem.kind == "text-too-long":
        what = f"the input length exceeds the context length: {what}"
    said = "; ".join(part for part in (what, problem.why, problem.next_step) if part)
    return int(status), {"error": said}, {}


_STATUSES: dict[int, int] = {
    HTTPStatus.UNPROCESSABLE_ENTITY: HTTPStatus.BAD_REQUEST,
    # What it answers itself where its queue is full.
    HTTPStatus.TOO_MANY_REQUESTS: HTTPStatus.SERVICE_UNAVAILABLE,
}
DIALECT = Dialect(paths=frozenset(), prefixes=("/api/",), form=form)


_errors = partial(responses.error_responses, OllamaError)


_REFUSED = _errors(400, 404, 413, 415, 503, 507)


async def _body(request: Request, *, has_texts: bool = True) -> bytes:
    """Return the body, of whatever type from a program: this API's clients send JSON as any.

    A page's is to be JSON: it could send another type without asking. One that has no texts has a
    name, and is small.
    """
    is_any_type = callers.is_program(request.scope["headers"])
    if has_texts:
        limits = service_of(request).settings.limits
        body = await bodies.read(request, max_bytes=limits.max_body_bytes, is_any_type=is_any_type)
    else:
        (bodies.refuse_encoded if is_any_type else bodies.kind_of)(request)
        what, step = "the body, which is to hold a name alone,", "send the name of a model"
        body = await bodies.collect(request, what, max_bytes=MAX_NAME_BYTES, next_step=step)
    if not body:
        raise Problem("bad-json", "missing request body", next_step="send one JSON object, UTF-8")
    return body


def _named(encoder: Encoder, wanted: str | None) -> ServedModel:
    """Return the model that `wanted` names, as Ollama spells names. Raises Problem."""
    if wanted is not None:
        wanted = wanted.casefold().removeprefix("library/")
    return encoder.named(wanted)


@router.post(
    "/api/embed",
    openapi_extra=responses.body_of(OllamaRequest),
    responses={200: {"model": OllamaAnswer}, **_REFUSED},
)
async def embed(request: Request) -> Response:
    """Embed texts as Ollama does."""
    began = time.perf_counter_ns()
    encoder = service_of(request).encoder
    encoder.ready()
    asked = await responses.validated(await _body(request), OllamaRequest)
    model = _named(encoder, asked.model)
    async with in_use(request, model, keep_s=asked.keep_s) as (loaded, disconnected):
        most = loaded.engine.dim
        # As Ollama does, more than there are is all of them.
        width = loaded.width(None if asked.dimensions is None else min(asked.dimensions, most))
        size = responses.size_of(len(asked.texts), width or most, encoding="float")
        share_of(request).expect(size)
        found = await encoder.embed(
            asked.texts,
            Space(loaded.engine.pooling, width=width),
            model=model,
            truncate="never" if asked.truncate is False else "right",
            disconnected=disconnected,
        )

    def build() -> bytes:
        rest = {
            "model": asked.model or loaded.snapshot.names[0],
            "total_duration": time.perf_counter_ns() - began,
            "prompt_eval_count": sum(found.tokens),
        }
        rows = responses.array_of(found.rows, encoding="float")
        return b'{"embeddings":%b,%b' % (rows, orjson.dumps(rest)[1:])

    made = await responses.written(found.rows.size, build)
    return responses.json_response(made, headers=headers_of(loaded, found))


@router.post(
    "/api/embeddings",
    openapi_extra=responses.body_of(PromptRequest),
    responses={200: {"model": PromptAnswer}, **_REFUSED},
)
async def embeddings(request: Request) -> Response:
    """Embed one text as Ollama's older route does.

    Of the families whose vectors it leaves as they are pooled, they are.
    """
    encoder = service_of(request).encoder
    encoder.ready()
    asked = await responses.validated(await _body(request), PromptRequest)
    model = _named(encoder, asked.model)
    async with in_use(request, model, keep_s=asked.keep_s) as (loaded, disconnected):
        found = await encoder.embed(
            asked.texts,
            Space(loaded.engine.pooling, loaded.description.family not in RAW_FAMILIES),
            model=model,
            disconnected=disconnected,
        )
    rows = responses.array_of(found.rows, encoding="float")
    # The row, or the empty list of rows.
    row = rows[1:-1] if len(found.rows) else rows
    return responses.json_response(b'{"embedding":%b}' % row, headers=headers_of(loaded, found))


def _modified(loaded: Loaded) -> str:
    return _spelled(datetime.fromtimestamp(loaded.description.modified_s, UTC))


def _spelled(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _details(loaded: Loaded) -> dict[str, Any]:
    found = loaded.description
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": found.family,
        "families": [found.family],
        "parameter_size": f"{found.parameters / 1e6:.0f}M",
        "quantization_level": "F32" if loaded.engine.precision == "float32" else "INT8",
        "context_length": loaded.engine.max_tokens,
        "embedding_length": loaded.engine.dim,
    }


def _listed(loaded: Loaded) -> list[dict[str, Any]]:
    """Return an entry for each name of the model but the repository's."""
    served = loaded.snapshot
    names = [name for name in served.names if "/" not in name] or [served.names[0]]
    identity = f"{served.repository}@{served.revision}".encode()
    return [
        {
            "name": name if ":" in name else f"{name}:latest",
            "model": name if ":" in name else f"{name}:latest",
            "modified_at": _modified(loaded),
            "size": loaded.description.size,
            "digest": hashlib.sha256(identity).hexdigest(),
            "details": _details(loaded),
            "capabilities": ["embedding"],
        }
        for name in names
    ]


@router.head("/api/tags", include_in_schema=False)
@router.get("/api/tags", responses=_errors(503))
async def tags(request: Request) -> Response:
    """List the names of the models, as Ollama does."""
    encoder = service_of(request).encoder
    encoder.ready()
    every = [entry for model in encoder.models.all for entry in _listed(model.loaded)]
    return responses.answer({"models": every})


@router.head("/api/ps", include_in_schema=False)
@router.get("/api/ps", responses=_errors(503))
async def ps(request: Request) -> Response:
    """Say which models are in memory, as Ollama does."""
    encoder = service_of(request).encoder
    encoder.ready()
    here = [model for model in encoder.models.all if model.is_here]
    return responses.answer({"models": [_running(model, encoder) for model in here]})


def _running(model: ServedModel, encoder: Encoder) -> dict[str, Any]:
    left_s, expires = encoder.models.left_s(model), FOREVER
    if left_s is not None:
        expires = _spelled(datetime.now(UTC) + timedelta(seconds=left_s))
    return {
        **_listed(model.loaded)[0],
        "expires_at": expires,
        "size_vram": 0,
        "context_length": model.loaded.engine.max_tokens,
    }


@router.head("/api/version", include_in_schema=False)
@router.get("/api/version")
async def version(_: Request) -> Response:
    """Say which version's routes these are."""
    return responses.answer({"version": VERSION})


@router.post(
    "/api/show",
    openapi_extra=responses.body_of(Named),
    responses=_errors(400, 404, 413, 415, 503),
)
async def show(request: Request) -> Response:
    """Describe a model, as Ollama does."""
    encoder = service_of(request).encoder
    encoder.ready()
    asked = await responses.validated(await _body(request, has_texts=False), Named)
    loaded = _named(encoder, asked.model or asked.name).loaded
    details = _details(loaded)
    family = details["family"]
    return responses.answer(
        {
            "parameters": "",
            "template": "{{ .Prompt }}",
            "details": details,
            "model_info": {
                "general.architecture": family,
                "general.parameter_count": loaded.description.parameters,
                f"{family}.context_length": loaded.engine.max_tokens,
                f"{family}.embedding_length": loaded.engine.dim,
            },
            "capabilities": ["embedding"],
            "modified_at": _modified(loaded),
        }
    )


@router.post(
    "/api/pull",
    openapi_extra=responses.body_of(Named),
    responses={200: {"content": {LINES: {}}}, **_errors(400, 404, 413, 415, 503)},
)
async def pull(request: Request) -> Response:
    """Say that the model is here, as Ollama does once it has pulled one."""
    encoder = service_of(request).encoder
    encoder.ready()
    asked = await responses.validated(await _body(request, has_texts=False), Named)
    _named(encoder, asked.model or asked.name)
    is_whole = asked.stream is False
    said = ["success"] if is_whole else ["pulling manifest", "success"]
    lines = b"".join(orjson.dumps({"status": one}) + b"\n" for one in said)
    return Response(lines, media_type="application/json" if is_whole else LINES)


async def _no_text(_: Request) -> Response:
    """Refuse what takes a model that writes text."""
    what = "the model does not support generate or chat"
    raise Problem("bad-request", what, "it makes embeddings", "POST /api/embed")


for path in ("/api/generate", "/api/chat"):
    router.post(path, include_in_schema=False)(_no_text)


async def _no_change(_: Request) -> Response:
    """Refuse what would change the models."""
    what = "models come with the service, and cannot be changed"
    raise Problem("wrong-method", what, "they are part of its bundle", "GET /api/tags lists them")


for path in ("/api/create", "/api/copy", "/api/push"):
    router.post(path, include_in_schema=False)(_no_change)
router.delete("/api/delete", include_in_schema=False)(_no_change)
