"""The API of text-embeddings-inference, which shares the path of `/embed` with our own.

Its requests have `inputs` where ours have `texts`: the body decides, and with it the form of errors
(https://huggingface.github.io/text-embeddings-inference).
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from http import HTTPStatus
from itertools import chain
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from fastapi import APIRouter
from pydantic import BeforeValidator, FailFast, Field, RootModel, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from sidecar.engines import Truncation, Vocabulary
from sidecar.models.loader import Loaded, Space
from sidecar.problems import Problem
from sidecar.scheduling.encoder import PART_TOKENS, TOKENIZE_ROWS, Embedded
from sidecar.scheduling.tokenizing import PromptedTexts, refuse_oversize, slices
from sidecar.settings import Limits
from sidecar.web import bodies, responses, schemas
from sidecar.web.budget import share_of
from sidecar.web.routes import RequestRoute, in_use, service_of
from sidecar.web.routes.dialects import TEXT_OR_TEXTS, Dialect, headers_of, model_header, texts_in
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


MAX_ID = 2**32 - 1
_NO_IDS = "token ids are not accepted: send a text or a list of texts"


Direction = Literal["Right", "right", "Left", "left"]


def _inputs(value: object) -> object:
    """Return the texts of `inputs`. Raises Problem for none, of which this API has a kind."""
    if value == []:
        raise Problem("no-text", "inputs: at least one text is needed")
    return texts_in(value, instead=_NO_IDS)


_TEXTS = BeforeValidator(_inputs)


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
    model: ModelName = None
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

    model: ModelName = None
    texts: Annotated[list[str], FailFast(), BeforeValidator(_compared), _written_out(Compared)] = (
        Field(alias="inputs")
    )
    parameters: Annotated[Comparing, _written_out(Comparing)] | None = Field(
        default=None,
        description="How the texts are read: truncate, truncation_direction, prompt_name.",
    )


class TokenizeRequest(Wire):
    """Texts whose tokens are to be told; other fields are ignored."""

    model: ModelName = None
    texts: Annotated[list[str], FailFast(), _TEXTS, WithJsonSchema(TEXT_OR_TEXTS)] = Field(
        alias="inputs", description="A text or a list of them."
    )
    add_special_tokens: bool = Field(
        default=True, description="Put the tokens around every text that the model reads there."
    )
    prompt_name: PromptName = None


def _lists(value: object) -> object:
    """Return the lists of ids of a field that may have one or a list of them. Raises Problem."""
    if value == []:
        raise Problem("no-text", "ids: at least one list of token ids is needed")
    if not isinstance(value, list):
        kind, what = "no_ids", "a list of token ids is needed, or a list of such lists"
        raise PydanticCustomError(kind, what)
    lists = value if isinstance(value[0], list) else [value]
    return [[schemas.whole(one) for one in ids] if isinstance(ids, list) else ids for ids in lists]


_ID = {"type": "integer", "minimum": 0, "maximum": MAX_ID}
_IDS = {"type": "array", "items": _ID}
_LISTS = {"anyOf": [{**_IDS, "minItems": 1}, {"type": "array", "items": _IDS, "minItems": 1}]}


class DecodeRequest(Wire):
    """Token ids whose text is to be told; other fields are ignored."""

    model: ModelName = None
    ids: Annotated[
        list[Annotated[list[Annotated[int, Field(ge=0, le=MAX_ID)]], FailFast()]],
        FailFast(),
        BeforeValidator(_lists),
        WithJsonSchema(_LISTS),
    ] = Field(description="The ids of a text, or a list of such lists.")
    skip_special_tokens: bool = Field(
        default=True, description="Leave out the tokens that are put around texts."
    )


class TokenAnswer(Answer):
    """A token of a text."""

    id: int
    text: str = Field(
        description="What of the text it stands for, or how a special one is spelled."
    )
    special: bool = Field(description="Whether it is put around the text.")
    start: int | None = Field(description="In bytes of the text's UTF-8, its prompt included.")
    stop: int | None


class TokenizeAnswer(RootModel[list[list[TokenAnswer]]]):
    """The tokens of each of the `inputs`."""


class DecodeAnswer(RootModel[list[str]]):
    """The text of each list of ids."""


class Vectors(RootModel[list[list[float]]]):
    """A vector of each of the `inputs`."""


class TeiError(Answer):
    """Any error of these routes."""

    error: str
    error_type: str = Field(description="Validation, Empty, Overloaded, Unhealthy or Backend.")


def form(problem: Problem) -> tuple[int, dict[str, object], dict[str, str]]:
    """Return the status and the body that clients of text-embeddings-inference read of an error."""
    status = problem.status
    kind = "Empty" if problem.kind == "no-text" else "Validation"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "Overloaded"
    elif status == HTTPStatus.SERVICE_UNAVAILABLE:
        kind = "Unhealthy"
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = "Backend"
    said = "; ".join(part for part in (problem.what, problem.why, problem.next_step) if part)
    return status, {"error": said, "error_type": kind}, {}


_ERRORS = responses.error_responses(TeiError, 400, 404, 413, 415, 422, 429, 503, 507)
# Of the JSON of tokens: what is written in one turn of the tokenizer, and a value of it, about.
PART_BYTES, VALUE_BYTES = 1 << 16, 8
PATHS = frozenset({"/similarity", "/tokenize", "/decode"})
DIALECT = Dialect(paths=PATHS, prefixes=(), form=form)


def _truncation(asked: InputsRequest | Comparing) -> Truncation:
    """Return where texts are cut; TEI's servers cut them unless they are told not to."""
    if asked.truncate is False:
        return "never"
    return "left" if asked.truncation_direction.lower() == "left" else "right"


async def embed(request: Request, asked: InputsRequest) -> Response:
    """Answer a request of POST /embed that has `inputs`, for one text with a list, too."""
    began = time.perf_counter()
    encoder = service_of(request).encoder
    model = encoder.named(asked.model)
    async with in_use(request, model) as (loaded, disconnected):
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
            model=model,
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
    responses=_ERRORS,
)
async def similarity(request: Request) -> Response:
    """Return the cosine of one text's vector to each of the others."""
    began = time.perf_counter()
    service = service_of(request)
    service.encoder.ready()
    body = await bodies.read(request, max_bytes=service.settings.limits.max_body_bytes)
    asked = await responses.validated(body, SimilarityRequest)
    how = asked.parameters or Comparing()
    model = service.encoder.named(asked.model)
    async with in_use(request, model) as (loaded, disconnected):
        prompt = loaded.prompts.choose(name=how.prompt_name, text=None, input_type=None)
        size = responses.size_of(len(asked.texts), loaded.engine.dim, encoding="binary")
        share_of(request).expect(size)
        found = await service.encoder.embed(
            asked.texts,
            Space(loaded.engine.pooling, prompt=prompt),
            model=model,
            truncate=_truncation(how),
            disconnected=disconnected,
        )
    cosines = found.rows[:-1] @ found.rows[-1]
    return responses.answer(
        [float(one) for one in np.clip(np.asarray(cosines, dtype=np.float64), -1, 1)],
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


def _written(
    texts: Sequence[str], vocabulary: Vocabulary, *, adds_special: bool
) -> Iterator[bytes]:
    """Yield parts of the JSON of the tokens of all texts, for each turn of the tokenizer one."""
    around = vocabulary.around if adds_special else ((), ())
    before, after = ([_special(vocabulary, one) for one in ids] for ids in around)
    part = bytearray(b"[")
    for index, text in enumerate(texts):
        part += b",[" if index else b"["
        is_first = True
        for tokens in chain([before], _tokens(text, vocabulary), [after]):
            if tokens:
                part += b"" if is_first else b","
                part += orjson.dumps(tokens)[1:-1]
                is_first = False
            if len(part) >= PART_BYTES:
                yield bytes(part)
                part.clear()
        part += b"]"
    yield bytes(part + b"]")


def _special(vocabulary: Vocabulary, number: int) -> dict[str, object]:
    text = vocabulary.spell(number)
    return {"id": number, "text": text, "special": True, "start": None, "stop": None}


def _tokens(text: str, vocabulary: Vocabulary) -> Iterator[list[dict[str, object]]]:
    places = _bytes_before(text)
    for tokens in vocabulary.read(text):
        yield [
            {
                "id": number,
                "text": text[start:end],
                "special": False,
                "start": places[start],
                "stop": places[end],
            }
            for number, start, end in tokens
        ]


def _bytes_before(text: str) -> Sequence[int]:
    """Return how many bytes stand before each character of a text, and how many there are."""
    if text.isascii():
        return range(len(text) + 1)
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    widths = np.ones(len(points) + 1, dtype=np.uintc)
    widths[0] = 0
    for last in (0x7F, 0x7FF, 0xFFFF):  # of those that take one byte, two and three
        widths[1:] += points > last
    return array("I", np.cumsum(widths, dtype=np.uintc).tobytes())


@router.post(
    "/tokenize",
    openapi_extra=responses.body_of(TokenizeRequest),
    responses={200: {"model": TokenizeAnswer}, **_ERRORS},
)
async def tokenize(request: Request) -> Response:
    """Return the tokens of texts."""
    service = service_of(request)
    service.encoder.ready()
    limits = service.settings.limits
    body = await bodies.read(request, max_bytes=limits.max_body_bytes)
    asked = await responses.validated(body, TokenizeRequest)
    parts, size = list[bytes](), 0
    model = service.encoder.named(asked.model)
    async with in_use(request, model) as (loaded, disconnected):
        prompt = loaded.prompts.choose(name=asked.prompt_name, text=None, input_type=None)
        texts = PromptedTexts(asked.texts, prompt)
        refuse_oversize(texts.lengths, limits)
        if sum(texts.lengths) > limits.max_text_chars:
            what = f"inputs: more than {limits.max_text_chars} characters together"
            raise Problem("text-too-long", what, next_step="send fewer texts at once")
        write = partial(_written, texts, adds_special=asked.add_special_tokens)
        async for part in service.encoder.told(write, model=model, disconnected=disconnected):
            parts.append(part)
            size += len(part)
            share_of(request).expect(size)
    answer = await responses.written(size // VALUE_BYTES, lambda: b"".join(parts))
    return responses.json_response(answer, headers=model_header(loaded))


@router.post(
    "/decode",
    openapi_extra=responses.body_of(DecodeRequest),
    responses={200: {"model": DecodeAnswer}, **_ERRORS},
)
async def decode(request: Request) -> Response:
    """Return the texts of token ids."""
    service = service_of(request)
    service.encoder.ready()
    body = await bodies.read(request, max_bytes=service.settings.limits.max_body_bytes)
    asked = await responses.validated(body, DecodeRequest)
    texts: list[str] = []
    tell = partial(_decoded, asked.ids, skips_special=asked.skip_special_tokens)
    model = service.encoder.named(asked.model)
    async with in_use(request, model) as (loaded, disconnected):
        async for found in service.encoder.told(tell, model=model, disconnected=disconnected):
            texts += found
    return responses.answer(texts, headers=model_header(loaded))


def _decoded(
    lists: list[list[int]], vocabulary: Vocabulary, *, skips_special: bool
) -> Iterator[list[str]]:
    """Yield the texts of some of the lists, for each turn of the tokenizer."""
    lengths = [len(ids) for ids in lists]
    for run in slices(lengths, max_rows=TOKENIZE_ROWS, max_total=PART_TOKENS):
        yield [vocabulary.decode(ids, skips_special=skips_special) for ids in lists[run]]
