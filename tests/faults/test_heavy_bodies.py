"""Bodies that are small on the wire and large for whoever reads them, at a running service."""

from __future__ import annotations

import socket
import sys
import time
from typing import TYPE_CHECKING

import pytest

from bench import TINY_BERT
from bench.synthetic import write_model
from tests.support import heavy
from tests.support.doorstep import CLOSE, HOST, post, rest, status
from tests.support.processes import WAIT_S
from tests.support.running import running
from tests.support.twins import WORDS, write_graph
from tests.support.vitals import MIB, forget_peak, memory

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads peaks of memory from /proc")
SIZE = 4 * MIB
MOST = 4  # times a body's own size


class Service:
    """A service of its own process, asked by bare sockets."""

    def __init__(self, port: int, pid: int) -> None:
        self._port = port
        self.pid = pid
        self.trimmed = 0

    def say(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self._port), timeout=WAIT_S) as client:
            client.sendall(request)
            return rest(client)

    def wait_trimmed(self) -> None:
        """Return once it has given back memory, without another request; `trimmed` is the rest."""
        held = memory(self.pid)
        deadline = time.monotonic() + WAIT_S
        while (left := memory(self.pid)) > held - MIB:
            assert time.monotonic() < deadline, f"{held} bytes are held, and {left} after a while"
            time.sleep(0.1)
        self.trimmed = left


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running(heavy.COMMAND) as started:
        service = Service(started.wait_ready(), started.process.pid)
        started.wait_loaded()
        for name in ("one text", "half a pair"):  # what is loaded on demand
            assert status(service.say(post(heavy.KINDS[name](SIZE)))) == 422
        yield service


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    model = write_graph(write_model(tmp_path_factory.mktemp("model"), TINY_BERT, WORDS))
    with running([*heavy.PROGRAM, "--engine", "packed", "--model", str(model)]) as started:
        service = Service(started.wait_ready(), started.process.pid)
        started.wait_loaded()
        for make in heavy.TEXTS.values():  # what is loaded on demand
            assert status(service.say(post(make(MIB)))) == 200
        service.wait_trimmed()
        yield service


@pytest.mark.parametrize("name", heavy.TEXTS)
def test_texts_without_white_space_take_a_few_times_their_size(packed: Service, name: str) -> None:
    request = post(heavy.TEXTS[name](SIZE))
    forget_peak(packed.pid)
    assert status(packed.say(request)) == 200
    # Than before the first of them, whose memory may have been kept for this one.
    assert memory(packed.pid, "VmHWM") - packed.trimmed < MOST * len(request)


@pytest.mark.parametrize("name", heavy.KINDS)
def test_a_body_takes_memory_of_a_few_times_its_size(service: Service, name: str) -> None:
    request = post(heavy.KINDS[name](SIZE))
    before = memory(service.pid)
    forget_peak(service.pid)
    answer = service.say(request)
    assert status(answer) in (200, 400, 422)
    assert len(answer) < SIZE
    assert memory(service.pid, "VmHWM") - before < MOST * SIZE
    assert status(service.say(b"GET /health HTTP/1.1\r\n" + CLOSE + HOST + b"\r\n")) == 200


@pytest.mark.parametrize("path", heavy.ROUTES)
def test_of_the_other_routes_none_takes_more(service: Service, path: str) -> None:
    for name in heavy.SOME:
        body = heavy.spelled(heavy.KINDS[name](SIZE), path)
        before = memory(service.pid)
        forget_peak(service.pid)
        answer = service.say(post(body, path=path))
        assert status(answer) in (200, 400, 422), (name, answer[:500])
        assert len(answer) < SIZE, name
        assert memory(service.pid, "VmHWM") - before < MOST * SIZE, name
