from __future__ import annotations

import base64
import http.server
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bundler.bench.client import Target, decode_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bundler.bench.client import Api

ROWS = [[1.0, 2.0], [3.0, 4.0]]
ANSWERS: dict[Api, Any] = {
    "sidecar": {"vectors": ROWS},
    "openai": {"data": [{"embedding": row} for row in ROWS]},
    "tei": ROWS,
    "ollama": {"embeddings": ROWS},
}


@contextmanager
def server(*, closes: bool = False) -> Iterator[tuple[int, list[tuple[str, Any]]]]:
    """Give the port of a server that keeps what it is sent; one that closes ends connections."""
    seen: list[tuple[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, json.loads(body)))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
            self.close_connection = closes

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.daemon_threads = True
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield made.server_address[1], seen
        finally:
            made.shutdown()


@pytest.mark.parametrize("api", ANSWERS)
def test_vectors_are_found_in_every_servers_answer(api: Api) -> None:
    target = Target(name=api, port=1, api=api)
    assert target.vectors(json.dumps(ANSWERS[api]).encode()).tolist() == ROWS


@pytest.mark.parametrize("api", ANSWERS)
def test_an_answer_without_vectors_is_refused(api: Api) -> None:
    with pytest.raises(ValueError, match=r"no answer of|convert|float"):
        Target(name=api, port=1, api=api).vectors(b'{"error": "x"}')


@pytest.mark.parametrize(
    ("api", "path", "key"),
    [
        ("sidecar", "/v1/embed", "texts"),
        ("openai", "/v1/embeddings", "input"),
        ("tei", "/v1/embed", "inputs"),
        ("ollama", "/v1/api/embed", "input"),
    ],
)
def test_each_server_is_asked_in_its_own_words(api: Api, path: str, key: str) -> None:
    with server() as (port, seen):
        target = Target(name=api, port=port, api=api, prefix="/v1", fields={"model": "m"})
        with target.connect() as connection:
            assert connection.embed(["é", "b"]).is_good
    assert seen == [(path, {key: ["é", "b"], "model": "m"})]


def test_a_connection_that_the_server_closed_is_opened_anew() -> None:
    with server(closes=True) as (port, seen):
        with Target(name="x", port=port).connect() as connection:
            assert [connection.embed(["a"]).status for _ in range(3)] == [200, 200, 200]
        assert len(seen) == 3


def test_nobody_there_is_an_answer_of_status_0() -> None:
    with server() as (port, _):
        pass
    with Target(name="x", port=port).connect() as connection:
        answer = connection.embed(["a"])
    assert (answer.status, answer.is_good) == (0, False)


def test_rows_in_base64_come_back() -> None:
    rows = np.arange(6, dtype="<f4").reshape(2, 3)
    assert decode_rows(base64.b64encode(rows.tobytes()).decode(), 3).tolist() == rows.tolist()
