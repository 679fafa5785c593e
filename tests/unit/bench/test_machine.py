from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from bench import measurement
from bench.measurement import OtherLoad, describe, private_bytes, watch_private

if TYPE_CHECKING:
    from pathlib import Path


def test_memory_is_of_a_process_and_its_children() -> None:
    held = "held = bytearray(b'x') * (64 << 20); print(flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {held!r}])"
    command, pipe = [sys.executable, "-c", parent], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = private_bytes(process.pid)
        process.communicate(b"\n")
    assert found is not None
    assert 64 << 20 < found < 256 << 20


def test_memory_of_an_ended_process_is_unknown() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        assert private_bytes(process.pid) is None


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


@pytest.mark.parametrize(("others_s", "expected"), [(0, 0.0), (10, 0.5), (-1, 0.0), (90, 1.0)])
def test_load_of_others_is_a_share_of_all_cores(
    monkeypatch: pytest.MonkeyPatch, others_s: float, expected: float
) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    clock, others = iter([100.0, 110.0]), iter([950.0, 950.0 + others_s])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(measurement, "others_s", lambda: next(others))
    assert OtherLoad().share() == pytest.approx(expected)


def test_time_of_our_own_processes_is_not_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    times = psutil.cpu_times()
    monkeypatch.setattr(psutil, "cpu_times", lambda: times)
    before = measurement.others_s()
    spin = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", spin], check=True)
    assert measurement.others_s() < before - 0.4


def test_a_description_names_processor_and_instructions(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("model name\t: A Processor\nflags\t\t: fpu avx2 fma\n")
    found = describe(tmp_path / "cpuinfo")
    assert found["processor"] == "A Processor"
    assert found["instructions"] == ["avx2", "fma"]
    assert found["cores"] >= 1


def test_instructions_of_arm_are_its_features(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("Features\t: fp asimd asimddp\n")
    assert describe(tmp_path / "cpuinfo")["instructions"] == ["asimd", "asimddp"]


def test_a_machine_without_cpuinfo_is_described(tmp_path: Path) -> None:
    assert describe(tmp_path / "cpuinfo")["instructions"] == []
