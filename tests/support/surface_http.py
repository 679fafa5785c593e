"""What is public of the service over HTTP: routes, fields, headers, problems, metrics."""

from __future__ import annotations

import ast
import json
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.documents import pdf_process
from sidecar.settings import Settings
from sidecar.web import errors
from tests.support import apireference, doorstep
from tests.support.doorstep import Doorstep
from tests.support.failures import ROUTED, raised, service_code
from tests.support.stub_engine import Served

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
NOT_ALLOWED = 405
DOCUMENT = "/openapi.json"  # a route that the document itself is silent of


def lines() -> Iterator[str]:
    """Yield a line for each fact, in no order."""
    api = apireference.document()
    yield from _routes(api)
    yield from _answered()
    yield from _on_the_wire()
    yield from _problems()
    yield from _metrics()


def _routes(api: dict[str, Any]) -> Iterator[str]:
    served = Served()
    try:
        for path in (*api["paths"], DOCUMENT):
            for method in METHODS:
                if served.request(method, path).status_code != NOT_ALLOWED:
                    yield f"route: {method} {path}"
    finally:
        served.close()
    for path, methods in api["paths"].items():
        for method, route in methods.items():
            place = f"{method.upper()} {path}"
            yield from _requests(route, api, f"request {place}")
            yield from _answers(route, api, f"answer {place}")


def _requests(route: dict[str, Any], api: dict[str, Any], place: str) -> Iterator[str]:
    body = route.get("requestBody", {})
    for media_type, content in body.get("content", {}).items():
        yield f"{place} {media_type}, {_needed(is_required=body['required'])}"
        yield from _fields(content["schema"], api, f"{place}: ")
    for given in route.get("parameters", ()):
        needed = _needed(is_required=given["required"]) + _default(given["schema"])
        yield f"{place}: {given['in']} {given['name']}: {_kind(given['schema'], api)}, {needed}"


def _answers(route: dict[str, Any], api: dict[str, Any], place: str) -> Iterator[str]:
    for status, answer in route["responses"].items():
        for media_type, content in answer.get("content", {}).items():
            yield f"{place} {status} {media_type}"
            start = "answer problem: " if "problem" in media_type else f"{place} {status}: "
            yield from _fields(content.get("schema", {}), api, start)


def _fields(schema: dict[str, Any], api: dict[str, Any], start: str) -> Iterator[str]:
    """Yield a line for each field of an object, and of the objects in it."""
    schema = _resolved(schema, api)
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _fields(choice, api, start)
    if "items" in schema:
        yield from _fields(schema["items"], api, f"{start.removesuffix('.')}[].")
    for name, field in schema.get("properties", {}).items():
        needed = _needed(is_required=name in schema.get("required", ()))
        yield f"{start}{name}: {_kind(field, api)}, {needed}{_default(field)}"
        yield from _fields(field, api, f"{start}{name}.")


def _resolved(schema: dict[str, Any], api: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    found: dict[str, Any] = api["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _kind(schema: dict[str, Any], api: dict[str, Any]) -> str:
    """Return the type of a field in words, and whatever bounds it."""
    schema = _resolved(schema, api)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        kind = " or ".join(_kind(choice, api) for choice in choices)
    elif "enum" in schema:
        kind = "|".join(sorted(schema["enum"]))
    elif "const" in schema:
        kind = schema["const"]
    elif schema.get("type") == "array":
        kind = f"list of {_kind(schema['items'], api)}"
    else:
        kind = schema.get("type", "any")
    told = {"$ref", "anyOf", "const", "default", "description", "enum", "items", "oneOf"}
    told |= {"properties", "required", "title", "type"}
    bounds = {key: schema[key] for key in sorted(set(schema) - told)}
    for key, bound in bounds.items():
        # pydantic writes 1, FastAPI makes it 1.0.
        is_whole = isinstance(bound, float) and bound.is_integer()
        kind += f" {key}={int(bound) if is_whole else json.dumps(bound)}"
    return str(kind)


def _needed(*, is_required: bool) -> str:
    return "required" if is_required else "optional"


def _default(schema: dict[str, Any]) -> str:
    return f", default {json.dumps(schema['default'])}" if "default" in schema else ""


def _answered() -> Iterator[str]:
    """Yield the headers of answers, and the fields of those that OpenAPI has no schema for."""
    plain = {"Content-Type": "text/plain"}
    ours, foreign = Served(), Served(Settings(token=b"a token of thirty-two characters"))
    loading = Served(is_loaded=False)
    body = {"texts": ["one two"]}
    try:
        answers = {
            "GET /": ours.get("/"),
            "GET / as html": ours.get("/", headers={"Accept": "text/html"}),
            "GET /health": ours.get("/health"),
            "GET /info": ours.get("/info"),
            "GET /metrics": ours.get("/metrics"),
            "GET /openapi.json": ours.get("/openapi.json"),
            "POST /embed": ours.post("/embed", body),
            "POST /embed as octet-stream": ours.post(
                "/embed", body, headers={"Accept": "application/octet-stream"}
            ),
            "POST /embed-file/upload": ours.post(
                "/embed-file/upload", content=b"one two", headers=plain
            ),
            "POST /embed-file/upload as x-ndjson": ours.post(
                "/embed-file/upload",
                content=b"one two",
                headers=plain | {"Accept": "application/x-ndjson"},
            ),
            "POST /shutdown": ours.post("/shutdown"),
        }
        problems = [
            foreign.get("/info"),
            loading.post("/embed", body),
            ours.get("/nothing"),
            ours.get("/embed"),
            ours.post("/embed", content=b"{", headers={"Content-Type": "application/json"}),
            ours.post("/embed", {"texts": 1}),
            ours.get("/health", headers={"Host": "a b"}),
            ours.get("/health", headers={"Host": "example.org"}),
            ours.get("/health", headers={"Origin": "http://example.org"}),
        ]
    finally:
        for served in (ours, foreign, loading):
            served.close()
    for place, answer in answers.items():
        yield f"answer {place}: status {answer.status_code}"
        yield from _headers(f"answer {place}", answer.headers.items())
        if answer.headers["content-type"] == "application/json" and DOCUMENT not in place:
            yield from (f"answer {place}: sends {key}" for key in _sent(answer.json()))
    for answer in problems:
        kind = answer.json().get("type", "none").rpartition(":")[2]
        yield from _headers(f"problem {answer.status_code} {kind}", answer.headers.items())
    told = answers["POST /embed-file/upload as x-ndjson"].text.splitlines()
    for line in map(json.loads, told):
        if line["type"] != "progress":  # sent where reading takes long, as on a busy machine
            yield from _line(line["type"], line.get("data"))
    for node in (node for module in service_code() for node in ast.walk(module)):
        match node:
            case ast.Call(func=ast.Name("line"), args=[ast.Constant(str(kind)), data]):
                is_literal = isinstance(data, ast.Constant) and isinstance(data.value, bytes)
                yield from _line(kind, json.loads(ast.literal_eval(data)) if is_literal else {})
            case _:
                pass


def _line(kind: str, data: object) -> Iterator[str]:
    start = f"answer POST /embed-file/upload as x-ndjson: sends {kind}"
    yield start
    yield from (f"{start} {key}" for key in _sent({"data": data}))


def _sent(value: object) -> Iterator[str]:
    """Yield the keys in `value`; which types they may have, no one answer says."""
    return (key.partition(":")[0] for key in members(value))


def _on_the_wire() -> Iterator[str]:
    """Yield the headers of requests that are refused before the application sees them."""
    head = b"GET /info HTTP/1.1\r\n" + doorstep.HOST
    with pytest.MonkeyPatch.context() as patched:
        door = Doorstep(Settings(port=0), patched)
        try:
            answers = {
                "answer": door.get("/info"),
                "problem 400 bad-request": door.say(b"nonsense\r\n\r\n"),
                "problem 431 large-head": door.say(head + b"X: y\r\n" * 100 + b"\r\n"),
            }
        finally:
            door.close()
    for place, answer in answers.items():
        assert place == "answer" or place.endswith(doorstep.kind(answer)), place
        lines = answer.partition(b"\r\n\r\n")[0].decode().splitlines()[1:]
        named = (line.partition(": ")[::2] for line in lines)
        yield from _headers(place, named)


def _headers(place: str, headers: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, value in headers:
        shown = f": {value}" if name.lower() == "content-type" else ""
        yield f"{place}: header {name.lower()}{shown}"


def _problems() -> Iterator[str]:
    known: dict[tuple[int, str], set[str]] = {entry: set() for entry in ROUTED}
    for word in pdf_process.REFUSALS:
        problem = pdf_process.refusal(word)
        known[problem.status, problem.kind] = set(errors.headers_of(problem))
    for (status, kind), headers in (known | raised()).items():
        yield f"problem {status} {kind}"
        yield from (f"problem {status} {kind}: header {name.lower()}" for name in headers)


def _metrics() -> Iterator[str]:
    """Yield our metrics and their labels; those of the process are the library's."""
    served = Served()
    try:
        served.post("/embed-file/upload", content=b"one", headers={"Content-Type": "text/plain"})
        served.workers.counts["crash"] += 1  # as if a PDF had been read
        answer = served.get("/metrics")
    finally:
        served.close()
    for family in text_string_to_metric_families(answer.text if answer.is_success else ""):
        for sample in family.samples if family.name.startswith("sidecar_") else ():
            labels = f"{{{', '.join(sorted(sample.labels))}}}" if sample.labels else ""
            yield f"metric: {family.type} {sample.name}{labels}"
            if bound := sample.labels.get("le"):
                yield f"metric: {sample.name} le={bound}"


def members(value: object, place: str = "", *, named: Collection[str] = ()) -> Iterator[str]:
    """Yield each key in `value` by its path, and the type of what it holds.

    In the tables at the paths `named`, keys are names of things: `*` stands for each.
    """
    if isinstance(value, dict):
        for key, held in value.items():
            below = ".".join(filter(None, (place, "*" if place in named else key)))
            yield f"{below}: {kind_of(held)}"
            yield from members(held, below, named=named)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for held in value:
            yield from members(held, f"{place}[]", named=named)


def kind_of(value: object) -> str:
    """Return what JSON or TOML calls the type of `value`."""
    match value:
        case dict():
            return "table"
        case list():
            return f"list of {' or '.join(sorted({kind_of(held) for held in value}))}".rstrip()
        case bool():
            return "boolean"
        case None:
            return "null"
        case _:
            return {int: "integer", float: "number", str: "string"}[type(value)]
