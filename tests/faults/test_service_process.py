"""The service as a process that is signalled, cut off and left without a reader."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import stub_service
from tests.support.processes import PROGRAM, WAIT_S, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def fill(descriptor: int) -> None:
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x" * 512)
    os.set_blocking(descriptor, True)


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def begin(*options: str, **named: Any) -> Process:
        made.append(Process(*options, **named))
        return made[-1]

    yield begin
    for process in made:
        process.popen.kill()
        process.popen.communicate()


def test_sigterm_ends_a_ready_service_with_0(
    start: Callable[..., Process],
) -> None:
    service = start()
    service.until(200)
    assert service.embeds()
    service.signal(signal.SIGTERM)
    code, output, talk = service.end()
    assert code == 0
    assert b"Traceback" not in talk
    kinds = [json.loads(line.removeprefix(b"PROGRESS:"))["type"] for line in output.splitlines()]
    assert kinds == ["model_cached", "model_loaded", "ready"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_load_ends_with_0_without_waiting_for_it(
    start: Callable[..., Process], number: int
) -> None:
    service = start("--slow-load")
    service.until(503)
    service.signal(number)
    code, _, talk = service.end()
    assert code == 0
    assert b"Traceback" not in talk


def test_sigterm_while_the_libraries_are_imported_ends_with_0(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[]", encoding="utf-8")
    service = str(stub_service.ROOT / "service")
    popen = subprocess.Popen(
        [sys.executable, "-I", "-B", service, "--port", "0", "--model", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert popen.stderr is not None
    for line in popen.stderr:
        if b"importing" in line:  # the real ones, which take seconds
            break
    popen.send_signal(signal.SIGTERM)
    output, talk = popen.communicate(timeout=WAIT_S)
    assert popen.returncode == 0
    assert b"Traceback" not in talk
    assert all(line.startswith(b"PROGRESS:") for line in output.splitlines())


def test_an_error_without_any_stream_to_tell_it_keeps_its_exit_code() -> None:
    service = str(stub_service.ROOT / "service")
    for redirections in ("", "<&- >&- 2>&-"):
        command = f'exec "$0" -I -B "$1" --port 0 --model no/such-model {redirections}'
        done = subprocess.run(
            ["/bin/sh", "-c", command, sys.executable, service],
            check=False,
            timeout=WAIT_S,
            capture_output=True,
        )
        assert done.returncode == 5
        assert done.stdout == b""
        assert (b"--allow-download" in done.stderr) is (redirections == "")


def test_a_second_signal_ends_at_once_with_128_plus_its_number(
    start: Callable[..., Process],
) -> None:
    service = start()
    service.until(200)
    holder = threading.Thread(target=ask_and_be_cut_off, args=(service,))
    holder.start()
    until_busy(service)
    service.signal(signal.SIGTERM)
    time.sleep(0.3)
    service.signal(signal.SIGTERM)
    code, _, talk = service.end()
    holder.join()
    assert code == 128 + signal.SIGTERM
    assert b"Traceback" not in talk


def test_a_batch_that_hangs_and_hung_clients_do_not_hold_the_service(
    start: Callable[..., Process],
) -> None:
    service = start()
    service.until(200)
    statuses: list[int] = []
    client = threading.Thread(
        target=lambda: statuses.append(service.ask("POST", "/embed", {"texts": ["wait"]})[0])
    )
    client.start()
    until_busy(service)
    with contextlib.ExitStack() as stack:
        for sent in (b"", b"POST /em", b"POST /embed HTTP/1.1\r\nHost: localhost\r\n"):
            hung = socket.create_connection(("127.0.0.1", service.port))
            stack.enter_context(hung).sendall(sent)
        service.signal(signal.SIGTERM)
        code, _, talk = service.end()
    client.join()
    assert code == 0
    assert statuses == [503]
    assert b"Traceback" not in talk


def test_shutdown_and_then_a_signal_is_one_graceful_stop(start: Callable[..., Process]) -> None:
    service = start()
    service.until(200)
    assert service.ask("POST", "/shutdown")[0] == 202
    with contextlib.suppress(ProcessLookupError):
        service.signal(signal.SIGTERM)
    assert service.end()[0] == 0


def test_a_taken_port_is_told_before_the_model_is_touched(start: Callable[..., Process]) -> None:
    first = start("--slow-load")
    first.until(503)
    second = subprocess.run(
        [*PROGRAM, "--slow-load", "--port", str(first.port)],
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    assert second.returncode == 3
    assert second.stdout == b""


def test_a_stale_instance_on_the_port_is_recognised(start: Callable[..., Process]) -> None:
    first = start("--instance", "left-over.1")
    first.until(200)
    assert first.ask("GET", "/health")[1]["instance"] == "left-over.1"
    second = subprocess.run(
        [*PROGRAM, "--port", str(first.port), "--instance", "the-new.one"],
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    last = json.loads(second.stderr.splitlines()[-1])
    assert second.returncode == last["exit_code"] == 3
    assert (last["holder"], last["holder_instance"]) == ("sidecar", "left-over.1")
    assert "another Sidecar" in last["message"]
    first.signal(signal.SIGTERM)
    code, output, _ = first.end()
    assert code == 0
    ready = json.loads(output.splitlines()[-1].removeprefix(b"PROGRESS:"))
    assert ready["data"]["instance"] == "left-over.1"


@pytest.mark.parametrize("taken", ["silent", "stopped"])
def test_a_holder_that_does_not_answer_is_a_stranger(
    start: Callable[..., Process], taken: str
) -> None:
    with contextlib.ExitStack() as stack:
        if taken == "silent":
            port = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        else:
            hung = start()
            hung.until(200)
            hung.signal(signal.SIGSTOP)
            port = hung.port
        done = subprocess.run(
            [*PROGRAM, "--port", str(port)], capture_output=True, timeout=WAIT_S, check=False
        )
    last = json.loads(done.stderr.splitlines()[-1])
    assert (done.returncode, last["holder"]) == (3, "stranger")


@pytest.mark.parametrize("redirections", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(start: Callable[..., Process], redirections: str) -> None:
    service = start(redirections=redirections)
    service.until(200)
    assert service.embeds()
    service.signal(signal.SIGTERM)
    assert service.end()[0] == 0


def test_readers_that_leave_change_nothing(start: Callable[..., Process]) -> None:
    service = start("--log-level", "debug")
    assert service.popen.stdout is not None
    assert service.popen.stderr is not None
    service.popen.stdout.close()
    service.popen.stderr.close()
    service.until(200)
    assert service.embeds()
    service.signal(signal.SIGTERM)
    assert service.popen.wait(WAIT_S) == 0


def test_full_pipes_that_nobody_reads_change_nothing(start: Callable[..., Process]) -> None:
    pipes = [os.pipe(), os.pipe()]
    for _, writing in pipes:
        fill(writing)
    service = start("--log-level", "debug", stdout=pipes[0][1], stderr=pipes[1][1])
    service.until(200)
    assert service.embeds()
    service.signal(signal.SIGTERM)
    assert service.end()[0] == 0
    for reading, writing in pipes:
        assert set(os.read(reading, 1 << 20)) == {ord("x")}
        os.close(reading)
        os.close(writing)


def test_no_home_and_a_hostile_environment_change_nothing(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    service = start(
        HOME=str(tmp_path),
        HTTP_PROXY="http://127.0.0.1:1",
        ALL_PROXY="socks5://127.0.0.1:1",
        WEB_CONCURRENCY="7",
        UVICORN_PORT="1",
        FORWARDED_ALLOW_IPS="*",
        LC_ALL="C",
        TZ="Nowhere/None",
    )
    service.until(200)
    assert service.embeds()
    service.signal(signal.SIGTERM)
    assert service.end()[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_two_host_headers_and_a_host_of_strangers_are_refused_on_the_wire(
    start: Callable[..., Process],
) -> None:
    service = start()
    service.until(200)
    for headers, status in (
        (b"Host: evil.example\r\n", b"421"),
        (b"Host: localhost\r\nHost: localhost\r\n", b"400"),
        (b"", b"400"),
        (b"Host: localhost\r\nOrigin: null\r\n", b"403"),
        (b"Host: localhost\r\n", b"200"),
    ):
        with socket.create_connection(("127.0.0.1", service.port), timeout=WAIT_S) as client:
            client.sendall(b"GET /health HTTP/1.1\r\n" + headers + b"\r\n")
            assert client.recv(4096).split(b" ", 2)[1] == status


def ask_and_be_cut_off(service: Process) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        service.ask("POST", "/embed", {"texts": ["wait"]})


def until_busy(service: Process) -> None:
    """Wait until the inference thread is held: a short request is not answered any more."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=0.3)
        try:
            headers = {"content-type": "application/json"}
            connection.request("POST", "/embed", '{"texts": ["a"]}', headers)
            connection.getresponse().read()
        except TimeoutError:
            return
        finally:
            connection.close()
        time.sleep(0.02)
    pytest.fail("the request that waits was never begun")
