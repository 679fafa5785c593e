from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from bench import measurement
from bench.measurement import OtherLoad, describe, family, private_bytes, watch_private

if TYPE_CHECKING:
    from pathlib import Path

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these counters")


def process(proc: Path, pid: int, *children: int, private: int) -> None:
    task = proc / str(pid) / "task" / str(pid)
    task.mkdir(parents=True)
    (task / "children").write_text(" ".join(map(str, children)))
    text = f"Name:\tx\nVmHWM:\t999 kB\nRssAnon:\t{private} kB\nThreads:\t4\n"
    (proc / str(pid) / "status").write_text(text)


def counters(proc: Path, *, busy_s: float, ours_s: float) -> None:
    """Write CPU time of all processes, of which `ours_s` is ours; idle time is not busy."""
    tick = os.sysconf("SC_CLK_TCK")
    (proc / "stat").write_text(f"cpu  {int(busy_s * tick)} 0 0 70000 80000 0 0 0 9 9\ncpu0 1 2\n")
    own = proc / str(os.getpid())
    own.mkdir(exist_ok=True)
    fields = ["S", *["0"] * 10, str(int(ours_s * tick)), "0", "0", "0", "20"]
    (own / "stat").write_text(f"{os.getpid()} (a name) with) {' '.join(fields)}\n")


def test_memory_of_children_and_their_children_is_counted(tmp_path: Path) -> None:
    process(tmp_path, 1, 2, private=10)
    process(tmp_path, 2, 3, private=20)
    process(tmp_path, 3, private=30)
    process(tmp_path, 4, private=1_000)
    assert private_bytes(1, tmp_path) == 60 * 1024


def test_memory_of_an_ended_process_is_unknown(tmp_path: Path) -> None:
    assert private_bytes(1, tmp_path) is None


@LINUX
def test_a_child_belongs_to_the_family() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in family(os.getpid())


def test_a_watch_sees_memory_that_is_soon_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([5, 9, 3])
    monkeypatch.setattr(measurement, "private_bytes", lambda _: next(sizes, None))
    monkeypatch.setattr(measurement, "INTERVAL_S", 0.001)
    with watch_private(1) as seen:
        until = time.monotonic() + 60
        while len(seen) < 3 and time.monotonic() < until:
            time.sleep(0.001)
    assert max(seen) == 9


def test_a_watch_looks_at_the_end_of_a_short_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "private_bytes", lambda _: 7)
    with watch_private(1) as seen:
        pass
    assert seen == [7]


@LINUX
@pytest.mark.parametrize(
    ("busy_s", "ours_s", "expected"), [(20, 20, 0.0), (20, 10, 0.5), (1, 2, 0.0), (90, 0, 1.0)]
)
def test_load_of_others_is_all_but_ours(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    busy_s: float,
    ours_s: float,
    expected: float,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    counters(tmp_path, busy_s=1_000, ours_s=50)
    load = OtherLoad(tmp_path)
    counters(tmp_path, busy_s=1_000 + busy_s, ours_s=50 + ours_s)
    assert load.share() == pytest.approx(expected)


def test_load_is_unknown_without_counters(tmp_path: Path) -> None:
    assert OtherLoad(tmp_path).share() is None


def test_a_description_names_processor_and_instructions(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("model name\t: A Processor\nflags\t\t: fpu avx2 fma\n")
    found = describe(tmp_path)
    assert found["processor"] == "A Processor"
    assert found["instructions"] == ["avx2", "fma"]
    assert found["cores"] >= 1


def test_instructions_of_arm_are_its_features(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("Features\t: fp asimd asimddp\n")
    assert describe(tmp_path)["instructions"] == ["asimd", "asimddp"]


def test_a_machine_without_cpuinfo_is_described(tmp_path: Path) -> None:
    assert describe(tmp_path)["instructions"] == []
