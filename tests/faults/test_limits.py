"""Limits of the system that a start or a request meets: each is told as that limit."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.documents import worker
from tests.support import stub_service, tinypdf
from tests.support.groups import group
from tests.support.processes import WAIT_S
from tests.support.running import ended, running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.running import Running

SERVICE = [sys.executable, "-I", "-B", str(stub_service.ROOT / "service"), "--port", "0"]
HASHING = [*SERVICE, "--engine", "hash"]
FILES = "open files and sockets of this process"
GROUP = "threads and processes of this container or control group"
USER = "threads and processes of this user"
TIME = "seconds of processor time of this process"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these are limits of Linux")


class Client:
    """Asks on one connection, which is kept: a limit of files lets no other in."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)

    def close(self) -> None:
        self._connection.close()

    def post(self, path: str, body: object) -> tuple[int, Any]:
        return self.send(path, json.dumps(body).encode(), "application/json")

    def send(self, path: str, body: bytes, kind: str) -> tuple[int, Any]:
        self._connection.request("POST", path, body, {"Content-Type": kind})
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())


def limited(words: str, command: list[str]) -> list[str]:
    """Return `command` after the shell's `words`, which set a limit."""
    return ["/bin/sh", "-c", f'{words} && exec "$@"', "sh", *command]


def last_of(talk: str) -> Any:
    return json.loads(talk.splitlines()[-1])


def told(code: int, last: Any) -> tuple[int, int, str, int]:
    assert str(last["limit_value"]) in last["why"]
    assert last["limit"] in last["why"]
    return code, last["exit_code"], last["limit"], last["limit_value"]


def is_system_limit(status: int, problem: Any, name: str, value: int) -> bool:
    assert problem["why"] == f"the limit of {name} is {value}"
    assert "raise it" in problem["next"]
    return status == 503 and problem["type"].endswith(":system-limit")


@pytest.mark.parametrize("number", [8, 20, 40])
def test_too_few_files_for_a_start_exit_11_with_the_limit(number: int) -> None:
    done = ended(limited(f"ulimit -n {number}", HASHING))
    assert told(done.returncode, last_of(done.stderr)) == (11, 11, FILES, number)
    assert "ulimit -n" in last_of(done.stderr)["next"]
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


def test_too_few_threads_in_a_group_exit_11_with_the_limit() -> None:
    with group("pids", 3) as (inside, _):
        done = ended([*inside, *HASHING])
    assert told(done.returncode, last_of(done.stderr)) == (11, 11, GROUP, 3)


def test_a_group_without_a_single_thread_more_exits_11_with_the_limit() -> None:
    with group("pids", 1) as (inside, _):
        done = ended([*inside, *HASHING])
    assert told(done.returncode, last_of(done.stderr)) == (11, 11, GROUP, 1)
    assert "bug" not in done.stderr


@pytest.mark.parametrize("number", [1, 5])
def test_too_few_threads_of_a_user_exit_11_with_the_limit(number: int) -> None:
    if os.geteuid() != 0 or not (shutil.which("setpriv") and shutil.which("prlimit")):
        pytest.skip("another user cannot be become here")
    # A user that has nothing else, and may read our files all the same; root has no such limit.
    become = ["setpriv", f"--reuid={61_000 + os.getpid() % 4_000}", "--clear-groups"]
    become += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    done = ended(["prlimit", f"--nproc={number}", *become, *HASHING])
    assert told(done.returncode, last_of(done.stderr)) == (11, 11, USER, number)


def test_spent_processor_time_exits_11_with_the_limit() -> None:
    body = {"texts": ["word " * 15_000] * 60}
    with running(limited("ulimit -t 2", HASHING)) as service:
        # A slow machine spends it before the service is ready.
        with contextlib.suppress(AssertionError, http.client.HTTPException, OSError):
            client = Client(service.wait_ready())
            while True:
                client.post("/embed", body)
        code = service.process.wait(WAIT_S)
        assert told(code, last_of(service.log)) == (11, 11, TIME, 2)


def test_files_that_run_out_at_work_are_no_fault_of_a_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello", encoding="utf-8")
    command = [*HASHING, "--allow-dir", str(tmp_path)]
    with running(limited("ulimit -n 48", command)) as service, contextlib.ExitStack() as stack:
        port = service.wait_ready()
        with contextlib.closing(Client(port)) as client:
            assert client.post("/embed-file", {"path": str(tmp_path / "a.txt")})[0] == 200
            crowd(service, port, stack, most=48)
            status, problem = client.post("/embed-file", {"path": str(tmp_path / "a.txt")})
            assert is_system_limit(status, problem, FILES, 48)
            status, problem = upload(client, tinypdf.pdf(["hello"]))
            assert is_system_limit(status, problem, FILES, 48)
            assert client.post("/embed", {"texts": ["a"]})[0] == 200
            stack.close()
            status = 503
            while status == 503:  # until the service has noticed that they left
                status, _ = client.post("/embed-file", {"path": str(tmp_path / "a.txt")})
            assert status == 200
        assert service.stop() == 0
        assert "connections wait to be accepted: the limit of open files" in service.log
        assert "Traceback" not in service.log
        assert "_start_serving" not in service.log


def crowd(service: Running, port: int, stack: contextlib.ExitStack, *, most: int) -> None:
    """Hold connections with half a request until the service has `most` files open, and more."""
    half = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for _ in range(most):
        made = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        made.sendall(half + b"Content-Length: 9\r\n\r\n{")
    deadline = time.monotonic() + WAIT_S
    while "connections wait" not in service.log:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def serves(service: Running) -> bool:
    with contextlib.closing(Client(service.wait_ready())) as client:
        return client.post("/embed", {"texts": ["a"]})[0] == 200


def upload(client: Client, pdf: bytes) -> tuple[int, Any]:
    return client.send("/embed-file/upload", pdf, "application/pdf")


def test_a_process_that_cannot_start_for_a_pdf_names_the_limit() -> None:
    with group("pids", 64) as (inside, file), running([*inside, *HASHING]) as service:
        with contextlib.closing(Client(service.wait_ready())) as client:
            file.write_text("2", encoding="ascii")
            status, problem = upload(client, tinypdf.pdf(["hello"]))
            assert is_system_limit(status, problem, GROUP, 2)
            assert client.post("/embed", {"texts": ["a"]})[0] == 200
            file.write_text("64", encoding="ascii")
            assert upload(client, tinypdf.pdf(["hello"]))[0] == 200
        assert service.stop() == 0
        assert "Traceback" not in service.log


def test_a_thread_that_cannot_start_for_a_text_names_the_limit() -> None:
    many = {"texts": ["word " * 100] * 200}  # these are tokenised on a thread of their own
    with group("pids", 64) as (inside, file), running([*inside, *HASHING]) as service:
        with contextlib.closing(Client(service.wait_ready())) as client:
            file.write_text("2", encoding="ascii")
            status, problem = client.post("/embed", many)
            assert is_system_limit(status, problem, GROUP, 2)
            file.write_text("64", encoding="ascii")
            assert client.post("/embed", many)[0] == 200
        assert service.stop() == 0


def test_a_reader_of_pdfs_without_a_thread_says_so_by_its_code() -> None:
    pdf = tinypdf.pdf(["hello"])
    with group("pids", 1) as (inside, _):
        words = [*inside, sys.executable, "-I", "-B", worker.__file__, "9", "99", "9"]
        done = subprocess.run(
            [*words, str(os.getpid())],
            input=b"".join(
                worker.LENGTH.pack(len(message)) + message
                for message in (b'{"password":null}', pdf)
            ),
            capture_output=True,
            check=False,
            timeout=WAIT_S,
        )
    assert (done.returncode, done.stdout) == (worker.ENDED_THREADLESS, worker.READY)


def test_a_log_that_may_not_grow_changes_nothing(tmp_path: Path) -> None:
    words = f'ulimit -f 0 && exec 2>"{tmp_path / "log"}"'
    with running(limited(words, HASHING)) as service:
        assert serves(service)
        assert service.stop() == 0
    assert (tmp_path / "log").stat().st_size == 0


def test_a_machine_without_proc_starts_and_serves() -> None:
    if subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("no mounts can be hidden here")
    words = ["unshare", "--mount", *limited("umount -l /proc", HASHING)]
    with running(words) as service:
        assert serves(service)
        assert service.stop() == 0
