from __future__ import annotations

import http.server
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from bundler.bench.client import Target
from bundler.bench.load import beside, crowd, cut, in_turn
from bundler.errors import SmokeError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Seen:
    """What a server was sent, and how many requests it had at the same time."""

    sizes: list[int] = field(default_factory=list)
    waiting: int = 0
    most: int = 0
    together: threading.Barrier | None = None


@contextmanager
def server(*, refuses: str = "nothing", together: int = 0) -> Iterator[tuple[Target, Seen]]:
    """Give a server that answers 500 to one text, and waits until `together` requests are there."""
    seen, lock = Seen(), threading.Lock()
    seen.together = threading.Barrier(together, timeout=10) if together else None

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["texts"]
            with lock:
                seen.sizes.append(len(texts))
                seen.waiting += 1
                seen.most = max(seen.most, seen.waiting)
            if seen.together is not None:
                seen.together.wait()
            with lock:
                seen.waiting -= 1
            body = json.dumps({"vectors": [[1.0]] * len(texts)}).encode()
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
            yield Target(name="made up", port=made.server_address[1], largest=5), seen
        finally:
            made.shutdown()


TEXTS = [f"text {number}" for number in range(12)]


def test_a_list_is_cut_into_parts_and_nothing_is_lost() -> None:
    assert cut(list("abcde"), 2) == [["a", "b"], ["c", "d"], ["e"]]
    assert cut([], 3) == []


def test_a_batch_larger_than_a_server_takes_is_sent_in_parts_and_timed_as_one() -> None:
    with server() as (target, seen):
        seconds = in_turn(target, [TEXTS, TEXTS[:2]])
    assert len(seconds) == 2
    assert seen.sizes == [5, 5, 2, 2]


def test_half_a_measurement_is_none() -> None:
    with server(refuses="text 1") as (target, _), pytest.raises(SmokeError, match="made up"):
        in_turn(target, [["text 0"], ["text 1"]])


def test_the_clients_of_a_crowd_are_there_at_the_same_time() -> None:
    with server(together=4) as (target, seen):
        found = crowd(target, TEXTS, clients=4)
    assert (found.texts, found.failures, len(found.latencies)) == (12, 0, 12)
    assert seen.most == 4


def test_there_are_no_more_clients_than_requests() -> None:
    with server() as (target, seen):
        found = crowd(target, TEXTS[:3], clients=64, size=2)
    assert sorted(seen.sizes) == [1, 2]
    assert len(found.latencies) == 2


def test_a_failure_in_a_crowd_is_counted_and_not_timed() -> None:
    with server(refuses="text 5") as (target, _):
        found = crowd(target, TEXTS, clients=3)
    assert (found.failures, len(found.latencies)) == (1, 11)


def test_single_texts_are_timed_alone_and_beside_a_bulk_client() -> None:
    with server() as (target, seen):
        found = beside(target, TEXTS[:3], TEXTS, pause_s=0.01)
    assert (len(found.idle), len(found.busy), found.failures) == (3, 3, 0)
    assert found.bulk_texts == 12 * seen.sizes.count(12)
    assert found.bulk_texts > 0


def test_a_bulk_client_that_is_refused_stops_and_is_counted() -> None:
    with server(refuses="text 11") as (target, seen):
        found = beside(target, TEXTS[:3], TEXTS, pause_s=0.01)
    assert found.failures == 1
    assert seen.sizes.count(12) == 1
