"""Clients that take a few bytes of large answers now and then, at a running service."""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.support import heavy, storm
from tests.support.doorstep import post, rest, status
from tests.support.processes import WAIT_S
from tests.support.running import running
from tests.support.vitals import MIB, memory

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(sys.platform != "linux", reason="reads peaks of memory from /proc"),
]
READERS, WAVES = 200, 5
# 39 MB of answer, as 8,192 texts make as numbers of a model.
LARGE = {"texts": [""] * 19_000, "encoding": "base64"}
HELD = 256 * MIB
SIP_BYTES, SIP_S = 500, 10.0
WAVE_S = 14.0
PATIENCE_S = 180.0
# As small as a system lets it be: what it holds for a client is not held by the service.
BUFFER_BYTES = 2304


@dataclass(kw_only=True)
class Reader:
    """A client; `status` is 0 until its answer begins, `ended` once the service closed."""

    client: socket.socket
    status: int = 0
    taken: int = 0
    next_sip: float = 0.0
    ended: bool = False


@dataclass(kw_only=True)
class Readers:
    """Clients of one service, that take large answers in sips; refusals are taken whole."""

    port: int
    every: list[Reader] = field(default_factory=list)

    def come(self, count: int) -> None:
        """Let `count` more ask."""
        request = post(LARGE)
        for _ in range(count):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            client.connect(("127.0.0.1", self.port))
            client.sendall(request)
            client.setblocking(False)
            self.every.append(Reader(client=client))

    def sip_for(self, goes_on: Callable[[], bool]) -> None:
        """Take what is due while it `goes_on`."""
        with selectors.DefaultSelector() as selector:
            while goes_on():
                now = time.monotonic()
                for reader in self.every:
                    if reader.ended or now < reader.next_sip:
                        if reader.client.fileno() in selector.get_map():
                            selector.unregister(reader.client)
                    elif reader.client.fileno() not in selector.get_map():
                        selector.register(reader.client, selectors.EVENT_READ, reader)
                for key, _ in selector.select(0.05):
                    self._sip(key.data)

    def _sip(self, reader: Reader) -> None:
        try:
            data = reader.client.recv(SIP_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            reader.ended = True
            return
        reader.status = reader.status or status(data)
        reader.taken += len(data)
        if reader.status == storm.SERVED:
            reader.next_sip = time.monotonic() + SIP_S

    @property
    def waiting(self) -> int:
        """How many are not ended."""
        return sum(not reader.ended for reader in self.every)

    @property
    def statuses(self) -> Counter[int]:
        """How often each status was answered; 0 stands for none yet."""
        return Counter(reader.status for reader in self.every)

    def leave(self) -> None:
        """Close every connection."""
        for reader in self.every:
            with contextlib.suppress(OSError):
                reader.client.close()


def test_two_hundred_readers_hold_no_more_than_the_budget_and_are_ended() -> None:
    with running(heavy.COMMAND, max_seconds=600) as service:
        port, pid = service.wait_ready(), service.process.pid
        before = memory(pid)
        readers = Readers(port=port)
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
