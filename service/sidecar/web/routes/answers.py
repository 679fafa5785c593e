"""From a request to what was asked, and from vectors to bytes, the same for every route."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from sidecar.engines import Vectors
from sidecar.scheduling.cancellation import Disconnected
from sidecar.web import bodies, schemas, vectors
from sidecar.web.errors import MEDIA_TYPE

INLINE_VALUES = 1 << 14
LARGE_VALUES = 1 << 20
LARGE_BODY = 1 << 16
# Large bodies are read one after the other: each may hold the interpreter for a moment, and takes
# memory before it can be refused.
_reading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bodies")
# So are large answers written: one takes twice its memory meanwhile, and the interpreter anyway.
_writing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="answers")


@contextlib.asynccontextmanager
async def departure(request: Request) -> AsyncIterator[Disconnected]:
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


async def validated(kind: type[schemas.Request], body: bytes) -> schemas.Request:
    """Return what `body` asks for; texts of a large one are decoded when they are read.

    Raises Problem 400 and 422.
    """

    def read() -> schemas.Request:
        if len(body) < LARGE_BODY or "texts" not in kind.model_fields:
            return schemas.validate(kind, bodies.parse(body, fields=kind.model_fields))
        value, texts = bodies.parse_texts(body)
        asked: Any = schemas.validate(kind, value)
        made: schemas.Request = asked.model_copy(update={"texts": texts(asked.texts)})
        return made

    if len(body) < LARGE_BODY:
        return read()
    return await asyncio.get_running_loop().run_in_executor(_reading, read)


def as_json(body: bytes) -> Response:
    """Return the answer that carries `body`, which is JSON."""
    return Response(body, media_type="application/json")


def answer(value: object, status: int = HTTPStatus.OK) -> Response:
    """Return the answer that carries `value` as JSON."""
    return Response(orjson.dumps(value), status_code=status, media_type="application/json")


async def with_vectors(
    rows: Vectors, rest: Callable[[], dict[str, object]], *, encoding: str
) -> bytes:
    """Return a JSON object of `rows` in `encoding`, and of what `rest` returns beside them."""

    def build() -> bytes:
        write = vectors.as_base64_json if encoding == "base64" else vectors.as_json
        return b"".join((b'{"vectors":', write(rows), b",", orjson.dumps(rest())[1:]))

    # To change threads takes longer than to write a few rows.
    if rows.size <= INLINE_VALUES:
        return build()
    if rows.size <= LARGE_VALUES:
        return await asyncio.to_thread(build)
    return await asyncio.get_running_loop().run_in_executor(_writing, build)


def body_of(kind: type[schemas.Wire]) -> dict[str, Any]:
    """Return how OpenAPI says that a route takes a JSON body of `kind`."""
    schema = kind.model_json_schema()
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    }


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


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return how OpenAPI says that a route may answer with these problems."""
    schema = schemas.ProblemAnswer.model_json_schema()
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in statuses
    }
