"""PDFs that cost a minute, and processes that read them and are killed, in a running service."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.settings import Limits
from tests.support.processes import Process
from tests.support.tinypdf import bombs, pdf, slow
from tests.support.vitals import children, cpu_s, still_there, until_reading

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
PDF = {"content-type": "application/pdf"}
SLOW = slow()
PATIENCE_S = 300  # a document alone may have two minutes
FEW = 4
MAX_WAITING = Limits().max_waiting_pdfs


@pytest.fixture
def service() -> Iterator[Process]:
    yield from started()


@pytest.fixture
def hasty() -> Iterator[Process]:
    """Return a service that gives a document less time, so that many take no hour."""
    yield from started("--document-cpu-seconds", "3")


def started(*options: str) -> Iterator[Process]:
    made = Process(*options)
    made.until(200)
    yield made
    made.popen.kill()
    made.popen.communicate()


def send(service: Process, data: bytes, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
    try:
        connection.request("POST", "/embed-file/upload", data, {**PDF, **headers})
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, body if headers else json.loads(body)
    finally:
        connection.close()


def begin(service: Process) -> tuple[http.client.HTTPConnection, int]:
    """Send a PDF that takes long, and return the connection and the process that reads it."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
    connection.request("POST", "/embed-file/upload", SLOW, PDF)
    return connection, until_reading(service.popen.pid)


@pytest.mark.parametrize("name", sorted(name for name in bombs() if name != "forms in forms"))
def test_bomb_is_refused_and_the_next_document_is_read(service: Process, name: str) -> None:
    data, kind = bombs()[name]
    status, answer = send(service, data)
    if kind:
        told = answer["type"].removeprefix("urn:sidecar:problem:")
        is_full = (kind, told) == ("document-too-complex", "document-crash")
        assert status == 422
        assert told == kind or is_full
    else:
        assert (status, [chunk.strip() for chunk in answer["chunks"]]) == (200, ["Some text."])
    *spent, spare = sorted(children(service.popen.pid), key=cpu_s, reverse=True) or [0]
    assert not still_there(spent, within_s=1)
    assert cpu_s(spare) < 1
    assert send(service, pdf(["next"]))[1]["chunks"] == ["next"]
    assert service.embeds()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_stopped_from_outside_is_replaced_and_no_file_is_blamed(
    service: Process, number: signal.Signals
) -> None:
    connection, reader = begin(service)
    os.kill(reader, number)
    assert not still_there([reader], within_s=5)
    os.kill(until_reading(service.popen.pid), number)
    answer = connection.getresponse()
    assert answer.status == 503
    assert json.loads(answer.read())["type"].endswith(":no-process")
    connection.close()
    assert send(service, pdf(["next"]))[0] == 200


@pytest.mark.parametrize("is_streamed", [False, True])
def test_with_its_client_the_process_that_reads_is_gone_within_a_second(
    service: Process, is_streamed: bool
) -> None:
    if is_streamed:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
        headers = {**PDF, "accept": "application/x-ndjson"}
        connection.request("POST", "/embed-file/upload", SLOW, headers)
        answer = connection.getresponse()
        assert json.loads(answer.readline()) == {"type": "progress", "data": {"phase": "reading"}}
        (reader,) = children(service.popen.pid)
        answer.close()
    else:
        connection, reader = begin(service)
    connection.close()
    assert not still_there([reader], within_s=1)
    assert send(service, pdf(["next"]))[0] == 200


@pytest.mark.parametrize(
    "count", [FEW, *(pytest.param(count, marks=pytest.mark.full) for count in (10, 40))]
)
def test_a_pdf_of_one_line_does_not_wait_behind_slow_ones(hasty: Process, count: int) -> None:
    service = hasty
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(contextlib.closing(begin(service)[0]))]
        for _ in range(count - 1):
            one = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
            slow.append(stack.enter_context(contextlib.closing(one)))
            one.request("POST", "/embed-file/upload", SLOW, PDF)
        status, answer = send(service, pdf(["one line"]))
        if count > MAX_WAITING and status == 429:
            assert answer["type"].endswith(":busy")
        else:
            assert answer["chunks"] == ["one line"]
        if count <= MAX_WAITING:  # none of them was answered before
            assert not select.select([one.sock for one in slow], [], [], 0)[0]
        if count == FEW:
            return
        answers = [one.getresponse() for one in slow]
        kinds = Counter(json.loads(one.read())["type"].rpartition(":")[2] for one in answers)
    assert kinds["document-timeout"] >= min(count, MAX_WAITING)
    assert set(kinds) <= {"document-timeout", "busy"}
    assert all(one.getheader("retry-after") for one in answers if one.status == 429)


@pytest.mark.parametrize("is_reading", [False, True])
def test_a_service_that_is_killed_leaves_no_process(service: Process, is_reading: bool) -> None:
    if is_reading:
        connection, _ = begin(service)
    else:
        assert send(service, pdf(["one"]))[0] == 200
        connection = http.client.HTTPConnection("127.0.0.1", service.port)
    started = children(service.popen.pid)
    assert started
    service.signal(signal.SIGKILL)
    assert not still_there(started, within_s=1)
    connection.close()


def test_sigterm_with_a_running_pdf_ends_with_0_and_leaves_no_process(service: Process) -> None:
    connection, reader = begin(service)
    statuses: list[int] = []

    def wait() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            statuses.append(connection.getresponse().status)

    waiting = threading.Thread(target=wait)
    waiting.start()
    service.signal(signal.SIGTERM)
    code, _, talk = service.end()
    waiting.join()
    connection.close()
    assert code == 0
    assert b"Traceback" not in talk
    assert statuses in ([503], [])
    assert not still_there([reader], within_s=1)
