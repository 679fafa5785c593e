"""Bodies that are small on the wire and large for whoever reads them, at a running service."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import heavy
from tests.support.doorstep import CLOSE, HOST, rest, status
from tests.support.processes import WAIT_S
from tests.support.running import running

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads peaks of memory from /proc")
SIZE = 4 * heavy.MIB
MOST = 4  # times a body's own size


class Service:
    """A service of its own process, asked by bare sockets."""

    def __init__(self, port: int, pid: int) -> None:
        self._port = port
        self.pid = pid

    def say(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self._port), timeout=WAIT_S) as client:
            client.sendall(request)
            return rest(client)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running(heavy.COMMAND) as started:
        service = Service(started.wait_ready(), started.process.pid)
        started.wait_loaded()
        for name in ("one text", "half a pair"):  # what is loaded on demand
            assert status(service.say(heavy.request(heavy.KINDS[name](SIZE)))) == 422
        yield service


@pytest.mark.parametrize("name", heavy.KINDS)
def test_a_body_takes_memory_of_a_few_times_its_size(service: Service, name: str) -> None:
    request = heavy.request(heavy.KINDS[name](SIZE))
    before = heavy.memory(service.pid, "VmRSS")
    heavy.forget_peak(service.pid)
    answer = service.say(request)
    assert status(answer) in (200, 400, 422)
    assert len(answer) < SIZE
    assert heavy.memory(service.pid, "VmHWM") - before < MOST * SIZE
    assert status(service.say(b"GET /health HTTP/1.1\r\n" + CLOSE + HOST + b"\r\n")) == 200
