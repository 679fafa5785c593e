"""What a machine may do to the service while it runs: clocks, environments, networks, disks."""

from __future__ import annotations

import ast
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import stub_service
from tests.support.processes import WAIT_S, Process
from tests.support.running import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVICE = stub_service.ROOT / "service"
HASHING = [sys.executable, "-I", "-B", str(SERVICE), "--engine", "hash", "--port", "0"]
JUMPING = stub_service.ROOT / "tests" / "support" / "jumping"


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def begin(*options: str, **named: str) -> Process:
        made.append(Process(*options, **named))  # type: ignore[arg-type]
        return made[-1]

    yield begin
    for process in made:
        process.popen.kill()
        process.popen.communicate()


def test_a_clock_that_jumps_back_a_year_neither_hurries_nor_holds_anything(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    flag = tmp_path / "jump"
    service = start(PYTHONPATH=str(JUMPING), JUMP_WHILE=str(flag))
    service.until(200)
    assert service.embeds()
    statuses: list[int] = []
    client = threading.Thread(
        target=lambda: statuses.append(service.ask("POST", "/embed", {"texts": ["wait"]})[0])
    )
    client.start()
    flag.touch()
    assert service.ask("GET", "/health")[0] == 200
    client.join(1)
    assert client.is_alive(), "it was given up early"
    service.signal(signal.SIGTERM)
    code = service.end()[0]
    client.join(WAIT_S)
    # The one that hangs was given up all the same, and the stop came to its end.
    assert (code, statuses) == (0, [503])


def test_a_clock_that_jumps_forth_and_back_serves_on(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    flag = tmp_path / "jump"
    flag.touch()
    service = start(PYTHONPATH=str(JUMPING), JUMP_WHILE=str(flag))
    service.until(200)
    for _ in range(3):
        flag.unlink()
        assert service.embeds()
        flag.touch()
        assert service.embeds()
    service.signal(signal.SIGTERM)
    code, _, talk = service.end()
    assert code == 0
    first = dt.datetime.fromisoformat(json.loads(talk.splitlines()[0])["time"])
    assert dt.datetime.now(dt.UTC) - first > dt.timedelta(days=364), "the clock was never set"


def test_nothing_but_what_tells_a_date_looks_at_the_clock_of_the_day() -> None:
    found = set()
    for path in (SERVICE / "sidecar").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                if name in ("time.time", "time.time_ns", "dt.datetime", "datetime.now"):
                    found.add(path.name)
            if isinstance(node, ast.ImportFrom) and node.module == "time":
                names = {alias.name for alias in node.names}
                assert names <= {"monotonic", "perf_counter", "sleep"}, path.name
    # Lines of the log, and Ollama's date of when a model will be unloaded.
    assert found == {"logs.py", "ollama.py"}


def test_nothing_of_a_hostile_environment_is_heeded(tmp_path: Path) -> None:
    traps = tmp_path / "traps"
    traps.mkdir()
    for name in (
        "sitecustomize",
        "usercustomize",
        "json",
        "asyncio",
        "numpy",
        "sidecar",
        "uvicorn",
    ):
        trap = f"open({str(tmp_path / 'sprung')!r}, 'w').close()\nraise SystemExit(7)\n"
        (traps / f"{name}.py").write_text(trap, encoding="utf-8")
    environment = {
        "PYTHONPATH": str(traps),
        "PYTHONHOME": str(tmp_path / "nowhere"),
        "PYTHONSTARTUP": str(traps / "json.py"),
        "PYTHONUSERBASE": str(traps),
        "PYTHONWARNINGS": "error",
        "PYTHONMALLOC": "nonsense",
        "PYTHONIOENCODING": "nonsense",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "ALL_PROXY": "socks5://127.0.0.1:1",
        "NO_PROXY": "",
        "HOME": str(tmp_path / "none"),
        "XDG_CACHE_HOME": str(tmp_path / "none"),
        "TMPDIR": str(tmp_path / "none"),
        "HF_ENDPOINT": "http://127.0.0.1:1",
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "none"),
    }
    with running(HASHING, environment=environment, cwd=traps) as service:
        port = service.wait_ready()
        client = Process.__new__(Process)
        client.port = port
        assert client.embeds()
        assert service.stop() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["traps"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_behind_both_streams_changes_nothing(start: Callable[..., Process]) -> None:
    service = start("--log-level", "debug", redirections=">/dev/full 2>/dev/full")
    service.until(200)
    assert service.embeds()
    service.signal(signal.SIGTERM)
    assert service.end()[0] == 0


def is_able_to_seclude() -> bool:
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    try:
        words = ["unshare", "--net", "--mount", "ip", "link", "set", "lo", "up"]
        return subprocess.run(words, check=False, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not is_able_to_seclude(), reason="no network namespace can be made here")
def test_service_without_a_network_tries_no_connection() -> None:
    words = ["unshare", "--net", "--mount", sys.executable]
    words += ["-m", "tests.support.secluded", *HASHING]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    # One connection: the one that asked. No name was looked up, so there was none to wait for.
    told = json.loads(done.stdout)
    assert told == {"datagrams": 0, "connections": 1, "vectors": 2, "code": 0}
