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


def begin(folder: Path, output: str | Path, *options: str) -> subprocess.Popen[str]:
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
    command += options
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    return subprocess.Popen(command, cwd=folder, env={}, **pipes)  # type: ignore[call-overload, no-any-return]


def end(run: subprocess.Popen[str]) -> tuple[str, str]:
    told = run.communicate(timeout=120)
    assert run.returncode == 0, told[1]
    return told


def files(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.iterdir()}


def kill(run: subprocess.Popen[str], output: Path, sent: int, *, after_s: float) -> None:
    """Send a signal to a run so long after its first shard, which is at any moment of the next."""
    before = known(output)
    deadline = time.monotonic() + 60
    while known(output) == before and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(after_s)
    assert run.poll() is None, "it was done before"
    run.send_signal(sent)
    told = run.communicate(timeout=60)[1]
    if sent == signal.SIGKILL:
        assert run.returncode == -signal.SIGKILL
    else:
        assert run.returncode == 128 + sent
        assert told.endswith("\nstopped: the same command goes on\n")


def known(output: Path) -> list[dict[str, object]]:
    """Return what the manifest has of finished shards."""
    manifest = output / "_job.jsonl"
    if not manifest.is_file():
        return []
    lines = manifest.read_text(encoding="utf-8").splitlines(keepends=True)[1:]
    return [json.loads(line) for line in lines if line.endswith("\n")]


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
    output = tmp_path / "out"
    for _ in range(times):
        kill(begin(tmp_path, "out"), output, sent, after_s=draw.random() * 0.02)
    finished, names = files(output), [str(shard["file"]) for shard in known(output)]
    last, _ = end(begin(tmp_path, "out"))
    assert json.loads(last) == {**json.loads(told), "output": "out"}
    assert json.loads(last)["rows"] == ROWS
    made = files(output)
    assert made == files(tmp_path / "whole")
    assert all(made[name] == finished[name] for name in names)


def test_a_dataset_of_a_job_that_is_killed_is_whole(tmp_path: Path) -> None:
    import lance  # noqa: PLC0415 (on Linux alone)

    from tests.support.batches import read  # noqa: PLC0415 (as above)

    draw = random.Random(5)
    write_texts(tmp_path, draw, rows=1_000)
    end(begin(tmp_path, "whole"))
    for _ in range(4):
        run = begin(tmp_path, "out", "--format", "lance")
        kill(run, tmp_path / "out", signal.SIGKILL, after_s=draw.random() * 0.04)
    told, _ = end(begin(tmp_path, "out", "--format", "lance"))
    assert json.loads(told)["rows"] == 1_000
    made = lance.dataset(tmp_path / "out/vectors.lance")
    assert made.to_table().to_pylist() == read(tmp_path / "whole").to_pylist()
    assert made.version == known(tmp_path / "out")[-1]["version"]


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
