"""From a request to what was asked, and from vectors to bytes, the same for every route."""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, cast

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response

from sidecar.engines import Vectors
from sidecar.scheduling.tokenizing import Disconnected
from sidecar.web import bodies, schemas
from sidecar.web.errors import MEDIA_TYPE

CHUNK_VALUES = 1 << 16
_WEIGHT = re.compile(r"(?:^|;)\s*q=([01](?:\.[0-9]{0,3})?)\s*(?:;|$)")
_WIDTH = 4  # bytes of a float32
# A value below 1 with its nine digits, as it is written; the others as they are.
_VALUE_BYTES = {"float": 13.0, "base64": _WIDTH * 4 / 3, "binary": float(_WIDTH)}


def size_of(count: int, dim: int, *, encoding: str) -> int:
    """Return about how many bytes `count` rows of `dim` values take: as float, base64 or binary."""
    return round(count * dim * _VALUE_BYTES[encoding])


def raw(rows: Vectors) -> memoryview:
    """Return the bytes of the rows as little-endian float32, where they lie if they lie so."""
    return np.ascontiguousarray(rows, dtype="<f4").reshape(-1).view(np.uint8).data


def array_of(rows: Vectors, *, encoding: str) -> bytes:
    """Return a JSON array of the rows in `encoding`, in one copy: an answer is held twice at most.

    Made in parts of about a millisecond: orjson holds the interpreter while it writes, and other
    threads run in between. To join bytes does not hold it, to add them does.
    """
    write = _coded if encoding == "base64" else _digits
    step = max(1, CHUNK_VALUES // max(1, rows.shape[1]))
    native = np.ascontiguousarray(rows, dtype="<f4")
    parts = [write(native[start : start + step]) for start in range(0, len(native), step)]
    if not parts:
        return b"[]"
    parts[0] = b"[" + parts[0]
    parts[-1] += b"]"
    return b",".join(parts)


def rows_of(rows: Vectors, *, encoding: str) -> Iterator[bytes]:
    """Yield the JSON of each row in `encoding`."""
    write = _coded if encoding == "base64" else _digits
    native = np.ascontiguousarray(rows, dtype="<f4")
    return (write(native[index : index + 1]) for index in range(len(native)))


def _digits(rows: Vectors) -> bytes:
    """Return the shortest digits that bring every float32 of the rows back exactly."""
    return orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def _coded(rows: Vectors) -> bytes:
    """Return the base64 of every row's little-endian float32 values."""
    return b",".join([b'"%b"' % binascii.b2a_base64(row, newline=False) for row in rows])


def indices(found: Sequence[int], *, max_chars: int = 4_000) -> str:
    """Return indices as a header value, or `count=N` where that would be too long for a client."""
    text = ",".join(map(str, found))
    return text if len(text) <= max_chars else f"count={len(found)}"


INLINE_VALUES = 1 << 14
LARGE_VALUES = 1 << 20
LARGE_BODY = 1 << 16
# Our name for the field of a request that has its texts; APIs have names of their own.
TEXTS = "texts"
# Large bodies are read one after the other: each may hold the interpreter for a moment, and takes
# memory before it can be refused.
_reading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bodies")
# So are large answers written: one takes twice its memory meanwhile, and the interpreter anyway.
_writing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="answers")


@contextlib.contextmanager
def departure(request: Request) -> Iterator[Disconnected]:
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


async def validated(
    body: bytes,
    *kinds: type[schemas.Request],
    choose: Callable[[type[schemas.Request]], None] = lambda _: None,
) -> schemas.Request:
    """Return what `body` asks for: the first of `kinds` that it has all required fields of.

    `choose` hears of that kind before anything in it is refused. Texts of a large one are decoded
    when they are read. Raises Problem 400 and 422.
    """
    fields = _fields(kinds)
    names = [schemas.wire_name(kind, TEXTS) for kind in kinds if TEXTS in kind.model_fields]

    def read() -> schemas.Request:
        if len(body) < LARGE_BODY or not names:
            value = bodies.parse(body, fields=fields)
            choose(schemas.chosen(value, *kinds))
            return schemas.validate(value, *kinds)
        value, texts = bodies.parse_texts(body, names, fields=fields)
        choose(schemas.chosen(value, *kinds))
        asked: Any = schemas.validate(value, *kinds)
        if TEXTS in asked.model_fields_set:
            asked = asked.model_copy(update={TEXTS: texts(asked.texts)})
        return cast("schemas.Request", asked)

    if len(body) < LARGE_BODY:
        return read()
    return await asyncio.get_running_loop().run_in_executor(_reading, read)


@functools.cache
def _fields(kinds: tuple[type[schemas.Wire], ...]) -> frozenset[str]:
    """Return the names of all fields, as they are on the wire."""
    return frozenset(schemas.wire_name(kind, name) for kind in kinds for name in kind.model_fields)


def prefers(request: Request, kind: str, *, over: str = "application/json") -> bool:
    """Return whether the client names `kind` and does not rate `over` above it.

    It does so in Accept, by weights (RFC 9110, 12.5.1).
    """
    rated = {}
    for entry in ",".join(request.headers.getlist("accept")).lower().split(","):
        name, _, parameters = entry.partition(";")
        weight = _WEIGHT.search(parameters)
        rated[name.strip()] = float(weight[1]) if weight else 1.0
    ranges = (over, f"{over.partition('/')[0]}/*", "*/*")  # the most specific counts
    other = next((rated[name] for name in ranges if name in rated), 0.0)
    return 0 < rated.get(kind, 0) >= other


def json_response(body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer that carries `body`, which is JSON."""
    return Response(body, media_type="application/json", headers=headers)


def answer(
    value: object, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the answer that carries `value` as JSON."""
    body = orjson.dumps(value)
    return Response(body, status_code=status, media_type="application/json", headers=headers)


async def with_vectors(
    rows: Vectors, rest: Callable[[], dict[str, object]], *, encoding: str
) -> bytes:
    """Return a JSON object of `rows` in `encoding`, and of what `rest` returns beside them."""

    def build() -> bytes:
        vectors = array_of(rows, encoding=encoding)
        return b"".join((b'{"vectors":', vectors, b",", orjson.dumps(rest())[1:]))

    return await written(rows.size, build)


async def written(values: int, build: Callable[[], bytes]) -> bytes:
    """Return what `build` writes of so many values, off the event loop if they are many."""
    # To change threads takes longer than to write a few rows.
    if values <= INLINE_VALUES:
        return build()
    if values <= LARGE_VALUES:
        return await asyncio.to_thread(build)
    return await asyncio.get_running_loop().run_in_executor(_writing, build)


def body_of(*kinds: type[schemas.Wire]) -> dict[str, Any]:
    """Return how OpenAPI says that a route takes a JSON body of one of `kinds`."""
    found = [kind.model_json_schema() for kind in kinds]
    schema = found[0] if len(found) == 1 else {"oneOf": found}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def query_of(kind: type[schemas.Wire]) -> list[dict[str, Any]]:
    """Return how OpenAPI says that a route takes the fields of `kind` in its query.

    Those that are only ever written, as passwords, have no place there.
    """
    fields = kind.model_json_schema()["properties"]
    return [
        {"name": name, "in": "query", "required": False, "schema": field}
        for name, field in fields.items()
        if not field.get("writeOnly")
    ]


def error_responses(kind: type[schemas.Answer], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return how OpenAPI says that a route may answer with these errors of a dialect.

    Each use of a model costs a start some time, so all but the first refer to it.
    """
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    others = {"content": {"application/json": {"schema": schema}}}
    return {status: others if at else {"model": kind} for at, status in enumerate(statuses)}


@functools.cache
def _schema_of(kind: type[schemas.Answer]) -> dict[str, Any]:
    return kind.model_json_schema()


def problem_responses(
    *statuses: int, or_json: type[schemas.Answer] | None = None
) -> dict[int | str, dict[str, Any]]:
    """Return how OpenAPI says that a route may answer with these problems.

    `or_json` is what a dialect on the same path has in their place.
    """
    content = {MEDIA_TYPE: {"schema": _schema_of(schemas.ProblemAnswer)}}
    if or_json is not None:
        content["application/json"] = {"schema": _schema_of(or_json)}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in statuses
    }
