from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from sidecar.process.children import is_stopped, needed

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows stops no process")


def test_a_child_is_stopped_until_it_goes_on_or_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        try:
            assert not is_stopped(child.pid)
            child.send_signal(signal.SIGSTOP)
            seen_within(child.pid, is_expected=True)
            assert is_stopped(child.pid)  # asking takes nothing away
            child.send_signal(signal.SIGCONT)
            seen_within(child.pid, is_expected=False)
        finally:
            child.kill()
        assert child.wait() == -signal.SIGKILL
        assert not is_stopped(child.pid)


def seen_within(pid: int, *, is_expected: bool) -> None:
    deadline = time.monotonic() + 30
    while is_stopped(pid) is not is_expected:
        assert time.monotonic() < deadline
        time.sleep(0.01)


ENVIRONMENT = {"SYSTEMROOT": "C:\\Windows", "PATH": "C:\\", "SIDECAR_TOKEN": "secret"}


def test_windows_starts_python_with_one_variable_and_others_without() -> None:
    assert needed(ENVIRONMENT, platform="win32") == {"SYSTEMROOT": "C:\\Windows"}
    assert needed({}, platform="win32") == {}
    for platform in ("linux", "darwin"):
        assert needed(ENVIRONMENT, platform=platform) == {}
