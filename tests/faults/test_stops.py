"""A stop while clients hang, a document is read and a batch is computed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support import stub_service
from tests.support.doorstep import post
from tests.support.running import running
from tests.support.tinypdf import slow
from tests.support.vitals import children, still_there, until_reading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SERVICE = [sys.executable, "-I", "-B", str(stub_service.ROOT / "service"), "--engine", "hash"]
GIVE_UP_S = 20.0
# What a client may have sent when it hangs: nothing, half a head, half a body, and a whole request
# after which it reads nothing.
HUNG = (
    b"",
    b"POST /em",
    b"POST /embed HTTP/1.1\r\nHost: localhost\r\n",
    (
        b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 100\r\n\r\n{"texts": ["a'
    ),
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """How one service ended: its exit code, the seconds, and what was left of its processes."""

    code: int
    seconds: float
    left: tuple[int, ...]


def stop(command: Sequence[str], *, clients: int, document: Path, number: int) -> Stopped:
    """Start `command`, keep it busy with everything at once, and send it the signal `number`.

    `command` allows the folder of `document`, which it is reading when the signal comes.
    """
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(running([*command, "--port", "0"]))
        port, process = service.wait_ready(), service.process
        for turn in range(clients):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(HUNG[turn % len(HUNG)])
        for path, body in (
            ("/embed-file", {"path": str(document)}),
            ("/embed", {"texts": ["one of many words " * 200] * 3_000}),
        ):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(post(body, path=path))
        until_reading(process.pid)
        workers = children(process.pid)
        process.send_signal(number)
        began = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GIVE_UP_S)
        seconds = time.monotonic() - began
        code = process.poll()
        # A process that was sent its signal may take a moment to be gone.
        left = still_there(workers, within_s=1)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return Stopped(code=-1 if code is None else code, seconds=seconds, left=tuple(left))


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_hung_clients_and_a_running_pdf_hold_no_stop(tmp_path: Path, number: int) -> None:
    (tmp_path / "slow.pdf").write_bytes(slow())
    command = [*SERVICE, "--allow-dir", str(tmp_path)]
    ended = stop(command, clients=50, document=tmp_path / "slow.pdf", number=number)
    assert ended.code == 0
    assert ended.left == ()
    assert ended.seconds < 10
