"""A loopback web server that fails in the ways real ones do, one scripted way per request."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import TypeAlias

    Behaviour: TypeAlias = Callable[["Handler", bytes], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request as the server saw it."""

    path: str
    range: str | None
    authorization: str | None


@dataclass(slots=True)
class BadServer:
    """Serves `files`; `script` says what goes wrong. A context: it listens while it is entered."""

    files: dict[str, bytes] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    content_type: str = "application/octet-stream"
    tls: ssl.SSLContext | None = None
    _scripts: dict[str, list[Behaviour]] = field(default_factory=lambda: defaultdict(list))
    _forever: dict[str, Behaviour] = field(default_factory=dict)
    _server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        """Listen on a free port of the loopback device."""
        outer = self

        class Bound(Handler):
            @property
            def bad(self) -> BadServer:
                return outer

        self._server = _Server(("127.0.0.1", 0), Bound)
        if self.tls is not None:
            # The handshake is left to the thread of each connection.
            self._server.socket = self.tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of whoever is kept waiting, and close."""
        self.released.set()
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @property
    def root(self) -> str:
        """The address of the server."""
        assert self._server is not None
        place = "http://127.0.0.1" if self.tls is None else "https://localhost"
        return f"{place}:{self._server.server_address[1]}"

    def url(self, name: str) -> str:
        """Return the address of the file `name`."""
        return f"{self.root}/{name}"

    def add(
        self, name: str, data: bytes, *script: Behaviour, forever: Behaviour | None = None
    ) -> str:
        """Serve `data`, each request by the next of `script`, then `forever` or honestly."""
        self.files[f"/{name}"] = data
        self._scripts[f"/{name}"].extend(script)
        if forever is not None:
            self._forever[f"/{name}"] = forever
        return self.url(name)

    def refuse(self, path: str, code: int) -> None:
        """Answer `code` to each request of `path`; a proxy is asked for whole addresses."""
        self._forever[path] = status(code)

    def behaviour(self, path: str) -> Behaviour:
        """Return what to do for the next request of `path`."""
        script = self._scripts[path]
        return script.pop(0) if script else self._forever.get(path, honest)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing when a client leaves: some are killed."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def bad(self) -> BadServer:
        """Return the server this request came to."""
        raise NotImplementedError

    def do_GET(self) -> None:
        self.bad.seen.append(
            Seen(
                path=self.path,
                range=self.headers.get("Range"),
                authorization=self.headers.get("Authorization"),
            )
        )
        path = self.path.partition("?")[0]
        behave = self.bad.behaviour(path)
        data = self.bad.files.get(path)
        if data is None and behave is honest:
            self.answer(404, b"")
            return
        with contextlib.suppress(OSError):
            behave(self, data or b"")

    def do_CONNECT(self) -> None:
        """Behave as scripted for the host and port that a proxy is asked for."""
        self.do_GET()

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        self.head(status, {"Content-Length": str(len(body)), **(headers or {})})
        self.wfile.write(body)

    def head(self, status: int, headers: dict[str, str]) -> None:
        """Send the status and the headers."""
        self.send_response(status)
        self.send_header("Content-Type", self.bad.content_type)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def begin(self, data: bytes, headers: dict[str, str] | None = None) -> bytes:
        """Send the status and the headers that an honest server gives; return the body."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        code, body, own = 200, data, dict(headers or {})
        if asked is not None and int(asked[1]) >= len(data):
            code, body, own["Content-Range"] = 416, b"", f"bytes */{len(data)}"
        elif asked is not None:
            code, body = 206, data[int(asked[1]) :]
            own["Content-Range"] = f"bytes {asked[1]}-{len(data) - 1}/{len(data)}"
        self.head(code, {"Content-Length": str(len(body)), **own})
        return body

    def drop(self) -> None:
        """Cut the connection, as a broken network does."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def honest(handler: Handler, data: bytes) -> None:
    """Answer as asked, ranges included."""
    handler.wfile.write(handler.begin(data))


def honest_with(**headers: str) -> Behaviour:
    """Answer as asked, with further headers, which are spelled with underscores."""
    spelled = _spelled(headers)
    return lambda handler, data: handler.wfile.write(handler.begin(data, spelled))


def _spelled(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def cut_at(count: int) -> Behaviour:
    """Announce everything, send `count` bytes, and cut the connection."""

    def behave(handler: Handler, data: bytes) -> None:
        handler.wfile.write(handler.begin(data)[:count])
        handler.wfile.flush()
        handler.drop()

    return behave


def unframed(count: int | None = None) -> Behaviour:
    """Send `count` bytes, or all, with no length: the end of the connection is the end."""

    def behave(handler: Handler, data: bytes) -> None:
        handler.head(200, {"Connection": "close"})
        handler.wfile.write(data[:count])
        handler.close_connection = True

    return behave


def extra(tail: bytes) -> Behaviour:
    """Send `tail` after the file, and announce it."""
    return lambda handler, data: handler.answer(200, data + tail)


whole = extra(b"")  # the range that was asked for is ignored


def other_range(handler: Handler, data: bytes) -> None:
    """Answer with a range, but not the one asked for."""
    handler.answer(206, data[1:], {"Content-Range": f"bytes 1-{len(data) - 1}/{len(data)}"})


def wrong(handler: Handler, data: bytes) -> None:
    """Send as many bytes, all of them different."""
    honest(handler, bytes(byte ^ 0xFF for byte in data))


def status(code: int, **headers: str) -> Behaviour:
    """Answer with `code`; headers are spelled with underscores."""
    spelled = _spelled(headers)
    return lambda handler, _: handler.answer(code, b"no", spelled)


def redirect(url: str) -> Behaviour:
    """Send the client to `url`."""
    return status(302, Location=url)


def stall_at(count: int) -> Behaviour:
    """Send `count` bytes and then nothing until the server ends."""

    def behave(handler: Handler, data: bytes) -> None:
        handler.wfile.write(handler.begin(data)[:count])
        handler.wfile.flush()
        handler.bad.released.wait()
        handler.close_connection = True

    return behave


def slowly(chunk: int, pause_s: float) -> Behaviour:
    """Send `chunk` bytes at a time with a pause after each."""

    def behave(handler: Handler, data: bytes) -> None:
        body = handler.begin(data)
        for start in range(0, len(body), chunk):
            handler.wfile.write(body[start : start + chunk])
            handler.wfile.flush()
            if handler.bad.released.wait(pause_s):
                break

    return behave
