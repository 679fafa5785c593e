"""A service that is suspended with its hands full: whatever it was asked is answered."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support import stub_service
from tests.support.doorstep import CLOSE, HOST, post
from tests.support.tinypdf import SAID, slow
from tests.support.vitals import until_reading

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
PROGRAM = [sys.executable, "-B", str(Path(stub_service.__file__))]
PREFIX = "PROGRESS:"
WAIT_S = 60
SHORT_S, LONG_S = 4.0, 70.0  # longer than any deadline is: with --short, and without
GET = b"GET /info HTTP/1.1\r\n" + HOST
LAST = GET + CLOSE + b"\r\n"
TEXTS = {"texts": ["a word"]}
LARGE = post({"texts": ["x" * 100_000] * 40})  # more than the loop reads in a few turns
# Most of it is encoded when the last word is come to.
LINES = b"word " * 40_000 + b"sleep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a client sends before, during and after the suspension."""

    served: bytes = b""  # a request before all that, on the same connection
    before: bytes = b""
    meanwhile: bytes = b""
    after: bytes = b""


CASES = {
    "a connection without a request": Case(after=LAST),
    "a kept connection": Case(served=GET + b"\r\n", after=LAST),
    "a request on a kept connection": Case(served=GET + b"\r\n", meanwhile=LAST),
    "half a head in the socket": Case(before=GET, meanwhile=CLOSE, after=b"\r\n"),
    "the end of a head in the socket": Case(before=GET, meanwhile=CLOSE + b"\r\n"),
    "the end of a head afterwards": Case(before=GET, after=CLOSE + b"\r\n"),
    "a head and half a body": Case(before=post(TEXTS)[:-5], after=post(TEXTS)[-5:]),
    "the end of a body in the socket": Case(before=post(TEXTS)[:-5], meanwhile=post(TEXTS)[-5:]),
    "much of a body in the socket": Case(before=LARGE[:-3_000_000], meanwhile=LARGE[-3_000_000:]),
    "the end of a large body afterwards": Case(before=LARGE[:-5], after=LARGE[-5:]),
    "a whole request in the socket": Case(meanwhile=post(TEXTS)),
    "health": Case(meanwhile=b"GET /health HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n"),
}


class Suspended:
    """A service that was suspended for `seconds` while clients were in all states.

    `answers` by the name of what was asked: the status and the body, or what broke.
    """

    def __init__(self, log: Path, seconds: float, *options: str, together: bool) -> None:
        self.answers: dict[str, tuple[int, bytes] | Exception] = {}
        self._log = log
        self._threads: list[threading.Thread] = []
        with log.open("wb") as errors:
            self.popen = subprocess.Popen(
                [*PROGRAM, "--port", "0", "--parent-watch", *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={},
                encoding="utf-8",
                start_new_session=True,
            )
        try:
            self.port = self._ready()
            self._suspend(seconds, is_together=together)
        except BaseException:
            self.end()
            raise

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def end(self) -> None:
        os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.communicate()

    def _ready(self) -> int:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            event: Any = json.loads(line.removeprefix(PREFIX))
            if event["type"] == "ready":
                return int(event["data"]["port"])
        raise AssertionError(self.log)

    def _suspend(self, seconds: float, *, is_together: bool) -> None:
        with contextlib.ExitStack() as stack:

            def connect() -> socket.socket:
                address = ("127.0.0.1", self.port)
                return stack.enter_context(socket.create_connection(address, timeout=WAIT_S))

            pdf = connect()
            pdf.sendall(upload(slow(6, said=SAID), "application/pdf"))
            until_reading(self.popen.pid)
            lines = connect()
            lines.sendall(upload(LINES, "text/plain", b"Accept: application/x-ndjson\r\n"))
            begun = bytearray()
            while b'"chunks"' not in begun:
                begun += lines.recv(1 << 16)
            queued = connect()
            queued.sendall(post({"texts": ["sleep", "a word"]}))
            clients = {name: connect() for name in CASES}
            for name, case in CASES.items():
                if case.served:
                    clients[name].sendall(case.served)
                    answer = http.client.HTTPResponse(clients[name])
                    answer.begin()
                    assert answer.read()
            for name, case in CASES.items():
                clients[name].sendall(case.before)
            number = -self.popen.pid if is_together else self.popen.pid
            os.kill(number, signal.SIGSTOP)
            stopped = time.monotonic()
            resumed = threading.Event()
            for name, case in CASES.items():
                self._follow(name, clients[name], case, resumed)
            self._follow("a document that is read", pdf, Case(), resumed)
            self._follow("a request that waits for its turn", queued, Case(), resumed)
            self._follow("lines", lines, Case(), resumed, begun=bytes(begun))
            time.sleep(max(0.0, stopped + seconds - time.monotonic()))
            os.kill(number, signal.SIGCONT)
            resumed.set()
            for thread in self._threads:
                thread.join(WAIT_S)
                assert not thread.is_alive()

    def _follow(
        self,
        name: str,
        client: socket.socket,
        case: Case,
        resumed: threading.Event,
        begun: bytes = b"",
    ) -> None:
        def follow() -> None:
            try:
                if case.meanwhile:  # to send nothing waits for room, too
                    client.sendall(case.meanwhile)
                assert resumed.wait(2 * LONG_S)
                client.sendall(case.after)
                found = bytearray(begun)
                while chunk := client.recv(1 << 16):
                    found += chunk
                self.answers[name] = understood(bytes(found))
            except (OSError, http.client.HTTPException) as error:
                self.answers[name] = error

        self._threads.append(threading.Thread(target=follow))
        self._threads[-1].start()


class _Heard:
    """What was heard, as http.client wants to read it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def understood(heard: bytes) -> tuple[int, bytes]:
    """Return the status and the body; raises HTTPException for an answer that was cut."""
    answer = http.client.HTTPResponse(cast("socket.socket", _Heard(heard)))
    answer.begin()
    return answer.status, answer.read()


def upload(data: bytes, kind: str, more: bytes = b"") -> bytes:
    head = f"Content-Type: {kind}\r\nContent-Length: {len(data)}\r\n".encode()
    path = b"POST /embed-file/upload?max_chunks=2000 HTTP/1.1\r\n"
    return path + HOST + CLOSE + more + head + b"\r\n" + data


ALONE, TOGETHER = "the service alone", "and what it started"
FULL = pytest.mark.full


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((SHORT_S, ALONE), id="short, alone", marks=FULL),
        pytest.param((SHORT_S, TOGETHER), id="short, together"),
        pytest.param((LONG_S, ALONE), id="long, alone", marks=FULL),
        pytest.param((LONG_S, TOGETHER), id="long, together", marks=FULL),
    ],
)
def suspended(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Suspended]:
    seconds, what = request.param
    options = ["--short"] if seconds == SHORT_S else []
    log = tmp_path_factory.mktemp("suspended") / "log"
    made = Suspended(log, seconds, *options, together=what == TOGETHER)
    yield made
    made.end()


@pytest.mark.parametrize("name", [*CASES, "a request that waits for its turn"])
def test_what_a_client_asked_of_a_suspended_service_is_answered(
    suspended: Suspended, name: str
) -> None:
    answer = suspended.answers[name]
    assert isinstance(answer, tuple), answer
    status, body = answer
    assert (status, bool(json.loads(body))) == (200, True), body


def test_a_document_that_was_being_read_is_not_blamed(suspended: Suspended) -> None:
    answer = suspended.answers["a document that is read"]
    assert isinstance(answer, tuple), answer
    assert answer[0] == 200, answer[1]
    assert json.loads(answer[1])["chunks"]


def test_lines_go_on_after_a_suspension(suspended: Suspended) -> None:
    answer = suspended.answers["lines"]
    assert isinstance(answer, tuple), answer
    found = [json.loads(line) for line in answer[1].splitlines()]
    assert [line["type"] for line in found if line["type"] not in ("progress", "chunks")] == [
        "start",
        "end",
    ]
    assert found[-2]["data"]["done"] == found[-2]["data"]["total"]


def test_a_suspended_service_keeps_its_parent_and_refuses_nothing(suspended: Suspended) -> None:
    assert suspended.popen.poll() is None
    assert "too-slow" not in suspended.log
    connection = http.client.HTTPConnection("127.0.0.1", suspended.port, timeout=WAIT_S)
    connection.request("GET", "/health")
    assert json.load(connection.getresponse())["status"] == "ok"
    connection.close()


def test_a_stop_that_was_slept_through_still_answers_what_runs(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*PROGRAM, "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=log,
            env={},
            encoding="utf-8",
        )
    try:
        assert process.stdout is not None
        port = next(
            event["data"]["port"]
            for event in (json.loads(line.removeprefix(PREFIX)) for line in process.stdout)
            if event["type"] == "ready"
        )
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as client:
            client.sendall(post({"texts": ["sleep"]}))
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            process.send_signal(signal.SIGSTOP)
            time.sleep(5)  # longer than a stop takes at most
            process.send_signal(signal.SIGCONT)
            heard = bytearray()
            while chunk := client.recv(1 << 16):
                heard += chunk
        assert understood(bytes(heard))[0] == 200
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
        process.communicate()
