"""What is refused of a request before its route has it, in the form that its client reads."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.settings import Bounds, Settings
from tests.support.doorstep import HOST, JSON, Doorstep, header, rest, status, until

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = Bounds(body_s=0.4, linger_s=0.3)
KEYS = {
    "/embed": {"type", "title", "status", "detail", "why", "next", "request"},
    "/v1/embeddings": {"error"},
    "//v1//embeddings/": {"error"},
    "/api/embed": {"error"},
    "/similarity": {"error", "error_type"},
    "/tokenize": {"error", "error_type"},
    "/decode": {"error", "error_type"},
}
ALLOWED = "app://obsidian.md"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LENGTH = b"Content-Length: 9\r\n"


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Doorstep]:
    with contextlib.closing(Doorstep(Settings(port=0, bounds=QUICK), monkeypatch)) as made:
        yield made


def head(path: str, *lines: bytes) -> bytes:
    return b"".join((f"POST {path}?a=b HTTP/1.1\r\n".encode(), HOST, JSON, *lines, b"\r\n"))


def body(answer: bytes, path: str) -> dict[str, Any]:
    """Return the body, which has the form of the path's dialect and names its request."""
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert found.keys() == KEYS[path], found
    media_type = "application/problem+json" if path == "/embed" else "application/json"
    assert header(answer, "content-type") == media_type
    assert header(answer, "connection") == "close"
    assert header(answer, "x-request-id")
    return found


def test_what_ends_a_connection_has_the_form_of_the_path(door: Doorstep) -> None:
    with contextlib.ExitStack() as stack:
        clients = {path: stack.enter_context(door.connect()) for path in KEYS}
        for path, client in clients.items():  # they wait for their end meanwhile
            client.sendall(head(path, LENGTH, b"X-Request-Id: my.id-1\r\n") + b"{")
        for path in KEYS:
            for sent, expected in (
                (head(path, LENGTH, CHUNKED), 400),
                (head(path, CHUNKED) + b"nonsense\r\n", 400),
                (head(path, b"X: y\r\n" * 100), 431),
            ):
                answer = door.say(sent)
                assert status(answer) == expected
                body(answer, path)
        for path, client in clients.items():
            answer = rest(client)
            assert status(answer) == 408
            body(answer, path)
            assert header(answer, "x-request-id") == "my.id-1"


def test_a_request_that_breaks_off_is_counted_once(door: Doorstep) -> None:
    assert status(door.say(head("/embed", CHUNKED) + b"nonsense\r\n")) == 400
    until(lambda: bool(door.encoder.counts.requests))
    assert door.encoder.counts.requests == {("/embed", 400): 1}


def test_an_allowed_page_reads_what_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(port=0, bounds=QUICK, allow_origins=(ALLOWED,))
    with contextlib.closing(Doorstep(settings, monkeypatch)) as door:
        for origin, expected in ((ALLOWED, ALLOWED), ("null", "")):
            line = f"Origin: {origin}\r\n".encode()
            for sent in (
                head("/v1/embeddings", line, LENGTH) + b"{",
                head("/v1/embeddings", line, CHUNKED) + b"nonsense\r\n",
                head("/embed", line, b"X: y\r\n" * 100),
            ):
                answer = door.say(sent)
                assert status(answer) in (400, 403, 408, 431)
                assert header(answer, "access-control-allow-origin") == expected
                assert header(answer, "vary") == "Origin"
        assert header(door.say(b"nonsense\r\n\r\n"), "vary") == "Origin"
