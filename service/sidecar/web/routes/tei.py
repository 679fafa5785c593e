"""The API of text-embeddings-inference, which shares the path of `/embed` with our own.

Its requests have `inputs` where ours have `texts`: the body decides, and with it the form of errors
(https://huggingface.github.io/text-embeddings-inference).
"""

from __future__ import annotations

import time
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from pydantic import BeforeValidator, FailFast, Field, RootModel, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from sidecar.engines import Truncation
from sidecar.models.loader import Loaded, Space
from sidecar.problems import Problem
from sidecar.scheduling.encoder import Embedded
from sidecar.settings import Limits
from sidecar.web import bodies, responses
from sidecar.web.budget import share_of
from sidecar.web.routes import RequestRoute, in_use, service_of
from sidecar.web.routes.dialects import TEXT_OR_TEXTS, Dialect, headers_of, texts_in
from sidecar.web.schemas import Answer, Dimensions, PromptFor, PromptName, PromptText, Wire

router = APIRouter(route_class=RequestRoute)


_NO_IDS = "token ids are not accepted: send a text or a list of texts"
_TEXTS = BeforeValidator(partial(texts_in, instead=_NO_IDS))


Direction = Literal["Right", "right", "Left", "left"]


class InputsRequest(Wire):
    """Texts to embed, as text-embeddings-inference takes them; other fields are ignored."""

    texts: Annotated[
        list[str],
        FailFast(),
        _TEXTS,
        WithJsonSchema(TEXT_OR_TEXTS),
    ] = Field(alias="inputs", description="A text or a list of them.")
    normalize: bool = Field(default=True, description="Scale every vector to length 1.")
    truncate: bool | None = Field(
        default=True, description="With false a text that is too long is refused, 422."
    )
    truncation_direction: Direction = Field(
        default="Right", description="Left keeps the end of a text that is too long."
    )
    prompt_name: PromptName = None
    prompt: PromptText = None
    input_type: PromptFor = None
    dimensions: Dimensions = None


class Compared(Wire):
    """One text, and those that it is compared with."""

    source_sentence: str
    sentences: Annotated[list[str], FailFast()]


class Comparing(Wire):
    """How texts are read before they are compared; other fields are ignored."""

    truncate: bool | None = True
    truncation_direction: Direction = "Right"
    prompt_name: str | None = None


def _written_out(kind: type[Wire]) -> WithJsonSchema:
    """Return the schema of `kind` in its place: a body's schema refers to no other."""
    return WithJsonSchema(kind.model_json_schema())


def _compared(value: object) -> object:
    """Return the texts of a comparison, the one that the others are compared with at the end."""
    match value:
        case {"source_sentence": str(source), "sentences": list(others)}:
            return [*others, source]
        case _:
            kind, what = "no_text", "source_sentence is to be a text, sentences a list of them"
            raise PydanticCustomError(kind, what)


class SimilarityRequest(Wire):
    """Texts to compare; other fields are ignored."""

    texts: Annotated[list[str], FailFast(), BeforeValidator(_compared), _written_out(Compared)] = (
        Field(alias="inputs")
    )
    parameters: Annotated[Comparing, _written_out(Comparing)] | None = Field(
        default=None,
        description="How the texts are read: truncate, truncation_direction, prompt_name.",
    )


class Vectors(RootModel[list[list[float]]]):
    """A vector of each of the `inputs`."""


class TeiError(Answer):
    """Any error of these routes."""

    error: str
    error_type: str = Field(description="Validation, Overloaded, Unhealthy or Backend.")


def form(problem: Problem) -> tuple[int, dict[str, object], dict[str, str]]:
    """Return the status and the body that clients of text-embeddings-inference read of an error."""
    status = problem.status
    kind = "Validation"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "Overloaded"
    elif status == HTTPStatus.SERVICE_UNAVAILABLE:
        kind = "Unhealthy"
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = "Backend"
    said = "; ".join(part for part in (problem.what, problem.why, problem.next_step) if part)
    return status, {"error": said, "error_type": kind}, {}


DIALECT = Dialect(paths=frozenset({"/similarity"}), prefixes=(), form=form)


def _truncation(asked: InputsRequest | Comparing) -> Truncation:
    """Return where texts are cut; TEI's servers cut them unless they are told not to."""
    if asked.truncate is False:
        return "never"
    return "left" if asked.truncation_direction.lower() == "left" else "right"


async def embed(request: Request, asked: InputsRequest) -> Response:
    """Answer a request of POST /embed that has `inputs`, for one text with a list, too."""
    began = time.perf_counter()
    encoder = service_of(request).encoder
    async with in_use(request, encoder.named(None)) as (loaded, disconnected):
        prompt = loaded.prompts.choose(
            name=asked.prompt_name, text=asked.prompt, input_type=asked.input_type
        )
        width = loaded.width(asked.dimensions)
        dim = width or loaded.engine.dim
        size = responses.size_of(len(asked.texts), dim, encoding="float")
        share_of(request).expect(size)
        found = await encoder.embed(
            asked.texts,
            Space(loaded.engine.pooling, asked.normalize, prompt, width),
            truncate=_truncation(asked),
            disconnected=disconnected,
        )
    made = await responses.written(
        found.rows.size, lambda: responses.array_of(found.rows, encoding="float")
    )
    return responses.json_response(made, headers=_headers(loaded, found, began))


def _headers(loaded: Loaded, found: Embedded, began: float) -> dict[str, str]:
    milliseconds = str(round(1000 * (time.perf_counter() - began)))
    return {
        **headers_of(loaded, found),
        "x-compute-type": loaded.engine.device,
        "x-compute-tokens": str(sum(found.tokens)),
        "x-total-time": milliseconds,
    }


@router.post(
    "/similarity",
    openapi_extra=responses.body_of(SimilarityRequest),
    responses={status: {"model": TeiError} for status in (400, 413, 415, 422, 429, 503, 507)},
)
async def similarity(request: Request) -> Response:
    """Return the cosine of one text's vector to each of the others."""
    began = time.perf_counter()
    service = service_of(request)
    service.encoder.ready()
    body = await bodies.read(request, max_bytes=service.settings.limits.max_body_bytes)
    asked = await responses.validated(body, SimilarityRequest)
    how = asked.parameters or Comparing()
    async with in_use(request, service.encoder.named(None)) as (loaded, disconnected):
        prompt = loaded.prompts.choose(name=how.prompt_name, text=None, input_type=None)
        size = responses.size_of(len(asked.texts), loaded.engine.dim, encoding="binary")
        share_of(request).expect(size)
        found = await service.encoder.embed(
            asked.texts,
            Space(loaded.engine.pooling, prompt=prompt),
            truncate=_truncation(how),
            disconnected=disconnected,
        )
    cosines = found.rows[:-1] @ found.rows[-1]
    return responses.answer(
        [float(one) for one in np.asarray(cosines, dtype=np.float64)],
        headers=_headers(loaded, found, began),
    )


def info(loaded: Loaded, limits: Limits) -> dict[str, Any]:
    """Return what clients of text-embeddings-inference read of GET /info, beside our own keys."""
    return {
        "model_sha": loaded.snapshot.revision,
        "model_dtype": loaded.engine.precision,
        "served_model_name": loaded.snapshot.names[0],
        "model_type": {"embedding": {"pooling": loaded.engine.pooling}},
        "max_input_length": loaded.engine.max_tokens,
        "max_batch_tokens": limits.max_queued_tokens,
        "max_client_batch_size": limits.max_texts,
        "auto_truncate": True,
    }
