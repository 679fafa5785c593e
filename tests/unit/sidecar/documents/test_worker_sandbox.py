from __future__ import annotations

import ctypes
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.documents import worker

ROOT = Path(worker.__file__).parents[2]
# What a process tries that the filter holds; it says by its exit code what it could do.
TRIES = """
import ctypes, errno, os, resource, socket, sys, threading
sys.path.insert(0, sys.argv[1])
from sidecar.documents import worker
if sys.argv[2]:
    os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
libc = ctypes.CDLL(None, use_errno=True)
waiting = threading.Event()
other = []
def within_thread():
    waiting.wait()
    try:
        os.open("/etc/hostname", os.O_RDONLY)
    except OSError as error:
        other.append(error.errno)
thread = threading.Thread(target=within_thread)
thread.start()
worker.confine(30)
held = worker.seal()
def fails(try_it):
    try:
        try_it()
    except (OSError, RuntimeError) as error:
        return getattr(error, "errno", errno.EPERM) or errno.EPERM
    return 0
def call(number, *given):
    if libc.syscall(number, *given) < 0:
        raise OSError(ctypes.get_errno(), "")
waiting.set(); thread.join()
said = {
    "read": fails(lambda: os.open("/etc/hostname", os.O_RDONLY)),
    "write": fails(lambda: os.open("/tmp/sidecar-never", os.O_WRONLY | os.O_CREAT)),
    "unlink": fails(lambda: os.unlink("/tmp/sidecar-never")),
    "socket": fails(lambda: socket.socket()),
    "fork": fails(os.fork),
    "thread": fails(lambda: threading.Thread(target=print).start()),
    "spawn": fails(lambda: os.posix_spawn("/bin/true", ["true"], {})),
    "exec": fails(lambda: os.execv("/bin/true", ["true"])),
    "kill": fails(lambda: os.kill(os.getppid(), 0)),
    **{f"call {n}": fails(lambda n=n: call(n, 0, 0, 0, 0, 0)) for n in map(int, sys.argv[3:])},
    "other thread": other[0] if other else 0,
}
os.write(1, f"{held} {sorted(name for name, code in said.items() if code != errno.EPERM)}".encode())
os._exit(0)
"""
# open, creat, fork, vfork, clone, execve, execveat, openat, openat2, clone3, io_uring_setup, x32.
BY_NUMBER = {
    "x86_64": (2, 85, 57, 58, 56, 59, 322, 257, 437, 435, 425, 0x4000_0002),
    "aarch64": (220, 221, 281, 56, 437, 435, 425),
}


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[int, int]]]:
    asked: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda *given: asked.append(given))
    return asked


@pytest.mark.skipif(worker.possible_sandbox() != "seccomp", reason="the kernel has no filters")
@pytest.mark.parametrize("user", ["", "65534"])
def test_files_sockets_and_processes_are_denied_as_any_user(user: str) -> None:
    if user and os.getuid() != 0:
        pytest.skip("only root becomes another user")
    numbers = map(str, BY_NUMBER[os.uname().machine])
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", TRIES, str(ROOT), user, *numbers],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.decode() == "seccomp []", done.stderr.decode()


def test_time_memory_and_dumps_are_limited_from_the_start(
    monkeypatch: pytest.MonkeyPatch, limits: list[tuple[int, tuple[int, int]]]
) -> None:
    asked: list[tuple[int, ...]] = []
    library = SimpleNamespace(prctl=lambda *given: asked.append(given))
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    worker.confine(10)
    assert dict(limits) == {
        resource.RLIMIT_CPU: (10, 11),
        resource.RLIMIT_AS: (worker.ADDRESS_BYTES, worker.ADDRESS_BYTES),
        resource.RLIMIT_CORE: (0, 0),
    }
    assert asked == [(38, 1, 0, 0, 0)]  # no new privileges


@pytest.mark.parametrize("answer", [-1, 4711])  # refused; refused for a thread, which it names
def test_a_kernel_that_refuses_the_filter_leaves_the_limits(
    monkeypatch: pytest.MonkeyPatch, limits: list[tuple[int, tuple[int, int]]], answer: int
) -> None:
    class Call:
        restype: Any = None

        def __call__(self, *_: object) -> int:
            return answer

    monkeypatch.setattr(ctypes, "CDLL", lambda _name: SimpleNamespace(syscall=Call()))
    assert worker.possible_sandbox() == "rlimits"
    assert worker.seal() == "rlimits"
    names = (resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)
    assert dict(limits) == dict.fromkeys(names, (0, 0))


def test_a_machine_without_numbers_has_the_limits_alone(
    monkeypatch: pytest.MonkeyPatch, limits: list[tuple[int, tuple[int, int]]]
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="riscv64"))
    assert (worker.possible_sandbox(), worker.seal()) == ("rlimits", "rlimits")
    assert len(limits) == 3


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_its_list_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, machine: str
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    program = worker._program()
    assert program is not None
    architecture, _, calls = worker._MACHINES[machine]
    steps = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]

    def run(number: int, architecture: int) -> int:
        loaded, at = 0, 0
        while True:
            code, if_so, if_not, value = steps[at]
            at += 1
            if code == 0x20:
                loaded = {0: number, 4: architecture}[value]
            elif code == 0x15:
                at += if_so if loaded == value else if_not
            else:
                return int(value)

    allowed = {number for number in range(600) if run(number, architecture) == 0x7FFF_0000}
    assert allowed == set(calls)
    assert not allowed & set(BY_NUMBER[machine])
    for number in (*allowed, 0x4000_0000):
        assert run(number, architecture ^ 1) == 0x0005_0001


def on_windows(monkeypatch: pytest.MonkeyPatch, kernel: SimpleNamespace) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: kernel)


def test_on_windows_a_job_object_of_one_process_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Any, ...]] = []
    kernel = SimpleNamespace(
        CreateJobObjectW=lambda *_: 7,
        GetCurrentProcess=lambda: -1,
        SetInformationJobObject=lambda *given: asked.append(given),
        AssignProcessToJobObject=lambda *given: asked.append(given),
        IsProcessInJob=lambda *_: 0,
    )
    on_windows(monkeypatch, kernel)
    worker.confine(10)
    (job, kind, given, size), (other, _) = asked
    assert job.value == other.value == 7
    assert kind == 9
    assert size == len(given) == 144  # JOBOBJECT_EXTENDED_LIMIT_INFORMATION on 64 bits
    assert struct.unpack_from("<q", given, 0) == (10 * 10_000_000,)
    assert struct.unpack_from("<I", given, 16) == (0x10A,)
    assert struct.unpack_from("<I", given, 40) == (1,)
    assert struct.unpack_from("<Q", given, 112) == (worker.ADDRESS_BYTES,)
    assert (worker.possible_sandbox(), worker.seal()) == ("job", "rlimits")


def test_a_system_without_any_limits_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    on_windows(monkeypatch, SimpleNamespace())
    worker.confine(10)
    assert worker.seal() == "rlimits"
