"""Answers have the fields that the service's OpenAPI document says, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from tests.support.tinypdf import pdf

if TYPE_CHECKING:
    from tests.support.stub_engine import Served

JSON = {"content-type": "application/json"}
REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "health": ("GET", "/health", {}),
    "info": ("GET", "/info", {}),
    "floats": ("POST", "/embed", {"json": {"texts": ["a b", ""]}}),
    "base64": ("POST", "/embed", {"json": {"texts": ["a"], "encoding": "base64"}}),
    "text": (
        "POST",
        "/embed-file/upload",
        {"content": "Grüße".encode("cp1252"), "headers": {"content-type": "text/plain"}},
    ),
    "pdf": (
        "POST",
        "/embed-file/upload",
        {"content": pdf(["one", "two"]), "headers": {"content-type": "application/pdf"}},
    ),
    "refused": ("POST", "/embed", {"json": {"texts": 1}}),
    "undeclared": ("POST", "/embed-file/upload", {}),
    "shutdown": ("POST", "/shutdown", {}),
}


def closed(schema: Any) -> Any:
    """Return `schema` with no fields allowed that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(held) for key, held in schema.items()}
    return {**made, "additionalProperties": False} if "properties" in schema else made


def schema_of(served: Served, method: str, path: str, status: int) -> dict[str, Any]:
    api = served.get("/openapi.json").json()
    contents = api["paths"][path][method.lower()]["responses"][str(status)]["content"]
    kind = "application/json" if status < 400 else "application/problem+json"
    found: dict[str, Any] = closed({**contents[kind]["schema"], "components": api["components"]})
    return found


@pytest.mark.parametrize("name", REQUESTS)
def test_an_answer_has_the_fields_of_its_schema_alone(served: Served, name: str) -> None:
    method, path, options = REQUESTS[name]
    answer = served.request(method, path, **options)
    schema = schema_of(served, method, path, answer.status_code)
    jsonschema.validate(answer.json(), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**answer.json(), "more": 1}, schema)
