"""Documents that overlap themselves many times, and bulk requests of others beside them."""

from __future__ import annotations

import re
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

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
    slowest_s: float = 0.0
    queued: list[int] = field(default_factory=list)
    long_requests: int = 0


class Document:
    """One document that is sent on a connection of its own; closing it is leaving."""

    def __init__(self, port: int, body: bytes, *, is_lines: bool) -> None:
        """Send it, and wait for nothing."""
        self.connection = HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        headers = {**TEXT, **(LINES if is_lines else {})}
        self.connection.request("POST", f"/embed-file/upload?{QUERY}", body, headers)

    def answer(self) -> tuple[int, bytes]:
        """Return status and body once they are there, and leave."""
        try:
            answer = self.connection.getresponse()
            return answer.status, answer.read()
        finally:
            self.connection.close()


def waiting(port: int) -> tuple[int, int]:
    """Return the bulk tokens that wait, and how many long requests are computed."""
    body = Client(port=port).ask("/metrics").body.decode()

    def value(name: str) -> int:
        found = re.search(rf"^{re.escape(name)} (\S+)$", body, re.MULTILINE)
        assert found is not None, name
        return int(float(found[1]))

    return value('sidecar_queued_tokens{lane="bulk"}'), value("sidecar_long_requests")


def until_long(port: int, count: int) -> None:
    """Wait until so many long requests are computed."""
    deadline = time.monotonic() + WAIT_S
    while waiting(port)[1] != count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def beside(
    port: int, bodies: Sequence[tuple[bytes, bool]], *, clients: int, requests: int, texts: int
) -> tuple[Seen, list[Document]]:
    """Send documents, then `requests` bulk requests by each of `clients`, one after the other.

    `bodies` are documents, and whether they are answered in lines. What waits is looked at all
    along. The documents are returned as they are: answered, or not yet.
    """
    seen = Seen()
    with ExitStack() as stack:
        documents = [Document(port, body, is_lines=is_lines) for body, is_lines in bodies]
        for document in documents:
            stack.callback(document.connection.close)
        until_long(port, len(bodies))
        threads = [
            threading.Thread(target=_ask, args=(port, seen, requests, texts, client))
            for client in range(clients)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            queued, long_requests = waiting(port)
            seen.queued.append(queued)
            seen.long_requests = max(seen.long_requests, long_requests)
            time.sleep(0.05)
        stack.pop_all()
    return seen, documents


def _ask(port: int, seen: Seen, requests: int, texts: int, client: int) -> None:
    asker = Client(port=port, timeout_s=WAIT_S)
    for number in range(requests):
        body = {
            "texts": [f"{client} {number} {text} {SENTENCE}" for text in range(texts)],
            "priority": "bulk",
            "encoding": "base64",
        }
        began = time.monotonic()
        try:
            status = asker.ask("/embed", body).status
        except (OSError, HTTPException):
            status = 0
        seen.slowest_s = max(seen.slowest_s, time.monotonic() - began)
        seen.statuses.append(status)
