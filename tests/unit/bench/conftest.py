"""What the tests of the bench share: a service with a stub engine, and a made-up measurement."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.client import Connection
from bench.measurement import Effort, Measured
from bench.systems import INT8, OURS, SIDECAR, System, ours

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.client import Api, Connect

ROOT = Path(__file__).resolve().parents[3]
STUB = ROOT / "tests" / "support" / "stub_service.py"
TEXTS = tuple(f"text number {number} has words" for number in range(24))
TINY = Effort(
    texts=24,
    starts=2,
    rounds=2,
    requests=2,
    request_size=8,
    singles=4,
    beside=3,
    bulk=8,
    ceiling_rows=(8,),
    pause_s=0.001,
    ranked=12,
)


def stub_systems(*options: str) -> list[System]:
    """Return our own service with a stub engine in it; the stub knows no int8."""
    return ours([sys.executable, "-I", "-B", str(STUB), *options], 1)[:1]


@dataclass
class Seen:
    """What a server was sent, and how many requests it had at the same time."""

    bodies: list[tuple[str, Any]] = field(default_factory=list)
    waiting: int = 0
    most: int = 0


@contextmanager
def server(
    api: Api = SIDECAR, *, refuses: str = "nothing", together: int = 0, answer: Any = None
) -> Iterator[tuple[Connect, Seen]]:
    """Give a server of vectors, how to connect to it, and what it was sent.

    It answers 500 to the text `refuses`, waits until `together` requests are there, and instead of
    vectors gives `answer`.
    """
    seen, lock = Seen(), threading.Lock()
    barrier = threading.Barrier(together, timeout=30) if together else None

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            texts = told.get(api.texts, [])
            with lock:
                seen.bodies.append((self.path, told))
                seen.waiting += 1
                seen.most = max(seen.most, seen.waiting)
            if barrier is not None:
                barrier.wait()
            with lock:
                seen.waiting -= 1
            body = json.dumps(answer or {"vectors": [[1.0, 2.0]] * len(texts)}).encode()
            self.send_response(500 if refuses in texts else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield partial(Connection, made.server_address[1], api), seen
        finally:
            made.shutdown()


def made_up(**changes: Any) -> Measured:
    """Return what might have been measured of a model, in two rounds.

    sentence-transformers takes three times as long as our service, which int8 halves.
    """

    def samples(slower: float, *, is_served: bool = True) -> dict[str, list[list[float]]]:
        found = {
            "start": [[1.0 * slower], [1.2 * slower]],
            "whole": [[10.0 * slower], [12.0 * slower]],
            "requests": [[1.0 * slower, 3.0 * slower], [2.0 * slower, 2.0 * slower]],
            "single": [[0.01 * slower, 0.02 * slower, 0.09 * slower]] * 2,
            "private": [[100e6 * slower], [100e6 * slower]],
        }
        latency = {"alone": [[0.01, 0.01], [0.01, 0.01]], "beside": [[0.02, 0.02], [0.04, 0.04]]}
        return found | (latency if is_served else {})

    facts = {"version": "0.1.0", "least_cosine": 1.0, "mean_cosine": 1.0}
    given: dict[str, Any] = {
        "model": "minilm",
        "served_by": "the bundle linux-x64, whole weights",
        "threads": 2,
        "effort": TINY,
        "corpus": {
            "texts": 24,
            "sha256": "0" * 64,
            "tokens": {"mean": 6.0, "p50": 6.0, "p95": 8.0, "max": 8},
        },
        "absent": {"ollama": "it is not installed"},
        "flops": 60_000,
        "systems": {
            "sentence-transformers": {**facts, "kind": "library"},
            OURS: {**facts, "kind": "sidecar"},
            INT8: {**facts, "kind": "sidecar", "least_cosine": 0.97},
            "<peer> & Co": {**facts, "kind": "peer", "least_cosine": 0.5},
        },
        "samples": {
            "sentence-transformers": samples(3.0, is_served=False),
            OURS: samples(1.0),
            INT8: samples(0.5),
            "<peer> & Co": samples(2.0),
            "numpy": {"ceiling": [[8_000.0], [4_000.0]]},
            "torch": {"ceiling": [[6_000.0], [10_000.0]]},
            "machine": {"others": [[0.01], [0.5]]},
        },
    }
    return Measured(**{**given, **changes})


MACHINE = {
    "processor": "A Processor",
    "cores": 2,
    "system": "Linux",
    "date": "2020-01-01T00:00:00+00:00",
    "load_average": [0.1, 0.1, 0.1],
    "instructions": ["avx2"],
}
