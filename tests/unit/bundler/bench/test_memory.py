from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from bundler.bench import memory
from bundler.bench.memory import family, read, watch

if TYPE_CHECKING:
    from pathlib import Path


def process(proc: Path, pid: int, *children: int, private: int, peak: int) -> None:
    task = proc / str(pid) / "task" / str(pid)
    task.mkdir(parents=True)
    (task / "children").write_text(" ".join(map(str, children)))
    (proc / str(pid) / "status").write_text(
        f"Name:\tx\nVmHWM:\t{peak} kB\nRssAnon:\t{private} kB\nThreads:\t4\n"
    )


def test_children_and_their_children_are_counted(tmp_path: Path) -> None:
    process(tmp_path, 1, 2, private=10, peak=100)
    process(tmp_path, 2, 3, private=20, peak=200)
    process(tmp_path, 3, private=30, peak=300)
    process(tmp_path, 4, private=1_000, peak=1_000)
    found = read(1, proc=tmp_path)
    assert found is not None
    assert (found.private, found.peak) == (60 * 1024, 600 * 1024)


def test_a_process_that_is_gone_has_no_memory(tmp_path: Path) -> None:
    assert read(1, proc=tmp_path) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says it")
def test_our_own_memory_is_known_and_its_peak_is_not_below_it() -> None:
    found = read(os.getpid())
    assert found is not None
    assert 0 < found.private <= found.peak


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says it")
def test_a_child_belongs_to_the_family() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in family(os.getpid())


def test_a_watch_keeps_the_most_that_it_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([5, 9, 3])

    def look(_: int) -> memory.Memory | None:
        size = next(sizes, None)
        return None if size is None else memory.Memory(private=size, peak=size)

    monkeypatch.setattr(memory, "read", look)
    monkeypatch.setattr(memory, "INTERVAL_S", 0.001)
    with watch(1) as seen:
        for _ in range(5_000):
            if seen.most == 9:
                break
            time.sleep(0.001)
    assert seen.most == 9
