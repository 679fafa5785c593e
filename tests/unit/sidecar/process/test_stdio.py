from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from sidecar.process import stdio

if TYPE_CHECKING:
    import pytest

CLAIM = """
import os, sys
from sidecar.process import stdio
stdio.fill_standard()
events = stdio.claim_stdout()
print("a library talks", flush=True)
os.write(1, b"in C, too\\n")
events.write_event("ready", {"port": 1})
"""


def claim(redirections: str = "") -> subprocess.CompletedProcess[bytes]:
    command = f'exec "$0" -c "$1" {redirections}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable, CLAIM],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )


def test_a_line_is_what_v1_clients_parse() -> None:
    reading, writing = os.pipe()
    stdio.PipeEventWriter(writing).write_event("model_loaded", {"model": "ä", "dimensions": 8})
    line = os.read(reading, 1_000).decode("ascii")
    os.close(reading)
    stdio.PipeEventWriter(writing).write_event("ready", {})  # nobody reads
    os.close(writing)
    assert line.startswith("PROGRESS:")
    assert line.endswith("}\n")
    assert json.loads(line.removeprefix("PROGRESS:")) == {
        "type": "model_loaded",
        "data": {"model": "ä", "dimensions": 8},
    }


def test_stdout_carries_protocol_lines_alone() -> None:
    done = claim()
    assert done.stdout == b'PROGRESS:{"type":"ready","data":{"port":1}}\n'
    assert done.stderr == b"a library talks\nin C, too\n"
    assert done.returncode == 0


def test_stdout_carries_protocol_lines_alone_when_stderr_is_closed() -> None:
    done = claim("2>&-")
    assert done.stdout == b'PROGRESS:{"type":"ready","data":{"port":1}}\n'
    assert done.returncode == 0


def test_a_closed_stdout_ends_nothing() -> None:
    done = claim(">&-")
    assert (done.stdout, done.stderr.splitlines()[-1]) == (b"", b"in C, too")
    assert done.returncode == 0


def test_the_claim_leads_stdout_to_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []

    def dup(number: int) -> int:
        calls.append((number,))
        return 77

    monkeypatch.setattr(os, "dup", dup)
    monkeypatch.setattr(os, "dup2", lambda *numbers: calls.append(numbers))
    assert stdio.claim_stdout()._descriptor == 77
    assert calls == [(1,), (2, 1)]
