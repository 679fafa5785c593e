"""Requests to a server that embeds, one or many at once, and the texts that they carry."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from pydoc_data.topics import topics
from typing import TYPE_CHECKING, Any

import numpy as np

from bundler.errors import SmokeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Connect = Callable[[], "Connection"]

HOST = "127.0.0.1"
TIMEOUT_S = 600.0
PACED_SECONDS = 60.0
# The seconds of a server that measures itself: sentence-transformers in process.
SECONDS_HEADER = "X-Seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """A server's embedding route: the field of the texts, and how rows are read from a response.

    `largest` is the number of texts it takes in a request; `fields` go into every request.
    """

    path: str
    texts: str
    rows: Callable[[Any], Any]
    largest: int = 1024
    fields: Mapping[str, Any] = field(default_factory=dict)

    def body(self, texts: Sequence[object]) -> bytes:
        """Return the request for `texts`."""
        return json.dumps({self.texts: list(texts), **self.fields}).encode()

    def vectors(self, bodies: Iterable[bytes]) -> NDArray[np.float32]:
        """Return the rows of responses. Raises ValueError, KeyError or TypeError without any."""
        rows = [row for body in bodies for row in self.rows(json.loads(body))]
        return np.asarray(rows, dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response with the seconds from the request to its last byte; status 0 is no response."""

    seconds: float
    status: int
    body: bytes

    @property
    def is_ok(self) -> bool:
        """Whether it holds vectors."""
        return self.status == HTTPStatus.OK


class Connection(AbstractContextManager["Connection"]):
    """One client's connection to a server on this machine."""

    def __init__(self, port: int, api: Api) -> None:
        self.api = api
        self.port = port
        self._http = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_S)

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._http.close()

    def send(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Return the response to a request; none has the status 0."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        started = time.perf_counter()
        try:
            self._http.request(method, path, body, headers)
            response = self._http.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException):
            self._http.close()
            return Answer(seconds=time.perf_counter() - started, status=0, body=b"")
        seconds = float(response.getheader(SECONDS_HEADER) or time.perf_counter() - started)
        return Answer(seconds=seconds, status=response.status, body=data)

    def post(self, body: bytes) -> Answer:
        """Return the response to an embedding request."""
        return self.send("POST", self.api.path, body)

    def embed(self, texts: Sequence[object]) -> tuple[float, list[bytes]]:
        """Return seconds and bodies for `texts`, in as few requests as the server takes.

        Raises SmokeError if one is not answered with vectors: half a measurement is none.
        """
        seconds, bodies = 0.0, []
        for request in [self.api.body(part) for part in parts(texts, self.api.largest)]:
            answer = self.post(request)
            if not answer.is_ok:
                detail = answer.body[:200].decode(errors="replace")
                raise SmokeError(
                    "a request of the measurement was not answered with vectors",
                    why=f"status {answer.status} {detail}" if answer.status else "connection lost",
                )
            seconds += answer.seconds
            bodies.append(answer.body)
        return seconds, bodies


def parts(texts: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Return `texts` in sequences of at most `size`."""
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def send_all(connect: Connect, bodies: Sequence[bytes], *, clients: int) -> list[Answer]:
    """Return the response to each body; each of `clients` sends the next one when it is free."""
    local = threading.local()
    with ExitStack() as stack, ThreadPoolExecutor(clients) as pool:

        def send(body: bytes) -> Answer:
            if not hasattr(local, "connection"):
                local.connection = stack.enter_context(connect())
            answer: Answer = local.connection.post(body)
            return answer

        return list(pool.map(send, bodies))


def beside_bulk(
    connect: Connect, singles: Sequence[str], bulk: Sequence[str], *, pause_s: float
) -> tuple[list[float], list[float]]:
    """Return the seconds of single texts sent with pauses: alone, then while `bulk` is sent on.

    Each half ends after PACED_SECONDS: behind a server that finishes bulk requests first, single
    texts would take an hour. Raises SmokeError if a request fails.
    """
    is_sending, is_over = threading.Event(), threading.Event()

    def saturate() -> None:
        with connect() as connection:
            while not is_over.is_set():
                is_sending.set()
                connection.embed(bulk)

    def paced(connection: Connection) -> list[float]:
        seconds: list[float] = []
        until = time.perf_counter() + PACED_SECONDS
        for text in singles:
            if not seconds or time.perf_counter() < until:
                time.sleep(pause_s)
                seconds.append(connection.embed([text])[0])
        return seconds

    with connect() as connection, ThreadPoolExecutor(1) as pool:
        alone = paced(connection)
        other = pool.submit(saturate)
        try:
            is_sending.wait()
            beside = paced(connection)
        finally:
            is_over.set()
        other.result()
    return alone, beside


SHORTEST, LONGEST, FEWEST_WORDS = 40, 1_500, 6
PROSE = 0.8  # of the characters are letters and spaces: no tables, no code


def gather_corpus(count: int, documents: Iterable[str] = ()) -> tuple[str, ...]:
    """Return up to `count` distinct paragraphs of `documents`, or of Python's topics.

    Their hashes decide which are taken and in which order: random, and the same everywhere.
    """
    texts = {text for document in documents or topics.values() for text in paragraphs(document)}
    ranked = sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())
    return tuple(ranked[:count])


def paragraphs(document: str) -> Iterator[str]:
    """Yield the paragraphs that are sentences: no code, no table, no heading."""
    for block in re.split(r"\n[ \t]*\n", document):
        words = block.split()
        text = " ".join(words)
        if SHORTEST <= len(text) <= LONGEST and len(words) >= FEWEST_WORDS:
            letters = sum(character.isalpha() or character == " " for character in text)
            if letters / len(text) > PROSE:
                yield text
