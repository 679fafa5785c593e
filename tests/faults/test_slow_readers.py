"""Clients that take a few bytes of large answers now and then, at a running service."""

from __future__ import annotations

import socket
import sys
import time

import pytest

from tests.support import heavy, storm
from tests.support.doorstep import post, rest, status
from tests.support.processes import WAIT_S
from tests.support.running import running
from tests.support.slowreaders import PATIENCE_S, WAVE_S, Readers
from tests.support.vitals import MIB, memory

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(sys.platform != "linux", reason="reads peaks of memory from /proc"),
]
READERS, WAVES = 200, 5
# 39 MB of answer, as 8,192 texts make as numbers of a model.
LARGE = {"texts": [""] * 19_000, "encoding": "base64"}
HELD = 256 * MIB


def test_two_hundred_readers_hold_no_more_than_the_budget_and_are_ended() -> None:
    with running(heavy.COMMAND, max_seconds=600) as service:
        port, pid = service.wait_ready(), service.process.pid
        before = memory(pid)
        readers = Readers(port=port, body=LARGE)
        try:
            for _ in range(WAVES):
                readers.come(READERS // WAVES)
                ends = time.monotonic() + WAVE_S
                readers.sip_for(lambda: time.monotonic() < ends)  # noqa: B023 (called at once)
                assert small(port) == storm.SERVED
            assert set(readers.statuses) == {storm.SERVED, storm.BUSY}
            ends = time.monotonic() + PATIENCE_S
            readers.sip_for(lambda: readers.waiting > 0 and time.monotonic() < ends)
            assert readers.waiting == 0
        finally:
            readers.leave()
        # What is held, and what it takes to make the last of it.
        most = memory(pid, "VmHWM") - before
        assert most < 2 * HELD, f"{most / MIB:.0f} MiB"
        assert "the client read too slowly" in service.log


def small(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as client:
        client.sendall(post({"texts": ["a"]}))
        return status(rest(client))
