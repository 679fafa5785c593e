"""The requests of a working day: short ones, long ones, files, bad ones, and clients that leave."""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2 as httpx
import numpy as np

from tests.support import exchanges
from tests.support.clients import BINARY, Client, worst_cosine
from tests.support.doorstep import post
from tests.support.exchanges import JSON, LINES, PDF, UPLOAD, said_of
from tests.support.tinypdf import pdf

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Iterator
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
# In a request of the kind.
TEXTS = {"single": 1, "single-binary": 1, "pair": 2, "few": 4, "base64": 4}
MANY, CLIENTS = 32, 8
MIN_COSINE = 0.99999
TIMEOUT_S = 60
# A connection that was idle may be closed under a request; one that was not may not.
IDLE_S = 1.0
# Of a refused body: a soak is not about those that cost seconds.
LARGEST_BAD = 10_000


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
        self.port = port
        self._texts = sentences(24)
        self.known: Rows = np.concatenate([Client(port=port).embed([t]) for t in self._texts])
        self.document = pdf(self._texts)
        self.files = {"text-file": folder / "soak.md", "pdf-file": folder / "soak.pdf"}
        self.files["text-file"].write_text("\n\n".join(self._texts), encoding="utf-8")
        self.files["pdf-file"].write_bytes(self.document)
        (folder / "broken.pdf").write_bytes(self.document[:500])
        asked = (
            *(*exchanges.looks(), *exchanges.embeddings(), *exchanges.documents(folder)),
            exchanges.of_file(str(folder / "broken.pdf"), 422, "document-unreadable"),
        )
        self.bad = [one for one in asked if one.kind and len(one.body) < LARGEST_BAD]

    def check(self, numbers: list[int], rows: Rows) -> str | None:
        """Return what is wrong with the vectors of these texts, if anything."""
        known = self.known[numbers]
        if rows.shape != known.shape:
            return f"vectors of shape {rows.shape}"
        return None if worst_cosine(rows, known) > MIN_COSINE else "a wrong vector"

    def chosen(self, kind: str, number: int) -> list[int]:
        """Return which texts request `number` asks for."""
        return [(number * 5 + step) % len(self._texts) for step in range(TEXTS.get(kind, MANY))]

    def embed_body(self, numbers: list[int], **fields: object) -> bytes:
        """Return the body that asks for the vectors of these texts."""
        return json.dumps({"texts": [self._texts[n] for n in numbers], **fields}).encode()


class Caller:
    """One client that keeps its connection; to be used by one thread."""

    def __init__(self, mixture: Mixture) -> None:
        """Connect at the first request."""
        self._mixture = mixture
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{mixture.port}",
            timeout=TIMEOUT_S,
            limits=httpx.Limits(keepalive_expiry=IDLE_S),
            trust_env=False,
        )

    def ask(self, kind: str, number: int) -> str | None:
        """Send one request and return what is wrong with its answer, if anything."""
        try:
            match kind:
                case "text-file" | "pdf-file":
                    return self._file(kind, number)
                case "upload" | "lines":
                    return self._upload(kind, number)
                case "bad":
                    return self._bad(number)
                case "leaves":
                    self._leave(number)
                    return None
                case _:
                    return self._embed(kind, number)
        except (OSError, httpx.HTTPError, ValueError, KeyError) as error:
            return f"{type(error).__name__}: {error}"

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _embed(self, kind: str, number: int) -> str | None:
        numbers = self._mixture.chosen(kind, number)
        fields = {"encoding": "base64", "priority": "bulk"} if kind == "base64" else {}
        accept = BINARY if kind.endswith("binary") else JSON
        body = self._mixture.embed_body(numbers, **fields)
        headers = {"Content-Type": JSON, "Accept": accept}
        answer = self._http.post("/embed", content=body, headers=headers)
        if answer.status_code != httpx.codes.OK:
            return f"status {answer.status_code}"
        if accept == BINARY:
            rows: Rows = np.frombuffer(answer.content, "<f4").reshape(len(numbers), -1)
        elif kind == "base64":
            vectors = answer.json()["vectors"]
            rows = np.stack([np.frombuffer(base64.b64decode(row), "<f4") for row in vectors])
        else:
            rows = np.array(answer.json()["vectors"], dtype=np.float32)
        return self._mixture.check(numbers, rows)

    def _file(self, kind: str, number: int) -> str | None:
        unit = ("tokens", "chars")[number % 2]
        body = {"path": str(self._mixture.files[kind]), "unit": unit}
        answer = self._http.post("/embed-file", json=body)
        if answer.status_code != httpx.codes.OK:
            return f"status {answer.status_code}"
        told = answer.json()
        is_whole = told["complete"] and 1 <= len(told["chunks"]) == len(told["vectors"])
        return None if is_whole else "an incomplete answer"

    def _upload(self, kind: str, number: int) -> str | None:
        headers = {"Content-Type": PDF, "Accept": LINES if kind == "lines" else JSON}
        path = f"{UPLOAD}?unit={('tokens', 'chars')[number % 2]}"
        answer = self._http.post(path, content=self._mixture.document, headers=headers)
        if answer.status_code != httpx.codes.OK:
            return f"status {answer.status_code}"
        if kind == "upload":
            return None if answer.json()["complete"] else "an incomplete answer"
        last = json.loads(answer.content.splitlines()[-1])
        return None if last["type"] == "end" else f"lines that end with {last['type']}"

    def _bad(self, number: int) -> str | None:
        wanted = self._mixture.bad[number % len(self._mixture.bad)]
        answer = self._http.request(
            wanted.method, wanted.path, content=wanted.body, headers=dict(wanted.headers)
        )
        kind = answer.headers.get("content-type", "")
        said = said_of(answer.status_code, kind, answer.content)
        is_right = said == wanted.expected
        return None if is_right else f"{wanted.path} {said} instead of {wanted.expected}"

    def _leave(self, number: int) -> None:
        """Go away in the middle of a body, right after it, or while it is worked on."""
        body = self._mixture.embed_body(self._mixture.chosen("many", number))
        request, address = post(body), ("127.0.0.1", self._mixture.port)
        with socket.create_connection(address, timeout=TIMEOUT_S) as client:
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
        caller = Caller(mixture)
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


def plan_of(
    seconds: float, lots: random.Random, *, rate: float | None = None
) -> Iterator[tuple[float, str]]:
    """Yield kinds of requests by their shares, and when each is due: at once, or at this rate.

    At a rate as many clients send them who know nothing of others.
    """
    due = time.monotonic()
    end = due + seconds
    while time.monotonic() < end and (due := due + (lots.expovariate(rate) if rate else 0)) < end:
        yield due, lots.choices(list(SHARES), weights=list(SHARES.values()))[0]


def sentences(count: int) -> list[str]:
    """Return `count` different sentences of four to some sixty words."""
    line = "a harbour at dawn has room for boats that bring salt and news from the north"
    words = line.split()
    return [
        f"{number}: " + " ".join(words[(number * 7 + step) % len(words)] for step in range(length))
        for number, length in ((n, 4 + n * 11 % 57) for n in range(count))
    ]
