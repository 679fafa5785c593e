"""Strangers, pages, floods and silence at the door of the service as a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import storm, stub_service
from tests.support.doorstep import CLOSE, HOST, header, kind, post, rest, status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM = [sys.executable, "-B", str(Path(stub_service.__file__))]
TOKEN = "0123456789abcdef" * 2
SHOWN = f"Authorization: Bearer {TOKEN}\r\n".encode()
PREFIX = "PROGRESS:"
WAIT_S = 60


class Process:
    """A running service and what it logs; `port` is told by its ready line."""

    def __init__(
        self, options: list[str], log: Path, given: str | None, **environment: str
    ) -> None:
        self._log = log
        with log.open("wb") as errors:
            self.popen = subprocess.Popen(
                [*PROGRAM, "--port", "0", *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                encoding="utf-8",
            )
        assert self.popen.stdin is not None
        if given is not None:
            self.popen.stdin.write(given)
            self.popen.stdin.flush()
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            event: Any = json.loads(line.removeprefix(PREFIX))
            if event["type"] == "ready":
                self.port: int = event["data"]["port"]
                return
        raise AssertionError(self.log)

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def say(self, *parts: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S) as client:
            for part in parts:
                client.sendall(part)
            return rest(client)

    def get(self, path: str, *headers: bytes) -> bytes:
        return self.say(f"GET {path} HTTP/1.1\r\n".encode(), CLOSE, HOST, *headers, b"\r\n")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def begin(*options: str, given: str | None = None, **environment: str) -> Process:
        made.append(Process([*options], tmp_path / f"log{len(made)}", given, **environment))
        return made[-1]

    yield begin
    for process in made:
        process.popen.kill()
        process.popen.communicate()


@pytest.mark.parametrize("options", [[], ["--allow-origin", "app://obsidian.md"]], ids=len)
def test_strangers_and_pages_are_refused_without_a_cors_header(
    start: Callable[..., Process], options: list[str]
) -> None:
    service = start(*options)
    ask = b"Access-Control-Request-Method: POST\r\n"
    for path, lines, expected in (
        (b"POST /embed", b"Host: evil.example\r\n", 421),
        (b"POST /v1/embeddings", b"Host: evil.example\r\n", 421),
        (b"GET /info", b"Host: localhost\r\nHost: localhost\r\n", 400),
        (b"GET /api/tags", b"", 400),
        (b"GET /info", b"Host: 127.0.0.1/evil?\r\n", 400),
        (b"GET /info", HOST + b"Origin: https://evil.example\r\n", 403),
        (b"GET /health", HOST + b"Origin: null\r\n", 403),
        (b"GET /v1/models", HOST + b"Sec-Fetch-Site: cross-site\r\n", 403),
        (b"POST /api/embed", HOST + b"Origin: null\r\n", 403),
        (b"OPTIONS /embed", HOST + b"Origin: null\r\n" + ask, 403),
        (b"OPTIONS /similarity", HOST + b"Origin: app://obsidian.mdx\r\n" + ask, 403),
        (b"GET /info", HOST + CLOSE, 200),
    ):
        answer = service.say(path + b" HTTP/1.1\r\n" + lines + b"\r\n")
        assert status(answer) == expected, (path, lines)
        assert b"access-control" not in answer.lower()
        assert header(answer, "x-request-id")


def test_an_allowed_page_asks_sends_and_reads(start: Callable[..., Process]) -> None:
    service = start("--allow-origin", "app://obsidian.md", SIDECAR_TOKEN=TOKEN)
    page = b"Origin: app://obsidian.md\r\n"
    ask = b"Access-Control-Request-Method: POST\r\n"
    ask += b"Access-Control-Request-Headers: authorization,content-type\r\n"
    answer = service.say(b"OPTIONS /v1/embeddings HTTP/1.1\r\n", HOST, CLOSE, page, ask, b"\r\n")
    assert status(answer) == 204
    assert answer.endswith(b"\r\n\r\n")
    assert "authorization" in header(answer, "access-control-allow-headers")
    lines = [line.removesuffix(b"\r\n") for line in (page, SHOWN)]
    path = "/v1/embeddings"
    answers = [service.say(post({"input": "a"}, *lines[:count], path=path)) for count in (2, 1)]
    assert [status(one) for one in answers] == [200, 401]
    for one in (answer, *answers):
        assert header(one, "access-control-allow-origin") == "app://obsidian.md"
        assert header(one, "vary") == "Origin"


@pytest.mark.parametrize("origin", ["*", "null", "http://localhost:3000/"])
def test_an_origin_that_cannot_be_allowed_ends_the_start_with_2(origin: str) -> None:
    command = [*PROGRAM, "--port", "0", "--allow-origin", origin]
    ended = subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False)
    assert ended.returncode == 2
    told = json.loads(ended.stderr.splitlines()[-1])
    assert told["why"]
    assert "--allow-origin http://localhost:3000" in told["next"]


@pytest.mark.parametrize("way", ["stdin", "file", "environment"])
def test_a_token_opens_and_is_neither_logged_nor_inherited(
    start: Callable[..., Process], tmp_path: Path, way: str
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN, encoding="ascii")
    file.chmod(0o600)
    if way == "stdin":
        service = start("--token-stdin", "--log-level", "debug", given=f"{TOKEN}\nmore")
    elif way == "file":
        service = start("--token-file", str(file), "--log-level", "debug")
    else:
        service = start("--log-level", "debug", SIDECAR_TOKEN=TOKEN)
    assert status(service.get("/info", SHOWN)) == 200
    refused = [
        service.get("/info"),
        service.get("/info", SHOWN.replace(b"0", b"1")),
        service.get(f"/info?token={TOKEN}"),
        service.get(f"/{TOKEN}"),
        service.say(post({"texts": ["a"]})),
    ]
    assert [kind(answer) for answer in refused] == ["no-token"] * len(refused)
    assert {header(answer, "www-authenticate") for answer in refused} == {"Bearer"}
    told = json.loads(service.get("/health").partition(b"\r\n\r\n")[2])
    assert set(told) == {"status", "phase", "instance", "version", "bundle"}
    everything = b"".join(refused)
    service.popen.send_signal(signal.SIGTERM)
    assert service.popen.wait(WAIT_S) == 0
    assert TOKEN not in service.log
    assert TOKEN.encode() not in everything


@pytest.mark.parametrize(
    ("options", "given"),
    [
        (["--token-stdin"], "short\n"),
        (["--token-stdin"], TOKEN),
        (["--token-stdin"], ""),
        (["--token-file", "no/such/file"], ""),
        (["--host", "0.0.0.0"], ""),
    ],
)
def test_a_token_that_cannot_serve_ends_the_start_with_2(options: list[str], given: str) -> None:
    ended = subprocess.run(
        [*PROGRAM, "--port", "0", *options],
        input=given,
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT_S,
        check=False,
    )
    assert ended.returncode == 2
    assert json.loads(ended.stderr.splitlines()[-1])["next"]
    assert TOKEN not in ended.stderr


def test_a_token_lets_others_in_who_have_it(start: Callable[..., Process]) -> None:
    service = start("--host", "0.0.0.0", SIDECAR_TOKEN=TOKEN)
    assert status(service.get("/info")) == 401
    assert status(service.get("/info", SHOWN)) == 200


def test_at_a_taken_port_the_token_is_left_where_it_was() -> None:
    reading, writing = os.pipe()
    os.write(writing, f"{TOKEN}\n".encode())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [*PROGRAM, "--port", port, "--token-stdin"],
            stdin=reading,
            capture_output=True,
            timeout=WAIT_S,
            check=False,
        )
        asking, _ = taken.accept()
        with asking:
            asked = asking.recv(65_536)
    assert ended.returncode == 3
    assert asked.startswith(b"GET /health ")
    assert TOKEN.encode() not in asked
    assert os.read(reading, 100) == f"{TOKEN}\n".encode()
    os.close(reading)
    os.close(writing)


def test_huge_and_countless_headers_are_refused(
    start: Callable[..., Process],
) -> None:
    service = start()
    line = b"GET /info HTTP/1.1\r\n" + HOST
    for sent in (line + b"X: " + b"y" * 8_000_000, line + b"X: y\r\n" * 10_000 + b"\r\n"):
        assert kind(service.say(sent)) == "large-head"
    both = line + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert kind(service.say(both)) == "bad-request"
    assert kind(service.say(line + b"Content-Length: -3\r\n\r\n")) == "bad-request"
    assert status(service.say(post({"texts": ["a"]}))) == 200


def test_silence_and_half_a_body_are_ended(
    start: Callable[..., Process],
) -> None:
    service = start()
    half = post({"texts": ["a"]})[:-5]
    with contextlib.ExitStack() as stack:
        clients = []
        started = time.monotonic()
        for sent in (b"", b"GET /info HTTP/1.1\r\n", half):
            client = socket.create_connection(("127.0.0.1", service.port), timeout=WAIT_S)
            clients.append(stack.enter_context(client))
            client.sendall(sent)
        answers = []
        for client, least in zip(clients, (9.5, 9.5, 29.5), strict=True):
            answers.append(rest(client))
            assert time.monotonic() - started >= least
    assert [status(answer) for answer in answers] == [0, 408, 408]


def test_two_hundred_idle_connections_do_not_keep_others_out(
    start: Callable[..., Process],
) -> None:
    service = start()
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(("127.0.0.1", service.port)))
        assert status(service.get("/health")) == 200
        assert status(service.say(post({"texts": ["a"]}))) == 200


def test_a_storm_is_answered_whole_and_health_throughout(start: Callable[..., Process]) -> None:
    service = start()
    seen = storm.storm(service.port, storm.mixture(200))
    assert seen.unanswered == 0
    assert seen.outcomes.total() == 200
    assert seen.polls


def test_a_kept_connection_serves_after_a_refusal_with_a_body(
    start: Callable[..., Process],
) -> None:
    service = start()
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=WAIT_S)
    for path, body, expected in (
        ("/nothing", "x" * 300_000, 404),
        ("/embed", "{", 400),
        ("/embed", '{"texts": ["a"]}', 200),
    ):
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (expected, True)
    connection.close()
