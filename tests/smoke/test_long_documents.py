"""A document at full size that overlaps itself 200 times, which takes half an hour to compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.settings import Limits
from tests.support import crowded
from tests.support.running import program, running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.full
# Of the plane that holds the ideographs, in an order that repeats late.
DOCUMENT = "".join(chr(0x4E00 + number % 20_000) for number in range(2_000_000)).encode()


def test_bulk_requests_are_served_beside_millions_of_tokens(lean: Path) -> None:
    with running([*program(lean), "--port", "0"], max_seconds=900) as service:
        port = service.wait_ready()
        bodies = [(DOCUMENT, False), (DOCUMENT, True)]
        seen, documents = crowded.beside(port, bodies, clients=4, requests=8, texts=100)
        assert seen.statuses == [200] * 32
        assert max(seen.queued) <= Limits().max_queued_tokens
        assert crowded.waiting(port)[1] == seen.long_requests == len(documents)
        for document in documents:
            document.close()
        crowded.until_long(port, 0)
        assert crowded.waiting(port) == (0, 0)
        assert service.stop() == 0
