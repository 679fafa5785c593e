"""A run of `embed` that ends at any moment, and is given again, writes every row once."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="tables are read by pyarrow, on Linux alone"
)
ROWS, SHARD_ROWS = 5_000, 50


def begin(folder: Path, output: str | Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-I",
        "-B",
        ROOT / "service",
        "embed",
        "in.jsonl",
        "--engine",
        "hash",
    ]
    command += ["--output", str(output), "--id-column", "id", "--shard-rows", str(SHARD_ROWS)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    return subprocess.Popen(command, cwd=folder, env={}, **pipes)  # type: ignore[call-overload, no-any-return]


def end(run: subprocess.Popen[str]) -> tuple[str, str]:
    told = run.communicate(timeout=120)
    assert run.returncode == 0, told[1]
    return told


def files(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.iterdir()}


def write_texts(folder: Path, draw: random.Random, rows: int = ROWS) -> None:
    with (folder / "in.jsonl").open("w", encoding="utf-8") as lines:
        for number in range(rows):
            words = " ".join(f"w{draw.randrange(500)}" for _ in range(draw.randrange(40)))
            lines.write(json.dumps({"id": f"r{number}", "text": words}) + "\n")


@pytest.mark.parametrize(
    ("sent", "times"),
    [
        (signal.SIGKILL, 5),
        (signal.SIGTERM, 2),
        pytest.param(signal.SIGKILL, 20, marks=pytest.mark.full),
    ],
    ids=str,
)
def test_a_job_that_is_killed_again_and_again_is_whole(
    tmp_path: Path, sent: int, times: int
) -> None:
    draw = random.Random(sent)
    write_texts(tmp_path, draw)
    told, _ = end(begin(tmp_path, "whole"))
    kills, output = 0, tmp_path / "out"
    while kills < times:
        run = begin(tmp_path, "out")
        assert run.stderr is not None
        for line in run.stderr:  # reading, loading, then rows
            if "loading" in line:
                break
        before = len(list(output.glob("part-*"))) if output.is_dir() else 0
        deadline = time.monotonic() + 60
        # Once it writes, at any moment of a shard.
        while run.poll() is None and time.monotonic() < deadline:
            if output.is_dir() and len(list(output.glob("part-*"))) > before:
                break
            time.sleep(0.002)
        time.sleep(draw.random() * 0.02)
        was_running = run.poll() is None
        run.send_signal(sent)
        run.communicate(timeout=60)
        if not was_running:
            break  # it was done before: there were as many moments as that
        kills += 1
        assert run.returncode in {-signal.SIGKILL, 128 + signal.SIGTERM}
    assert kills == times
    finished = files(output)
    last, _ = end(begin(tmp_path, "out"))
    assert json.loads(last) == {**json.loads(told), "output": "out"}
    assert json.loads(last)["rows"] == ROWS
    made = files(output)
    assert made == files(tmp_path / "whole")
    known = finished["_job.jsonl"].decode().splitlines()[1:]
    names = [json.loads(line)["file"] for line in known if line.endswith("}")]
    assert all(made[name] == finished[name] for name in names)


def test_a_run_on_a_full_disk_exits_6_and_goes_on_with_room(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    write_texts(tmp_path, random.Random(6), rows=400)
    whole, _ = end(begin(tmp_path, "whole"))
    full = small_disk(400_000) / "out"
    run = begin(tmp_path, full)
    told = run.communicate(timeout=120)[1]
    assert (run.returncode, list(full.glob("part-*")) != []) == (6, True), told
    assert "it goes on" in told
    shutil.copytree(full, tmp_path / "out")
    last, _ = end(begin(tmp_path, "out"))
    assert json.loads(last) == {**json.loads(whole), "output": "out"}
    assert files(tmp_path / "out") == files(tmp_path / "whole")
