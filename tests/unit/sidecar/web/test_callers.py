"""Who is let in by Origin and Sec-Fetch-Site: every row of the table, at every route."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from starlette.routing import Route

from sidecar.problems import STATUSES
from sidecar.settings import Limits, Settings
from sidecar.web import app, callers
from sidecar.web.callers import Caller
from tests.support.stub_engine import Served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from httpx2 import Response

OWN = "http://127.0.0.1:8421"
ALLOWED = "app://obsidian.md"
SITES = (None, "none", "same-origin", "same-site", "cross-site")
# By the origin, for each of SITES: the types that a body may have where a program's may have any,
# or that nothing is let in. Of our page it holds for what it posts.
ANY, JSON, NO = "any", "JSON", "nothing"
TABLE: dict[str | None, tuple[str, ...]] = {
    None: (ANY, ANY, ANY, NO, NO),
    ALLOWED: (JSON, JSON, JSON, JSON, JSON),
    OWN: (JSON, NO, JSON, NO, NO),
    "null": (NO, NO, NO, NO, NO),
    "https://evil.example": (NO, NO, NO, NO, NO),
}
NEVER = (
    *("http://localhost:8421", "https://127.0.0.1:8421", "http://127.0.0.1", f"{OWN}/"),
    *("App://obsidian.md", "app://obsidian.md:1", "app://obsidian.mdx", "", "*"),
)
TYPES = (None, "text/plain", "application/x-www-form-urlencoded", "application/json")
ROUTES = sorted(
    (method, route.path)
    for part in app.PARTS
    for route in part.routes
    if isinstance(route, Route)
    for method in route.methods or ()
)
# Their answer is the same whatever the body.
UNREAD = {f"/api/{name}" for name in ("generate", "chat", "create", "copy", "push", "delete")}
UPLOAD = "/embed-file/upload"  # takes documents


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    made = Served(Settings(allow_origins=(ALLOWED, "tauri://localhost")))
    yield made
    made.close()


def sent(origin: str | None, site: str | None, media_type: str | None = None) -> dict[str, str]:
    headers = {"origin": origin, "sec-fetch-site": site, "content-type": media_type}
    return {name: value for name, value in headers.items() if value is not None}


def readable_by(answer: Response) -> str | None:
    """Return the origin that may read the answer, which is then all that it says of origins."""
    about = {name for name in answer.headers if name.startswith("access-control")}
    assert answer.headers["vary"] == "Origin"
    origin: str | None = answer.headers.get("access-control-allow-origin")
    expected = {"access-control-allow-origin", "access-control-expose-headers"}
    assert about == (expected if origin else set())
    return origin


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_route_lets_in_what_the_table_has(served: Served, method: str, path: str) -> None:
    place = path.replace("{name:path}", "words")
    types = TYPES if method == "POST" else TYPES[:1]
    for (origin, row), media_type in itertools.product(TABLE.items(), types):
        is_closed = origin and (path == "/shutdown" or (origin == OWN and method != "POST"))
        for site, told in zip(SITES, row, strict=True):
            headers = sent(origin, site, media_type)
            body = b"{}" if method == "POST" else b""
            answer = served.request(method, place, headers=headers, content=body)
            allowed = NO if is_closed else told
            case = (origin, site, media_type, answer.text)
            assert (answer.status_code == 403) == (allowed == NO), case
            assert readable_by(answer) == (ALLOWED if origin == ALLOWED else None), case
            if allowed == NO or method != "POST" or path in UNREAD:
                continue
            takes_any = path.startswith("/api/") and allowed == ANY
            taken = "text/plain" if path == UPLOAD else "application/json"
            assert (answer.status_code == 415) == (not takes_any and media_type != taken), case


def who(
    origins: list[str],
    site: str | None = None,
    *,
    method: str = "POST",
    path: str = "/embed",
    own: str | None = OWN,
) -> Caller:
    headers = [(b"origin", origin.encode()) for origin in origins]
    headers += [(b"sec-fetch-site", site.encode())] if site else []
    scope = {"method": method, "path": path, "headers": headers}
    allowed = callers.allowed([ALLOWED])
    return callers.caller_of(scope, allowed=allowed, own=own.encode() if own else None)


def test_a_page_is_told_by_its_whole_origin_given_once() -> None:
    assert who([]) is Caller.PROGRAM
    assert who([ALLOWED]) is Caller.ALLOWED_PAGE
    assert who([OWN]) is Caller.OUR_PAGE
    for origin in NEVER:
        assert who([origin]) is Caller.PAGE
    for other in (ALLOWED, OWN, "null"):
        assert who([ALLOWED, other]) is Caller.PAGE
        assert who([OWN, other]) is Caller.PAGE


def test_where_our_page_is_not_served_none_is_ours() -> None:
    for origin in (OWN, "", "None", "http://"):
        assert who([origin], own=None) is Caller.PAGE


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "post"])
def test_our_page_is_known_by_its_origin_where_it_posts(method: str) -> None:
    assert who([OWN], method=method) is Caller.PAGE
    assert who([], "same-origin", method=method) is Caller.PROGRAM


def test_no_page_stops_the_service() -> None:
    for origin in (ALLOWED, OWN):
        assert who([origin], path="/shutdown") is Caller.PAGE
    assert who([], path="/shutdown") is Caller.PROGRAM


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site", "", "something"])
def test_an_unknown_site_is_that_of_a_page(site: str) -> None:
    scope = {"method": "GET", "path": "/", "headers": [(b"sec-fetch-site", site.encode())]}
    assert callers.caller_of(scope, allowed=frozenset(), own=None) is Caller.PAGE


def asked(
    served: Served, headers: str | None, *, method: str = "POST", path: str = "/v1/embeddings"
) -> Response:
    """Return the answer to a preflight of the allowed page."""
    given = {"origin": ALLOWED, "access-control-request-method": method}
    if headers is not None:
        given["access-control-request-headers"] = headers
    return served.request("OPTIONS", path, headers=given)


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings", "/api/embed", "/nothing", "/"])
def test_a_preflight_is_answered_with_the_lists(served: Served, path: str) -> None:
    answer = asked(served, "authorization,content-type,x-stainless-retry-count", path=path)
    assert (answer.status_code, answer.content) == (204, b"")
    told = {name: value for name, value in answer.headers.items() if "origin" not in name}
    assert told["vary"] == "Origin"
    assert answer.headers["access-control-allow-origin"] == ALLOWED
    assert set(told["access-control-allow-methods"].split(", ")) == set(callers.METHODS)
    names = set(told["access-control-allow-headers"].split(", "))
    assert names == callers.SENT | {"x-stainless-retry-count"}
    assert "access-control-allow-credentials" not in told


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("PUT", None),
        ("PATCH", "content-type"),
        ("post", None),
        ("POST", "x-sidecar-secret"),
        ("POST", "content-type,cookie"),
        ("POST", "x-stainless-"),
        ("POST", "x-stainless-a b"),
        ("POST", "*"),
    ],
)
def test_a_preflight_for_what_is_not_listed_is_refused(
    served: Served, method: str, headers: str | None
) -> None:
    answer = asked(served, headers, method=method)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "web_page"
    assert "content-type" in answer.json()["error"]["message"]
    assert "access-control-allow-methods" not in answer.headers
    assert "access-control-allow-headers" not in answer.headers


def test_a_preflight_for_a_stop_or_of_another_page_is_refused(served: Served) -> None:
    assert asked(served, None, path="/shutdown").status_code == 403
    for origin in ("null", "https://evil.example", OWN):
        headers = {"origin": origin, "access-control-request-method": "POST"}
        answer = served.request("OPTIONS", "/embed", headers=headers)
        assert answer.status_code == 403
        assert "--allow-origin" in answer.json()["next"]
        assert readable_by(answer) is None


def test_options_that_are_no_preflight_reach_the_routes(served: Served) -> None:
    assert served.request("OPTIONS", "/embed", headers={"origin": ALLOWED}).status_code == 405
    ask = {"access-control-request-method": "POST"}
    assert served.request("OPTIONS", "/embed", headers=ask).status_code == 405


def test_preflights_need_no_token_and_what_follows_does() -> None:
    locked = Served(Settings(allow_origins=(ALLOWED,), token=b"0123456789abcdef"))
    assert asked(locked, "authorization").status_code == 204
    answer = locked.post("/v1/embeddings", {"input": "a"}, headers={"origin": ALLOWED})
    assert answer.status_code == 401
    assert readable_by(answer) == ALLOWED
    health = locked.get("/health", headers={"origin": ALLOWED})
    assert (health.status_code, readable_by(health)) == (200, ALLOWED)
    locked.close()


def test_an_allowed_page_reads_every_failure() -> None:
    limits = Limits(max_body_bytes=64)
    busy = Served(Settings(allow_origins=(ALLOWED,), limits=limits))
    page = {"origin": ALLOWED, "sec-fetch-site": "cross-site", "content-type": "application/json"}
    answers = {
        "unknown-path": busy.get("/nothing", headers=page),
        "wrong-method": busy.get("/embed", headers=page),
        "unknown-host": busy.get("/info", headers=page | {"host": "evil.example"}),
        "bad-json": busy.request("POST", "/embed", headers=page, content=b"{"),
        "bad-value": busy.request("POST", "/embed", headers=page, content=b"{}"),
        "too-large": busy.request("POST", "/embed", headers=page, content=b"{" + b" " * 80),
        "web-page": busy.request("POST", "/shutdown", headers=page),
    }
    busy.encoder.refuse_new()
    answers["stopping"] = busy.request("POST", "/embed", headers=page, content=b"{}")
    busy.close()
    loading = Served(Settings(allow_origins=(ALLOWED,)), is_loaded=False)
    answers["loading"] = loading.get("/info", headers=page)
    loading.close()
    for kind, answer in answers.items():
        assert answer.json()["type"] == f"urn:sidecar:problem:{kind}"
        assert answer.status_code == STATUSES[kind]
        assert readable_by(answer) == ALLOWED


def test_what_our_answers_say_in_headers_a_page_may_read(served: Served) -> None:
    found = set()
    for path, body in (
        ("/embed", {"texts": ["w " * 20]}),
        ("/embed", {"inputs": "w " * 20}),
        ("/v1/embeddings", {"input": "w " * 20}),
        ("/api/embed", {"input": "w " * 20}),
    ):
        for accept in ("application/json", "application/octet-stream"):
            answer = served.post(path, body, headers={"origin": ALLOWED, "accept": accept})
            assert answer.status_code == 200
            shown = answer.headers["access-control-expose-headers"].lower().split(", ")
            ours = {name for name in answer.headers if name.startswith("x-sidecar")}
            assert ours <= set(shown)
            assert {"retry-after", "x-request-id"} <= set(shown)
            found |= ours
    assert len(found) == 6


def test_without_the_option_no_answer_speaks_of_origins() -> None:
    plain = Served()
    for headers in ({}, {"origin": ALLOWED}, {"origin": OWN}):
        answer = plain.get("/info", headers=headers)
        assert answer.status_code == (403 if headers else 200)
        assert not [name for name in answer.headers if name.startswith("access-") or name == "vary"]
    plain.close()


def test_by_a_name_that_anybody_may_use_our_page_does_not_post() -> None:
    everyone = Served(Settings(allow_hosts=("*", "box.local")))
    for host, expected in (("box.local:8421", 200), ("localhost", 200), ("evil.example", 403)):
        headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
        assert everyone.post("/embed", {"texts": ["a"]}, headers=headers).status_code == expected
    everyone.close()
