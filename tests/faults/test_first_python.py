"""The first command on machines without CPython 3.11: whatever Python starts it, and kills."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.badserver import BadServer, honest, redirect, stall_at
from tests.support.firststep import Checkout, runtime_archive
from tests.support.lacking import OTHERS, other_python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAIT_S = 60


class Release:
    """A checkout that all tests share, with its environment, and the server of its runtime."""

    def __init__(self, checkout: Checkout, server: BadServer) -> None:
        """Let the release lead to another address, as the real one does."""
        self.checkout = checkout
        self.server = server
        self.mirror = f"runtime={server.root}"
        self.real = server.add("real", checkout.archive.read_bytes())
        server.add(checkout.address, b"", forever=redirect(self.real))

    def forget(self) -> None:
        """Remove what a first command fetched and unpacked; the environment stays."""
        out = self.checkout.project.out
        for name in ("bootstrap", "store", "compiler"):
            shutil.rmtree(out / name, ignore_errors=True)
        self.server.seen.clear()


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    folder = tmp_path_factory.mktemp("first")
    checkout = Checkout.make(folder / "check out", runtime_archive(folder / "made"))
    with BadServer() as server:
        yield Release(checkout, server)


@pytest.fixture
def fresh(release: Release) -> Release:
    release.forget()
    return release


def any_other() -> Path:
    """Return some Python that cannot run the builder itself."""
    for version in OTHERS:
        try:
            return other_python(version)
        except pytest.skip.Exception:
            continue
    pytest.skip(f"there is no Python {', '.join(OTHERS)} on this machine")


@pytest.mark.parametrize("version", OTHERS)
def test_the_first_command_works_where_there_is_no_python_3_11(
    fresh: Release, version: str
) -> None:
    python = other_python(version)
    done = fresh.checkout.run(python, "plan", "--json", "--mirror", fresh.mirror)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runtime"]["source"] == "standalone"
    assert "which runs the builder (once)" in done.stderr
    assert [one.path for one in fresh.server.seen] == [f"/{fresh.checkout.address}", "/real"]
    again = fresh.checkout.run(python, "plan", "--json", "--offline")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert "(once)" not in again.stderr


@pytest.mark.parametrize("version", OTHERS)
def test_offline_one_message_says_what_helps_and_exits_5(fresh: Release, version: str) -> None:
    done = fresh.checkout.run(other_python(version), "up", "--offline")
    assert done.returncode == 5
    assert done.stdout == ""
    assert done.stderr.startswith("error: the builder needs CPython 3.11")
    assert done.stderr.count("error:") == 1
    assert "uv run --no-project --python 3.11 python build up" in done.stderr
    assert fresh.server.seen == []


def test_a_killed_download_is_gone_on_with(fresh: Release) -> None:
    python = any_other()
    fresh.server.add("real", fresh.checkout.archive.read_bytes(), stall_at(3_000_000))
    with subprocess.Popen(
        [str(python), str(fresh.checkout.root / "build"), "plan", "--mirror", fresh.mirror],
        env={"PATH": "/nonexistent", "HOME": "/nonexistent", "PYENV_ROOT": "/nonexistent"},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as killed:
        partial = fresh.checkout.project.store / "partial"
        end = time.monotonic() + WAIT_S
        while not sum(path.stat().st_size for path in partial.glob("*")):
            assert time.monotonic() < end, "nothing came"
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
    fresh.server.add("real", fresh.checkout.archive.read_bytes(), forever=honest)
    done = fresh.checkout.run(python, "plan", "--mirror", fresh.mirror)
    assert done.returncode == 0, done.stderr
    last = fresh.server.seen[-1].range
    assert last is not None
    assert int(last.removeprefix("bytes=").rstrip("-")) > 0
    assert list(partial.iterdir()) == []


def test_two_first_commands_at_once_both_work(fresh: Release) -> None:
    python = any_other()
    command = [str(python), str(fresh.checkout.root / "build"), "plan", "--mirror", fresh.mirror]
    environment = {"PATH": "/nonexistent", "HOME": "/nonexistent", "PYENV_ROOT": "/nonexistent"}
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(fresh.checkout.wheels)}
    running = [
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=WAIT_S) for process in running]
    assert [process.returncode for process in running] == [0, 0], ended
    assert ended[0][0] == ended[1][0]
    place = fresh.checkout.project.out / "bootstrap"
    assert len(list(place.iterdir())) == 1


def test_variables_of_another_program_change_nothing(fresh: Release, tmp_path: Path) -> None:
    for name in ("packaging", "httpx2", "typing_extensions"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('another program')\n")
    done = fresh.checkout.run(
        any_other(),
        *("plan", "--mirror", fresh.mirror),
        PYTHONPATH=str(tmp_path),
        PYTHONSTARTUP=str(tmp_path / "packaging.py"),
        PYTHONOPTIMIZE="2",
    )
    assert done.returncode == 0, done.stderr
