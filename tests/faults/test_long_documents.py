"""Documents that are a few kilobytes to send and millions of tokens to compute."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING

import pytest

from sidecar.settings import Limits
from tests.support import crowded, heavy
from tests.support.running import running

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="starts the service as a process")
BUDGET = Limits().max_queued_tokens
# To the engine without a model each sign is a token, and letters in a row are one.
DOCUMENT = "汉。".encode() * 1_000
CHUNKS = 1_801


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running(heavy.COMMAND) as started:
        yield started.wait_ready()


def test_bulk_requests_are_served_beside_long_documents(port: int) -> None:
    bodies = [(DOCUMENT, False), (DOCUMENT, True)]
    seen, (whole, by_line) = crowded.beside(port, bodies, clients=3, requests=4, texts=200)
    assert seen.statuses == [200] * 12
    assert max(seen.queued) <= BUDGET
    with contextlib.closing(whole):
        response = whole.getresponse()
        assert response.status == 200
        answer = json.loads(response.read())
    assert len(answer["vectors"]) == CHUNKS
    assert sum(span["tokens"] for span in answer["spans"]) > BUDGET
    with contextlib.closing(by_line):
        response = by_line.getresponse()
        assert response.status == 200
        lines = [json.loads(line) for line in response]
    assert lines[-1] == {"type": "end", "data": {}}
    vectors = [row for line in lines if line["type"] == "chunks" for row in line["data"]["vectors"]]
    assert vectors == answer["vectors"]


def test_documents_whose_clients_leave_end_at_once(port: int) -> None:
    documents = [crowded.sent(port, DOCUMENT * 4, is_lines=bool(n % 2)) for n in range(4)]
    crowded.until_long(port, len(documents))
    for document in documents:
        document.close()
    crowded.until_long(port, 0)
    assert crowded.waiting(port) == (0, 0)
