"""The service on a port of its own, in a thread, around a stub engine; asked by bare sockets."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from sidecar import server
from sidecar.models.loader import Loaded
from sidecar.process.listener import listen
from sidecar.process.signals import Stop
from sidecar.scheduling.encoder import Encoder
from tests.support.stub_engine import SNAPSHOT, StubEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from sidecar.settings import Settings

WAIT_S = 30
HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"


class Doorstep:
    """One service; `encoder` and `engine` are what it serves with."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        """Start it, and wait until it is ready."""
        self.engine = StubEngine()
        self.encoder: Encoder
        self._server: Any
        self._stop = Stop()
        self._ready = threading.Event()

        def make(_load: object, **named: Any) -> Encoder:
            self.encoder = Encoder(
                lambda _report: Loaded(engine=self.engine, snapshot=SNAPSHOT), **named
            )
            return self.encoder

        def serve(*given: Any) -> Any:
            self._server = made(*given)
            return self._server

        made = server._Server
        monkeypatch.setattr(server, "Encoder", make)
        monkeypatch.setattr(server, "_Server", serve)
        sock = listen("127.0.0.1", 0, allow_remote=False)
        self.port: int = sock.getsockname()[1]
        self._thread = threading.Thread(
            target=server.serve,
            args=(settings,),
            kwargs={"sock": sock, "stop": self._stop, "events": self},
        )
        self._thread.start()
        assert self._ready.wait(WAIT_S)

    def write_event(self, event: str, _data: dict[str, Any]) -> None:
        if event == "ready":
            self._ready.set()

    def stages(self) -> set[str]:
        """Return what the connections wait for."""
        return {connection._stage for connection in list(self._server.server_state.connections)}

    def stop(self) -> None:
        """Ask it to stop."""
        self._stop.request()

    def close(self) -> None:
        """Stop it, and wait until it has."""
        self.engine.gate.set()
        self.stop()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)

    def say(self, *parts: bytes) -> bytes:
        """Send `parts` and return everything that comes until the service closes."""
        with self.connect() as client:
            for part in parts:
                client.sendall(part)
            return rest(client)

    def get(self, path: str, *headers: bytes) -> bytes:
        lines = b"".join(header + b"\r\n" for header in headers)
        return self.say(f"GET {path} HTTP/1.1\r\n".encode() + HOST + CLOSE + lines + b"\r\n")

    def embed(self, texts: Sequence[str], *headers: bytes) -> bytes:
        return self.say(post({"texts": list(texts)}, *headers))


CLOSE = b"Connection: close\r\n"


def post(body: object, *headers: bytes, path: str = "/embed") -> bytes:
    """Return a request with `body`, bytes or what JSON makes of it, after which it hangs up."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = b"".join(header + b"\r\n" for header in headers)
    length = f"Content-Length: {len(data)}\r\n".encode()
    head = f"POST {path} HTTP/1.1\r\n".encode() + HOST + JSON + CLOSE + length + lines
    return head + b"\r\n" + data


def rest(client: socket.socket) -> bytes:
    """Return what comes until the other side closes; a reset ends it, too."""
    found = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while chunk := client.recv(1 << 16):
            found += chunk
    return bytes(found)


def status(answer: bytes) -> int:
    """Return the status; 0 for no answer."""
    return int(answer.split(b" ", 2)[1]) if answer else 0


def header(answer: bytes, name: str) -> str:
    """Return a header's value, an empty one if it is missing."""
    for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        found, _, value = line.decode().partition(":")
        if found.lower() == name:
            return value.strip()
    return ""


def problem(answer: bytes) -> dict[str, Any]:
    """Return the body, which must be a complete problem that names its request."""
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert header(answer, "content-type") == "application/problem+json"
    assert found["status"] == status(answer)
    assert set(found) == {"type", "title", "status", "detail", "why", "next", "request"}
    assert all(found.values())
    assert header(answer, "x-request-id") == found["request"]
    return found


def kind(answer: bytes) -> str:
    """Return the kind of a problem."""
    return str(problem(answer)["type"]).rpartition(":")[2]


def until(claim: Any, *, wait_s: float = WAIT_S) -> None:
    """Wait until `claim` returns something true."""
    deadline = time.monotonic() + wait_s
    while not claim():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
