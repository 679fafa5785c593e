"""What asks a running service over loopback, and shows the answers that are no success, too."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

BINARY = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer, whatever its status; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body's JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Asks the service on `port` of 127.0.0.1, past every proxy; a connection for each request."""

    port: int
    timeout_s: float = 120

    def ask(
        self,
        path: str,
        body: object = None,
        *,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the answer to GET, or to POST if there is a `body`.

        That is bytes, or what JSON is made of; names of `headers` are in lower case.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout_s)
        try:
            connection.request(
                method or ("GET" if body is None else "POST"),
                path,
                body if body is None or isinstance(body, bytes) else json.dumps(body).encode(),
                {"content-type": "application/json", **(headers or {})},
            )
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(status=answer.status, headers=names, body=answer.read())
        finally:
            connection.close()

    def embed(self, texts: Sequence[str], **fields: object) -> Rows:
        """Return the vectors of `texts`, one row each."""
        answer = self.ask("/embed", {"texts": list(texts), **fields})
        assert answer.status == 200, answer.body
        return np.array(answer.json()["vectors"], dtype=np.float32)


def cosines(left: Rows, right: Rows) -> NDArray[np.float64]:
    """Return the cosine of each row to its other, whatever their length."""
    assert left.shape == right.shape
    a, b = left.astype(np.float64), right.astype(np.float64)
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: NDArray[np.float64] = (a * b).sum(axis=1) / sizes
    return found


def worst_cosine(left: Rows, right: Rows) -> float:
    """Return the smallest cosine between rows of equal shape."""
    return float(cosines(left, right).min())
