"""Clients of embedding servers on this machine, each server spoken to in its own way."""

from __future__ import annotations

import base64
import http.client
import json
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, assert_never

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

HOST = "127.0.0.1"
TIMEOUT_S = 600.0
GOOD = 200
Api = Literal["sidecar", "openai", "tei", "ollama"]
PATHS: dict[Api, str] = {
    "sidecar": "/embed",
    "openai": "/embeddings",
    "tei": "/embed",
    "ollama": "/api/embed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One request: how long it took to the last byte, and what came. A status of 0 is none."""

    seconds: float
    status: int
    body: bytes

    @property
    def is_good(self) -> bool:
        """Whether there are vectors in it."""
        return self.status == GOOD


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server that listens on this machine, and how it is spoken to.

    `largest` is how many texts it takes in one request; `fields` go into every body.
    """

    name: str
    port: int
    api: Api = "sidecar"
    largest: int = 4096
    fields: dict[str, Any] = field(default_factory=dict)
    prefix: str = ""

    def body(self, texts: Sequence[str]) -> bytes:
        """Return the request for `texts`."""
        key = {"sidecar": "texts", "tei": "inputs"}.get(self.api, "input")
        return json.dumps({key: list(texts), **self.fields}).encode()

    def vectors(self, body: bytes) -> NDArray[np.float32]:
        """Return the rows in an answer. Raises ValueError if there are none."""
        answer = json.loads(body)
        try:
            return np.asarray(self._rows(answer), dtype=np.float32)
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is no answer of {self.name}") from error

    def _rows(self, answer: Any) -> Any:  # noqa: ANN401 - JSON
        match self.api:
            case "sidecar":
                return answer["vectors"]
            case "openai":
                return [entry["embedding"] for entry in answer["data"]]
            case "tei":
                return answer
            case "ollama":
                return answer["embeddings"]
            case unknown:
                assert_never(unknown)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Give a connection of one client; leaving the block closes it."""
        with closing(http.client.HTTPConnection(HOST, self.port, timeout=TIMEOUT_S)) as channel:
            yield Connection(self, channel)


class Connection:
    """One client's connection; it is opened anew when the server closed it."""

    def __init__(self, target: Target, channel: http.client.HTTPConnection) -> None:
        """Speak to `target` over `channel`, once there is something to say."""
        self.target = target
        self._http = channel

    def embed(self, texts: Sequence[str]) -> Answer:
        """Return the answer for `texts`; the request's body is made before the clock starts."""
        return self.post(self.target.body(texts))

    def post(self, body: bytes) -> Answer:
        """Return the answer to a ready body."""
        path = self.target.prefix + PATHS[self.target.api]
        return self.send("POST", path, body)

    def send(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Return the answer to any request; one that was not answered has the status 0."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        started = time.perf_counter()
        for is_last in (False, True):
            is_fresh = self._http.sock is None
            try:
                self._http.request(method, path, body, headers)
                answer = self._http.getresponse()
                data = answer.read()
                seconds = time.perf_counter() - started
                return Answer(seconds=seconds, status=answer.status, body=data)
            except (OSError, http.client.HTTPException):
                self._http.close()
                if is_fresh or is_last:
                    break
        return Answer(seconds=time.perf_counter() - started, status=0, body=b"")


def decode_rows(text: str, dim: int) -> NDArray[np.float32]:
    """Return base64 of little-endian float32 as rows of `dim` columns."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4").reshape(-1, dim).astype(np.float32)
