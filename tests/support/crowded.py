"""Documents that overlap themselves many times, and bulk requests of others beside them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from tests.support.clients import Client

if TYPE_CHECKING:
    from collections.abc import Sequence

QUERY = "unit=tokens&chunk_size=200&chunk_overlap=199&max_chunks=65536"
TEXT = {"Content-Type": "text/plain; charset=utf-8"}
LINES = {"Accept": "application/x-ndjson"}
WAIT_S = 600
SENTENCE = "the tide tables for Tuesday are pinned to the door of the harbour office"


@dataclass(kw_only=True)
class Seen:
    """What became of the bulk requests, and how much waited meanwhile."""

    statuses: list[int] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)
    long_requests: int = 0


def sent(port: int, body: bytes, *, is_lines: bool) -> HTTPConnection:
    """Send a document on a connection of its own, and wait for nothing; closing it is leaving."""
    connection = HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    headers = {**TEXT, **(LINES if is_lines else {})}
    connection.request("POST", f"/embed-file/upload?{QUERY}", body, headers)
    return connection


def waiting(port: int) -> tuple[int, int]:
    """Return the bulk tokens that wait, and how many long requests are computed."""
    body = Client(port=port).ask("/metrics").body.decode()
    values = {
        (sample.name, sample.labels.get("lane")): int(sample.value)
        for family in text_string_to_metric_families(body)
        for sample in family.samples
        if sample.name in ("sidecar_queued_tokens", "sidecar_long_requests")
    }
    return values["sidecar_queued_tokens", "bulk"], values["sidecar_long_requests", None]


def until_long(port: int, count: int) -> None:
    """Wait until so many long requests are computed."""
    deadline = time.monotonic() + WAIT_S
    while waiting(port)[1] != count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def beside(
    port: int, bodies: Sequence[tuple[bytes, bool]], *, clients: int, requests: int, texts: int
) -> tuple[Seen, list[HTTPConnection]]:
    """Send documents, then `requests` bulk requests by each of `clients`, one after the other.

    `bodies` are documents, and whether they are answered in lines. What waits is looked at all
    along. The documents are returned as they are: answered, or not yet.
    """
    seen = Seen()
    with ExitStack() as stack:
        documents = [sent(port, body, is_lines=is_lines) for body, is_lines in bodies]
        for document in documents:
            stack.callback(document.close)
        until_long(port, len(bodies))
        with ThreadPoolExecutor(clients) as pool:
            asked = [pool.submit(_ask, port, requests, texts, client) for client in range(clients)]
            while not all(one.done() for one in asked):
                queued, long_requests = waiting(port)
                seen.queued.append(queued)
                seen.long_requests = max(seen.long_requests, long_requests)
                time.sleep(0.05)
        seen.statuses = [status for one in asked for status in one.result()]
        stack.pop_all()
    return seen, documents


def _ask(port: int, requests: int, texts: int, client: int) -> list[int]:
    asker, found = Client(port=port, timeout_s=WAIT_S), []
    for number in range(requests):
        asked = [f"{client} {number} {text} {SENTENCE}" for text in range(texts)]
        body = {"texts": asked, "priority": "bulk", "encoding": "base64"}
        try:
            found.append(asker.ask("/embed", body).status)
        except (OSError, HTTPException):
            found.append(0)
    return found
