"""The requests and answers on the wire, as their fields are documented."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from sidecar.documents import encodings
from sidecar.documents.chunking import Chunking, Unit
from sidecar.documents.losses import MAX_LISTED, LossKind, NoteKind
from sidecar.documents.worker import Sandbox
from sidecar.engines import Degraded, Engine
from sidecar.models.prompts import InputType
from sidecar.problems import Problem
from sidecar.process.presence import State

MAX_PASSWORD_CHARS = 1024
MAX_PROMPT_CHARS = 2_000
Pooling = Literal["mean", "cls", "max"]
Pages = Annotated[
    list[int],
    Field(description=f"In a PDF, the pages (from 1) that it concerns, up to {MAX_LISTED}."),
]


def _codec(name: str) -> str:
    try:
        return encodings.codec_of(name)
    except ValueError:
        kind, what = "charset", "no encoding of text has this name"
        raise PydanticCustomError(kind, what) from None


# Which names and lengths there are is the model's: no schema tells. At most one of the first three
# is sent.
PromptName = Annotated[
    str | None,
    Field(description="Name of one of the model's prompts, which is put before every text."),
]
PromptText = Annotated[
    str | None,
    Field(max_length=MAX_PROMPT_CHARS, description="The prompt itself, in place of a name."),
]
PromptFor = Annotated[
    InputType | None,
    Field(description="In place of a name: the model's prompt for queries, or for documents."),
]
Dimensions = Annotated[
    int | None,
    Field(
        ge=1,
        description="Length of the vectors, which are cut and then normalised: for models that "
        "were trained for it (Matryoshka), down to `least_dim` of /info.",
    ),
]


ModelName = Annotated[
    str | None,
    Field(description="A name of one of the models that are served; left out, the first."),
]


# Given by name; the request holds Python's codec for it.
Charset = Annotated[str, AfterValidator(_codec)]


def whole(value: object) -> object:
    """Return 16.0 as 16: JSON Schema calls it an integer, and some languages write it so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Wire(BaseModel):
    """A request; fields it does not know are ignored, as the v1 API did.

    Types are those of the OpenAPI document: "16" is no integer, 1 is no boolean.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _read_integers(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value  # within another request; it is refused for what it is
        return {k: whole(v) for k, v in value.items()}


class Answer(BaseModel):
    """Shape of an answer, built when the API document is asked for: nothing else needs it."""

    model_config = ConfigDict(defer_build=True)


class EmbedRequest(Wire):
    """Texts to embed."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_both(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "texts" in value and "inputs" in value:
            kind, what = "both", "texts and inputs belong to two APIs: send one of them"
            raise PydanticCustomError(kind, what)
        return value

    # An error for each of a million items takes seconds, and one of them is reported.
    texts: Annotated[list[str], FailFast()] = Field(
        description="The texts, in any number; empty ones are allowed."
    )
    normalize: bool = Field(default=True, description="Scale every vector to length 1.")
    pooling: Pooling = Field(default="mean", description="How token vectors are pooled into one.")
    batch_size: int = Field(
        default=16,
        ge=1,
        description="Accepted from older clients; batches follow the measured speed.",
    )
    truncate: bool = Field(
        default=True,
        description="Cut texts that are longer than the model reads, and report them in "
        "`truncated`. With false such a text refuses the request, 422.",
    )
    priority: Literal["auto", "interactive", "bulk"] = Field(
        default="auto",
        description="interactive runs before bulk; auto is interactive for a few short texts.",
    )
    model: ModelName = None
    prompt_name: PromptName = None
    prompt: PromptText = None
    input_type: PromptFor = None
    dimensions: Dimensions = None
    encoding: Literal["float", "base64"] = Field(
        default="float",
        description="base64: every vector is the base64 of its little-endian float32 values.",
    )


class FileOptions(Wire):
    """How a document is cut into chunks and embedded."""

    chunk_size: int = Field(default=800, ge=1, le=1_000_000, description="Length of a chunk.")
    chunk_overlap: int = Field(default=100, ge=0, description="Overlap of neighbouring chunks.")
    max_chunks: int = Field(
        default=200, ge=1, le=65_536, description="Further chunks are left out."
    )
    normalize: bool = Field(default=True, description="Scale every vector to length 1.")
    pooling: Pooling = Field(default="mean", description="How token vectors are pooled into one.")
    unit: Unit = Field(
        default="chars",
        description="Unit of the chunk's length. With tokens, a chunk_size that is "
        "left out becomes the most that the model reads, and the overlap an eighth of it.",
    )
    encoding: Literal["float", "base64"] = Field(
        default="float",
        description="Encoding of the vectors. base64: every vector is the base64 of its "
        "little-endian float32 values.",
    )

    charset: Charset | None = Field(
        default=None,
        description="Encoding of a text file, e.g. shift_jis or windows-1251; a byte order mark "
        "goes first. Left out, it is UTF-8 or detected.",
    )

    password: SecretStr | None = Field(
        default=None,
        max_length=MAX_PASSWORD_CHARS,
        description="Password of an encrypted PDF. For an upload, the header "
        "X-Document-Password; never the query.",
        json_schema_extra={"writeOnly": True},
    )
    model: ModelName = None
    prompt_name: PromptName = None
    prompt: PromptText = None
    input_type: PromptFor = None
    dimensions: Dimensions = None

    def chunking(self, engine: Engine, *, prompt_tokens: int) -> Chunking:
        """Return what is asked for; a chunk of tokens is by default as long as `engine` reads.

        It leaves room for a prompt of so many tokens. An overlap that is left out shrinks with the
        chunk. Raises Problem if one that is given is not smaller than the chunk, and if there is no
        room.
        """
        size, overlap = self.chunk_size, self.chunk_overlap
        if self.unit == "tokens" and "chunk_size" not in self.model_fields_set:
            size = engine.max_tokens - engine.special_tokens - prompt_tokens
            if size < 1:
                what = f"prompt: it leaves no room in the {engine.max_tokens} tokens of a chunk"
                raise Problem("bad-value", what, next_step="send a shorter prompt")
        if "chunk_overlap" not in self.model_fields_set:
            overlap = min(overlap, size // 8)
        elif overlap >= size:
            what = f"chunk_overlap: it must be smaller than chunk_size, which is {size}"
            raise Problem("bad-value", what)
        return Chunking(
            size=size,
            overlap=overlap,
            unit=self.unit,
            max_chunks=self.max_chunks,
            codec=self.charset,
            password=None if self.password is None else self.password.get_secret_value(),
        )


# How OpenAPI says that an upload brings a password.
PASSWORD_HEADER: dict[str, Any] = {
    "name": "X-Document-Password",
    "in": "header",
    "required": False,
    "schema": {
        "type": "string",
        "format": "byte",
        "description": "Password of an encrypted PDF: its UTF-8 in base64.",
    },
}


class EmbedFileRequest(FileOptions):
    """A document of an allowed folder to cut into chunks and embed."""

    path: str = Field(description="An absolute path inside a folder given with --allow-dir.")


class EmbedAnswer(Answer):
    """Vectors in the order of the texts."""

    vectors: list[list[float]] | list[str]
    model: str
    dim: int
    tokens: list[int] = Field(description="Tokens of each text, before any cut.")
    truncated: list[int] = Field(description="Indices of the texts that the model cut.")
    fingerprint: str = Field(description="Vectors with other fingerprints are not comparable.")


class Span(Answer):
    """Position of a chunk: characters of the document's text, and its page in a PDF."""

    page: int | None
    start: int
    end: int
    tokens: int
    truncated: bool


class LossAnswer(Answer):
    """Content of a document that the chunks lack, of one kind; docs/files.md lists the kinds."""

    kind: LossKind
    count: int
    pages: Pages = []


class NoteAnswer(Answer):
    """A change of a document's text, of one kind; nothing is lost by it."""

    kind: NoteKind
    count: int
    share: float | None = Field(
        default=None, description="Share of unknown tokens in all, up to 1; null for other kinds."
    )
    pages: Pages = []


class EmbedFileAnswer(Answer):
    """Chunks of the document, their vectors and their positions, all in one order."""

    chunks: list[str]
    vectors: list[list[float]] | list[str]
    spans: list[Span]
    complete: bool = Field(description="True if there are no losses.")
    losses: list[LossAnswer] = Field(description="Content of the document that the chunks lack.")
    notes: list[NoteAnswer] = Field(description="Changes of the text, and additions to it.")
    encoding: str | None = Field(
        description="Encoding in which a text file was read, as the Encoding Standard names it."
    )
    encoding_confidence: float | None = Field(
        description="Confidence of the detection, up to 1; null without detection."
    )
    reader: int = Field(
        description="Revision of reading and chunking: another one may give other chunks."
    )
    model: str
    dim: int
    fingerprint: str = Field(description="Vectors with other fingerprints are not comparable.")


class ModelHealth(Answer):
    """One of the models that are served."""

    model: str
    phase: str = Field(
        description="unloaded, ready, failed, or how far its loading is. One that is not in memory "
        "is loaded when a request names it, which waits; so is one whose last load failed."
    )
    failure: str | None = Field(
        description="Kind of the problem that its last load ended with, such as model-fails; null "
        "if it did not fail."
    )


class HealthAnswer(Answer):
    """Whether requests are served; 200 when ok, 503 else.

    `stuck`: one call of the engine takes very long. `dead`: the compute thread ended. If the
    service has a token, only requests with it get the fields of the model.
    """

    status: Literal["ok", "loading", "stopping", "stuck", "dead"]
    model: str | None = None
    dim: int | None = None
    device: str | None = None
    phase: str
    instance: str
    version: str
    bundle: State = Field(
        description="gone: the service's bundle was moved, replaced or deleted. It serves "
        "everything but PDFs; restart it from the current path of the bundle."
    )
    degraded: Degraded | None = Field(
        description="The fallback in use: hash without a model, reference instead of the packed "
        "engine, cpu instead of a GPU that failed, float32-products where the processor cannot "
        "multiply bytes for int8. Null if there is none."
    )
    models: list[ModelHealth] = Field(
        default=[], description="All models that are served, the first first."
    )


class LimitsAnswer(Answer):
    """Limits of the service and of one request."""

    max_body_bytes: int
    max_texts: int = Field(description="A JSON body has at most twice as many values in all.")
    max_text_chars: int
    max_file_bytes: int
    max_document_chars: int
    max_chunked_chars: int
    max_pages: int
    document_cpu_s: float = Field(description="CPU time that reading one PDF may take.")
    document_wall_s: float = Field(
        description="Time on the clock that reading one PDF may take, for a busy machine."
    )
    max_waiting_pdfs: int = Field(
        description="Queued PDFs of all requests, and as many again that take long; else 429."
    )
    max_queued_tokens: int = Field(
        description="Queued tokens of all requests, in each of two lanes; else 429. Long requests "
        "are computed part by part, and have half of it together."
    )
    max_held_bytes: int = Field(
        description="Bytes of bodies, documents and unread answers of all requests; else 429."
    )


class FolderAnswer(Answer):
    """A folder given with --allow-dir."""

    number: int = Field(description="From 1, in the order of the options.")
    is_there: bool = Field(description="A missing folder is used as soon as it exists.")
    path: str | None = Field(description="Only for requests with the token.")


class ModelInfo(Answer):
    """One of the models that are served; null is what is not known before it is loaded."""

    model_id: str
    names: list[str] = Field(description="Names that a request may have for it, in any case.")
    phase: str = Field(description="As in /health.")
    failure: str | None = Field(description="As in /health.")
    dim: int | None
    max_tokens: int | None
    pooling: str
    precision: str
    engine: str | None
    device: str | None
    degraded: Degraded | None
    degraded_because: str | None
    revision: str | None
    fingerprint: str | None = Field(description="Fingerprint of requests with default fields.")
    prompts: list[str] = Field(description="Names of the model's prompts.")
    least_dim: int | None = Field(
        description="Smallest number of dimensions to cut vectors to; null if none may be cut."
    )


class InfoAnswer(Answer):
    """The first model, engine and limits of the service."""

    model_id: str
    dim: int
    device: str
    version: str
    engine: str
    unpacked_because: str | None = Field(
        description="Why the packed engine does not serve; null if it does."
    )
    degraded: Degraded | None = Field(description="The fallback in use, as in /health.")
    degraded_because: str | None
    precision: str
    threads: int
    pooling: str
    max_tokens: int
    revision: str
    fingerprint: str = Field(description="Fingerprint of requests with default fields.")
    prompts: list[str] = Field(description="Names of the model's prompts.")
    least_dim: int | None = Field(
        description="Smallest number of dimensions to cut vectors to; null if none may be cut."
    )
    limits: LimitsAnswer
    sandbox: Sandbox = Field(
        description="Sandbox of the processes that read PDFs: seccomp, a filter of system calls on "
        "Linux; job, a job object on Windows; or rlimits alone."
    )
    folders: list[FolderAnswer] = Field(description="Folders that /embed-file may read from.")
    plan: str | None
    model_sha: str = Field(
        description="This and what follows is what clients of text-embeddings-inference read."
    )
    model_dtype: str
    served_model_name: str
    model_type: dict[Literal["embedding"], dict[Literal["pooling"], str]]
    max_input_length: int
    max_batch_tokens: int
    max_client_batch_size: int
    auto_truncate: bool
    models: list[ModelInfo] = Field(description="All models that are served, the first first.")


class ShutdownAnswer(Answer):
    """The service stops once its running requests are answered."""

    status: Literal["stopping"] = "stopping"


class ProblemAnswer(Answer):
    """Any error: what happened, why, and the next step."""

    type: str = Field(
        description="urn:sidecar:problem: and the kind. The kind bundle-gone (503) means that the "
        "service is to be restarted."
    )
    title: str
    status: int
    detail: str
    why: str
    next: str
    request: str | None = Field(description="The request's id, as in the header X-Request-Id.")


Request = TypeVar("Request", bound=Wire)


def validate(value: dict[str, Any], *kinds: type[Request], is_spelled: bool = False) -> Request:
    """Return the request in `value`, whose numbers are spelled out where it comes from a query.

    It is the first of `kinds` that `value` has all required fields of, or the first of all. Raises
    Problem 422 naming the field, never its value.
    """
    kind = chosen(value, *kinds)
    try:
        return kind.model_validate(value, strict=not is_spelled)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        # A position and a field of ours; a key that the client made up is never echoed.
        known = {wire_name(kind, name) for name in kind.model_fields}
        place = ".".join(str(p) for p in first["loc"] if isinstance(p, int) or p in known)
        what = f"{place or 'the request'}: {first['msg']}"
        step = "GET /openapi.json describes the fields"
        if place == "encoding" and "charset" in known:
            step = "encoding is that of the vectors; charset says what the file is encoded in"
        raise Problem("bad-value", what, next_step=step) from error


def chosen(value: dict[str, Any], *kinds: type[Request]) -> type[Request]:
    """Return the first of `kinds` that `value` has all required fields of, or the first of all."""
    return next((kind for kind in kinds if _required(kind) <= value.keys()), kinds[0])


@functools.cache
def _required(kind: type[Wire]) -> frozenset[str]:
    fields = kind.model_fields.items()
    return frozenset(wire_name(kind, name) for name, field in fields if field.is_required())


def wire_name(kind: type[Wire], name: str) -> str:
    """Return what the field `name` is called on the wire."""
    field = kind.model_fields.get(name)
    return (field.alias if field else None) or name
