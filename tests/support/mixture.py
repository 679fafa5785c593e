"""The requests of a working day: short ones, long ones, files, bad ones, and clients that leave."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import queue
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.support.clients import BINARY, Client, worst_cosine
from tests.support.doorstep import post
from tests.support.tinypdf import pdf

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.clients import Rows

# How many of a kind among all.
SHARES = {
    "single": 26,
    "single-binary": 18,
    "many": 10,
    "many-binary": 12,
    "base64": 4,
    "text-file": 6,
    "pdf-file": 6,
    "upload": 4,
    "lines": 2,
    "bad": 10,
    "leaves": 8,
}
# Those that are left out where the service has no such route.
UPLOADS = {"upload", "lines"}
UPLOAD_PATH = "/embed-file/upload"
LINES = "application/x-ndjson"
MANY, CLIENTS = 32, 8
# In a request of the kind.
TEXTS = {"single": 1, "pair": 2, "few": 4}
MIN_COSINE = 0.99999
TIMEOUT_S = 60
# A connection that was idle may be closed under a request; one that was not may not.
IDLE_S = 1.0
JSON = {"Content-Type": "application/json"}
OTHER = {"Content-Type": "text/plain"}
# What is wrong, and the status that says so.
BAD: tuple[tuple[str, str, bytes | None, dict[str, str], int], ...] = (
    ("POST", "/embed", b'{"texts": [', JSON, 400),
    ("POST", "/embed", b'{"texts": [1]}', JSON, 422),
    ("POST", "/embed", b'{"texts": ["a"], "pooling": "median"}', JSON, 422),
    ("POST", "/embed", b'{"texts": ["a"]}', OTHER, 415),
    ("POST", "/embed", b'{"texts": ["a"]}', {**JSON, "Host": "evil.example"}, 421),
    ("POST", "/embed", b'{"texts": ["a"]}', {**JSON, "Origin": "https://evil.example"}, 403),
    ("GET", "/embed", None, {}, 405),
    ("GET", "/nothing", None, {}, 404),
    ("POST", "/embed-file", b'{"path": "/etc/../etc/passwd"}', JSON, 404),
    ("POST", "/embed-file", b'{"path": ""}', JSON, 422),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One request that was sent: when, and how long until all of its answer was there."""

    at_s: float
    kind: str
    took_s: float


class Mixture:
    """Requests whose right answers are known beforehand; `known` are the vectors of the texts."""

    def __init__(self, port: int, folder: Path) -> None:
        """`folder` is one that the service may read; files are made in it."""
        self._port = port
        self._texts = sentences(24)
        self.known: Rows = np.concatenate([Client(port=port).embed([t]) for t in self._texts])
        self._files = {"text-file": folder / "soak.md", "pdf-file": folder / "soak.pdf"}
        self._broken = folder / "broken.pdf"
        routes = Client(port=port).ask("/openapi.json").json()["paths"]
        left_out = () if UPLOAD_PATH in routes else UPLOADS
        self.shares = {kind: share for kind, share in SHARES.items() if kind not in left_out}
        text = "\n\n".join(self._texts)
        self._files["text-file"].write_text(text, encoding="utf-8")
        self._files["pdf-file"].write_bytes(pdf(self._texts))
        self._broken.write_bytes(pdf(self._texts)[:500])

    def draw(self, lots: random.Random) -> str:
        """Return the kind of a request, drawn by its share."""
        return lots.choices(list(self.shares), weights=list(self.shares.values()))[0]

    def caller(self) -> Caller:
        """Return a client with a connection of its own."""
        return Caller(self._port, self)

    def check(self, numbers: list[int], rows: Rows) -> str | None:
        """Return what is wrong with the vectors of these texts, if anything."""
        known = self.known[numbers]
        if rows.shape != known.shape:
            return f"vectors of shape {rows.shape}"
        return None if worst_cosine(rows, known) > MIN_COSINE else "a wrong vector"

    def chosen(self, number: int, count: int) -> list[int]:
        """Return which texts request `number` asks for."""
        return [(number * 5 + step) % len(self._texts) for step in range(count)]

    def embed_body(self, numbers: list[int], **fields: object) -> bytes:
        """Return the body that asks for the vectors of these texts."""
        return json.dumps({"texts": [self._texts[n] for n in numbers], **fields}).encode()

    def file_body(self, kind: str, number: int) -> bytes:
        """Return the body that asks for a file's vectors."""
        unit = ("tokens", "chars")[number % 2]
        return json.dumps({"path": str(self._files[kind]), "unit": unit}).encode()

    def document(self) -> bytes:
        """Return a PDF to be sent itself."""
        return self._files["pdf-file"].read_bytes()

    def broken_body(self) -> bytes:
        """Return the body that asks for a damaged PDF."""
        return json.dumps({"path": str(self._broken)}).encode()


class Caller:
    """One client that keeps its connection; to be used by one thread."""

    def __init__(self, port: int, mixture: Mixture) -> None:
        """Connect at the first request."""
        self._port = port
        self._mixture = mixture
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        self._used_s = 0.0
        self._kinds: dict[str, Callable[[str, int], str | None]] = {
            "many": self._json,
            **dict.fromkeys(TEXTS, self._json),
            "many-binary": self._binary,
            "single-binary": self._binary,
            "base64": self._base64,
            "text-file": self._file,
            "pdf-file": self._file,
            "upload": self._upload,
            "lines": self._upload,
            "bad": self._bad,
            "leaves": self._leave,
        }

    def ask(self, kind: str, number: int) -> str | None:
        """Send one request and return what is wrong with its answer, if anything."""
        try:
            return self._kinds[kind](kind, number)
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            self._connection.close()
            return f"{type(error).__name__}: {error}"

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        if self._connection.sock and time.monotonic() - self._used_s > IDLE_S:
            self._connection.close()
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        data = answer.read()
        self._used_s = time.monotonic()
        return answer.status, data

    def _embed(self, body: bytes, **headers: str) -> bytes:
        status, data = self._request("POST", "/embed", body, {**JSON, **headers})
        if status != 200:
            message = f"status {status}"
            raise ValueError(message)
        return data

    def _json(self, kind: str, number: int) -> str | None:
        numbers = self._mixture.chosen(number, TEXTS.get(kind, MANY))
        answer = json.loads(self._embed(self._mixture.embed_body(numbers)))
        return self._mixture.check(numbers, np.array(answer["vectors"], dtype=np.float32))

    def _binary(self, kind: str, number: int) -> str | None:
        numbers = self._mixture.chosen(number, 1 if kind == "single-binary" else MANY)
        data = self._embed(self._mixture.embed_body(numbers), Accept=BINARY)
        return self._mixture.check(numbers, np.frombuffer(data, "<f4").reshape(len(numbers), -1))

    def _base64(self, _kind: str, number: int) -> str | None:
        numbers = self._mixture.chosen(number, 4)
        body = self._mixture.embed_body(numbers, encoding="base64", priority="bulk")
        vectors = json.loads(self._embed(body))["vectors"]
        rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in vectors]
        return self._mixture.check(numbers, np.stack(rows))

    def _file(self, kind: str, number: int) -> str | None:
        body = self._mixture.file_body(kind, number)
        status, data = self._request("POST", "/embed-file", body, JSON)
        if status != 200:
            return f"status {status}"
        answer: dict[str, Any] = json.loads(data)
        if not answer["complete"] or not 1 <= len(answer["chunks"]) == len(answer["vectors"]):
            return "an incomplete answer"
        return None

    def _upload(self, kind: str, number: int) -> str | None:
        headers = {"Content-Type": "application/pdf"}
        if kind == "lines":
            headers["Accept"] = LINES
        path = f"{UPLOAD_PATH}?unit={('tokens', 'chars')[number % 2]}"
        status, data = self._request("POST", path, self._mixture.document(), headers)
        if status != 200:
            return f"status {status}"
        if kind == "upload":
            return None if json.loads(data)["complete"] else "an incomplete answer"
        last = json.loads(data.splitlines()[-1])
        return None if last["type"] == "end" else f"lines that end with {last['type']}"

    def _bad(self, _kind: str, number: int) -> str | None:
        choice = number % (len(BAD) + 1)
        if choice == len(BAD):
            body = self._mixture.broken_body()
            method, path, headers, expected = "POST", "/embed-file", JSON, 422
            status, _ = self._request(method, path, body, headers)
        else:
            method, path, content, headers, expected = BAD[choice]
            status, _ = self._request(method, path, content, headers)
        return None if status == expected else f"{path} status {status} instead of {expected}"

    def _leave(self, _kind: str, number: int) -> None:
        """Go away in the middle of a body, right after it, or while it is worked on."""
        body = self._mixture.embed_body(self._mixture.chosen(number, MANY))
        request = post(body)
        with socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT_S) as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(request[: -len(body) // 2] if number % 3 == 0 else request)
            time.sleep((0, 0, 0.01)[number % 3])


def load(
    mixture: Mixture,
    plan: Iterator[tuple[float, str]],
    answered: list[Answered],
    failures: Counter[str],
    *,
    clients: int = CLIENTS,
) -> None:
    """Send what is planned when it is due, by clients that keep their connections."""
    waiting: queue.Queue[tuple[int, float, str] | None] = queue.Queue(maxsize=2 * clients)
    lock = threading.Lock()

    def work() -> None:
        caller = mixture.caller()
        while (taken := waiting.get()) is not None:
            number, due_s, kind = taken
            time.sleep(max(0.0, due_s - time.monotonic()))
            started = time.monotonic()
            failure = caller.ask(kind, number)
            took_s = time.monotonic() - started
            with lock:
                answered.append(Answered(at_s=started, kind=kind, took_s=took_s))
                if failure is not None:
                    failures[f"{kind}: {failure}"] += 1
        caller.close()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for number, (due_s, kind) in enumerate(plan):
        waiting.put((number, due_s, kind))
    for _ in threads:
        waiting.put(None)
    for thread in threads:
        thread.join()


def sentences(count: int) -> list[str]:
    """Return `count` different sentences of four to some sixty words."""
    line = "a harbour at dawn has room for boats that bring salt and news from the north"
    words = line.split()
    return [
        f"{number}: " + " ".join(words[(number * 7 + step) % len(words)] for step in range(length))
        for number, length in ((n, 4 + n * 11 % 57) for n in range(count))
    ]
