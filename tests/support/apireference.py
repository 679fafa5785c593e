"""docs/api.md, made from the service's OpenAPI document: `ci/api-reference` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.stub_engine import Served

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE = Path(__file__).parents[2] / "docs/api.md"
HEAD = """\
# API reference

Written by `ci/api-reference` from the service's OpenAPI document (`GET /openapi.json`). Errors are
`application/problem+json` in one shape, see [troubleshooting](troubleshooting.md#problems). Beside
those listed, every route may answer 400, 403, 408, 421 or 431 before the request is read, 401 if
the service has a token, and 429 if too many bodies are held; unknown paths get 404, other methods
405. HEAD is answered wherever GET is, without the body.
"""


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    served = Served()
    try:
        found: dict[str, Any] = served.get("/openapi.json").json()
    finally:
        served.close()
    return found


def page(api: dict[str, Any]) -> str:
    """Return the page."""
    return "\n".join([HEAD, *_routes(api), *_schemas(api)]).rstrip() + "\n"


def _routes(api: dict[str, Any]) -> Iterator[str]:
    for path, methods in api["paths"].items():
        for method, route in methods.items():
            yield f"## {method.upper()} {path}\n\n{_text(route['description'])}\n"
            bodies = route.get("requestBody", {}).get("content", {})
            for kind, content in bodies.items():
                forms = [one for one in _forms(content["schema"]) if "properties" in one]
                for schema in forms:
                    what = f": {_text(schema['description'])}" if len(forms) > 1 else ":"
                    yield f"Request, `{kind}`{what}\n\n{_fields(schema)}\n"
            if bodies and not any("properties" in str(body["schema"]) for body in bodies.values()):
                yield f"Request: a body of type {_codes(bodies)}.\n"
            for place, title in (("query", "Query"), ("header", "Headers")):
                given = [entry for entry in route.get("parameters", ()) if entry["in"] == place]
                properties = {entry["name"]: entry["schema"] for entry in given}
                if properties:
                    yield f"{title}:\n\n{_fields({'properties': properties})}\n"
            yield f"{_answers(route['responses'])}\n"


def _forms(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the schemas of the kinds of body that a route takes."""
    found: list[dict[str, Any]] = schema.get("oneOf", [schema])
    return found


def _answers(responses: dict[str, Any]) -> str:
    lines, problems = [], []
    for status, response in responses.items():
        contents = response.get("content", {})
        if set(contents) == {"application/problem+json"}:
            problems.append(status)
            continue
        named = []
        for kind, content in contents.items():
            name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
            named.append(f"`{kind}`" + (f" [{name}](#{name.lower()})" if name else ""))
        lines.append(f"- **{status}**: {', '.join(named)}")
    lines += [f"- problems: {', '.join(problems)}"] if problems else []
    return "\n".join(lines)


def _schemas(api: dict[str, Any]) -> Iterator[str]:
    yield "# Answers\n"
    for name, schema in api["components"]["schemas"].items():
        fields = f"{_fields(schema)}\n" if "properties" in schema else ""
        yield f"## {name}\n\n{_text(schema['description'])}\n\n{fields}"


def _fields(schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    lines = ["| field | type | default | |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        default = "required" if name in required else _code(field.get("default"))
        says = _text(field.get("description", ""))
        lines.append(f"| `{name}` | {_kind(field)} | {default} | {says} |")
    return "\n".join(lines)


def _kind(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in field:
        return _codes(field["enum"])
    if "anyOf" in field:
        return " or ".join(_kind(choice) for choice in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_kind(field['items'])}"
    bounds = [
        f"{sign} {int(field[key]):,}"
        for key, sign in (("minimum", "≥"), ("maximum", "≤"))
        if key in field
    ]
    return " ".join([field.get("type", "any"), *bounds])


def _codes(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _code(value: object) -> str:
    if value is None:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _text(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(document()), encoding="utf-8")
