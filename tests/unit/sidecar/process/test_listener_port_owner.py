from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from sidecar.errors import AddressInUseError
from sidecar.process import listener
from sidecar.process.listener import ask, named

if TYPE_CHECKING:
    from collections.abc import Iterator

HEALTH = {"status": "ok", "instance": "an-instance-1", "version": "0.1.0"}
ERROR = AddressInUseError("port is taken", why="in use", next_step="--port 1")


class Listener:
    """Answers every connection with the same bytes, slowly if told so, and keeps what it heard."""

    def __init__(self, answer: bytes, *, is_slow: bool = False) -> None:
        self.heard: list[bytes] = []
        self._answer = answer
        self._is_slow = is_slow
        self._sock = socket.create_server(("127.0.0.1", 0))
        self._is_over = threading.Event()
        self.port: int = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while not self._is_over.is_set():
                client, _ = self._sock.accept()
                with client, contextlib.suppress(OSError):
                    self.heard.append(client.recv(4096))
                    pieces = [self._answer[i : i + 1] for i in range(len(self._answer))]
                    for piece in pieces if self._is_slow else [self._answer]:
                        client.sendall(piece)
                        if self._is_slow and self._is_over.wait(0.05):
                            return

    def close(self) -> None:
        self._is_over.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join(30)
        self._sock.close()


@pytest.fixture
def listeners() -> Iterator[list[Listener]]:
    made: list[Listener] = []
    yield made
    for one in made:
        one.close()


def http(body: object, status: str = "200 OK") -> bytes:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nX: y\r\n\r\n".encode() + sent


@pytest.mark.parametrize("status", ["200 OK", "503 Service Unavailable"])
def test_another_sidecar_is_named_by_instance_and_version(
    listeners: list[Listener], status: str
) -> None:
    listeners.append(Listener(http(HEALTH, status)))
    port = listeners[0].port
    error = named(ERROR, "127.0.0.1", port)
    assert error.exit_code == 3
    assert error.what == f"port {port} on 127.0.0.1 is taken by another Sidecar"
    assert error.why == "instance an-instance-1, version 0.1.0"
    assert f"--port {port + 1}" in error.next_step
    assert error.facts == {
        "holder": "sidecar",
        "holder_instance": "an-instance-1",
        "holder_version": "0.1.0",
    }
    (request,) = listeners[0].heard
    assert b"uthorization" not in request
    assert request.startswith(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:")


def test_one_that_asks_for_a_token_is_a_sidecar_without_a_name(listeners: list[Listener]) -> None:
    problem = {"type": "urn:sidecar:problem:no-token", "status": 401}
    listeners.append(Listener(http(problem, "401 Unauthorized")))
    error = named(ERROR, "localhost", listeners[0].port)
    assert "another Sidecar" in error.what
    assert error.why == "its instance is unknown"
    assert error.facts == {"holder": "sidecar"}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n<html>",
        http([1]),
        http(b'{"a":' * 10_000),
        http({"status": "ok"}),
        http({**HEALTH, "instance": "short"}),
        http({**HEALTH, "instance": "an instance\nwith a line of its own"}),
        http({**HEALTH, "instance": 7}),
        http({"instance": "an-instance-1"}),
        http(b"x" * 1_000_000),
    ],
    ids=lambda answer: repr(answer[:30]),
)
def test_anything_else_is_a_stranger(listeners: list[Listener], answer: bytes) -> None:
    listeners.append(Listener(answer))
    error = named(ERROR, "127.0.0.1", listeners[0].port)
    assert error.what == ERROR.what
    assert error.why == "in use; what listens there does not answer as a Sidecar"
    assert error.next_step == ERROR.next_step
    assert error.facts == {"holder": "stranger"}


def test_a_version_that_is_none_is_not_repeated(listeners: list[Listener]) -> None:
    listeners.append(Listener(http({**HEALTH, "version": "0.1 <b>"})))
    found = ask("127.0.0.1", listeners[0].port)
    assert found == {"instance": "an-instance-1"}


def test_one_that_drips_its_answer_is_not_waited_for(listeners: list[Listener]) -> None:
    listeners.append(Listener(http(HEALTH), is_slow=True))
    assert ask("127.0.0.1", listeners[0].port, within_s=0.2) is None


def test_nobody_there_is_a_stranger_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    assert ask("127.0.0.1", port) is None


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.8.4.21", "127.8.4.21"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "::1"),
        ("[::1]", "::1"),
        ("localhost", "127.0.0.1"),
        ("192.0.2.1", None),
    ],
)
def test_only_this_machine_is_asked(host: str, address: str | None) -> None:
    assert listener._loopback(host) == address
