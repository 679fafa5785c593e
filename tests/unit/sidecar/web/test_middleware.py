from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.settings import Settings
from sidecar.web import middleware
from tests.support.stub_engine import Served

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = "0.0.0.0"


@pytest.fixture
def named() -> Iterator[Served]:
    made = Served(Settings(allow_hosts=("sidecar.internal",)))
    yield made
    made.close()


TOKEN = b"0123456789abcdef"
SHOWN = (b"authorization", b"Bearer " + TOKEN)
HOST = (b"host", b"localhost")


def passes(
    *headers: tuple[bytes, bytes],
    hosts: frozenset[str] = middleware.NAMES,
    token: bytes | None = None,
    path: str = "/embed",
) -> int:
    """Return 200 if a request with these headers reaches the application, else the refusal."""
    sent: list[dict[str, Any]] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> dict[str, Any]:
        pytest.fail("the body was asked for")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
    layer = middleware.AccessMiddleware(
        app, lambda _: pytest.fail("health"), hosts=hosts, token=token
    )
    asyncio.run(layer(scope, receive, send))
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    "host",
    [b"127.0.0.1", b"127.0.0.1:8421", b"localhost:1", b"LocalHost", b"[::1]", b"[::1]:65535"],
)
def test_the_names_of_the_loopback_pass_on_any_port(host: bytes) -> None:
    assert passes((b"host", host)) == 200


@pytest.mark.parametrize(
    "host", [b"evil.example", b"evil.example:8421", b"127.0.0.1.evil.example", b"10.0.0.1", b"[::]"]
)
def test_a_name_that_is_not_ours_is_misdirected(host: bytes) -> None:
    assert passes((b"host", host)) == 421


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b" ",
        b"127.0.0.1/evil?",
        b"127.0.0.1:",
        b"127.0.0.1:123456",
        b"a@127.0.0.1",
        b"\xff",
        b"::1",
    ],
)
def test_a_host_that_is_none_is_a_bad_request(host: bytes) -> None:
    assert passes((b"host", host)) == 400


def test_no_host_and_two_hosts_are_bad_requests() -> None:
    assert passes() == 400
    assert passes((b"host", b"localhost"), (b"host", b"localhost")) == 400


@pytest.mark.parametrize(
    "origin", [b"https://evil.example", b"null", b"", b"http://127.0.0.1:8421", b"app://x"]
)
def test_a_request_of_a_web_page_is_forbidden(origin: bytes) -> None:
    assert passes((b"host", b"localhost"), (b"origin", origin)) == 403


@pytest.mark.parametrize("site", [b"cross-site", b"same-site", b"Cross-Site"])
def test_a_request_that_a_page_caused_is_forbidden_without_an_origin_too(site: bytes) -> None:
    assert passes(HOST, (b"sec-fetch-site", site)) == 403


@pytest.mark.parametrize("site", [b"none", b"same-origin"])
def test_what_the_user_typed_passes(site: bytes) -> None:
    assert passes(HOST, (b"sec-fetch-site", site)) == 200


def test_where_there_is_a_token_it_is_to_be_shown() -> None:
    assert passes(HOST, SHOWN, token=TOKEN) == 200
    assert passes(HOST, token=TOKEN) == 401
    assert passes(HOST, (b"authorization", b"Bearer wrong"), token=TOKEN) == 401


def test_health_alone_passes_without_the_token() -> None:
    assert passes(HOST, token=TOKEN, path="/health") == 200
    for path in ("/health/", "//health", "/info", "/openapi.json", "/", "/nothing", ""):
        assert passes(HOST, token=TOKEN, path=path) == 401


def test_the_token_does_not_open_for_strangers_and_pages() -> None:
    assert passes((b"host", b"evil.example"), SHOWN, token=TOKEN) == 421
    assert passes(HOST, SHOWN, (b"origin", b"null"), token=TOKEN) == 403


def test_missing_wrong_and_misplaced_tokens_get_the_same_answer() -> None:
    locked = Served(Settings(token=TOKEN))
    word = TOKEN.decode()
    answers = [
        locked.post("/embed", {"texts": ["a"]}, headers={"x-request-id": "same"}),
        locked.get("/info", headers={"x-request-id": "same", "authorization": "Bearer wrong"}),
        locked.get(f"/info?token={word}&access_token={word}", headers={"x-request-id": "same"}),
        locked.get(f"/nothing/{word}", headers={"x-request-id": "same"}),
    ]
    opened = locked.get("/info", headers={"authorization": f"Bearer {word}"})
    locked.close()
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    assert len({answer.content for answer in answers}) == 1
    assert word not in answers[0].text
    assert opened.status_code == 200


def test_health_tells_of_the_model_only_who_shows_the_token() -> None:
    locked = Served(Settings(token=TOKEN))
    told = locked.get("/health")
    all_told = locked.get("/health", headers={"authorization": f"Bearer {TOKEN.decode()}"})
    locked.close()
    assert told.status_code == all_told.status_code == 200
    assert set(told.json()) == {"status", "phase", "instance", "version", "bundle"}
    assert all_told.json().items() > told.json().items()
    assert all_told.json()["model"] == "stub/words"


@pytest.mark.parametrize(
    ("host", "more"),
    [
        ("127.0.0.1", set()),
        (ALL, set()),
        ("::", set()),
        ("::1", set()),
        ("192.168.7.2", {"192.168.7.2"}),
        ("FE80::1%eth0", {"[fe80::1]"}),
        ("Box.local", {"box.local"}),
        ("bücher.example", set()),
    ],
)
def test_the_address_that_is_listened_on_is_a_name_unless_it_means_all(
    host: str, more: set[str]
) -> None:
    assert middleware.names(host, ()) == middleware.NAMES | more


def test_allowed_names_are_added_and_a_star_takes_any() -> None:
    assert middleware.names(ALL, ("sidecar",)) == middleware.NAMES | {"sidecar"}
    everyone = middleware.names(ALL, ("*",))
    assert passes((b"host", b"anything.example:1"), hosts=everyone) == 200
    assert passes((b"host", b"not a host"), hosts=everyone) == 400
    assert passes((b"host", b"a"), (b"origin", b"null"), hosts=everyone) == 403


def test_the_app_is_guarded_and_answers_in_the_common_shape(named: Served) -> None:
    assert named.get("/health", headers={"host": "sidecar.internal:80"}).status_code == 200
    refused = named.post("/shutdown", headers={"host": "secret.example"})
    assert refused.status_code == 421
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["connection"] == "close"
    assert "secret" not in refused.text
    assert "--allow-host" in refused.json()["next"]
    assert named.stops == 0


def test_a_preflight_is_forbidden_and_gets_no_cors_header(named: Served) -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    for method, path in (("OPTIONS", "/embed"), ("POST", "/embed"), ("GET", "/health")):
        answer = named.request(method, path, headers=headers)
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]
