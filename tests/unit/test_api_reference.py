from __future__ import annotations

from tests.support import apireference


def test_api_reference_equals_the_openapi_document() -> None:
    made = apireference.page(apireference.document())
    assert made == apireference.PAGE.read_text(encoding="utf-8"), "ci/api-reference makes it anew"


def test_api_reference_has_every_route_and_field() -> None:
    api = apireference.document()
    page = apireference.PAGE.read_text(encoding="utf-8")
    for path, methods in api["paths"].items():
        for method in methods:
            assert f"## {method.upper()} {path}\n" in page
    for schema in api["components"]["schemas"].values():
        for name in schema.get("properties", ()):
            assert f"| `{name}` |" in page
