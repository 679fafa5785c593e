from __future__ import annotations

import os
import re
import struct
import sys
from pathlib import Path

import pytest

from sidecar.process import cores

ROOT = Path(cores.__file__).parents[3]
# These speak of the machine's processors, whoever uses them.
WHOLE_MACHINE = {"build/bench/measurement.py"}


class Machine:
    """A made-up tree of /sys and /proc."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n", encoding="ascii")

    def with_cores(self, siblings: list[str], *, name: str = "core_cpus_list") -> Machine:
        for cpu, text in enumerate(siblings):
            self.write(f"sys/devices/system/cpu/cpu{cpu}/topology/{name}", text)
        return self

    def count(self, cpus: int) -> int:
        return cores.linux(self.root, range(cpus))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_this_machine_has_at_least_one_and_not_more_than_it_shows() -> None:
    assert 1 <= cores.count() <= (os.cpu_count() or 1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process its processors")
def test_a_process_that_is_held_to_one_processor_has_one_core() -> None:
    # Of another process: this one's would be the next tests' as well.
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        os._exit(cores.count())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


@pytest.mark.parametrize("name", ["core_cpus_list", "thread_siblings_list"])
def test_threads_of_one_core_count_once(machine: Machine, name: str) -> None:
    machine.with_cores(["0,4", "1,5", "2,6", "3,7"] * 2, name=name)
    assert machine.count(8) == 4


def test_only_the_cpus_that_the_process_may_use_count(machine: Machine) -> None:
    machine.with_cores(["0-1", "0-1", "2-3", "2-3"])
    assert cores.linux(machine.root, {0, 1}) == 1
    assert cores.linux(machine.root, {1, 2}) == 2


def test_a_machine_that_tells_nothing_has_as_many_cores_as_cpus(machine: Machine) -> None:
    assert machine.count(3) == 3
    assert machine.count(0) == 1


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("350000 100000", 3),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("nonsense", 8),
        ("100000 0", 8),
        ("", 8),
    ],
)
def test_a_quota_of_cgroup_v2_bounds_the_count(machine: Machine, limit: str, expected: int) -> None:
    machine.write("proc/self/cgroup", "0::/user.slice/app.scope")
    machine.write("sys/fs/cgroup/user.slice/app.scope/cpu.max", limit)
    assert machine.count(8) == expected


def test_the_smallest_quota_on_the_way_up_counts(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/outer/inner")
    machine.write("sys/fs/cgroup/outer/inner/cpu.max", "600000 100000")
    machine.write("sys/fs/cgroup/outer/cpu.max", "300000 100000")
    assert machine.count(8) == 3


def test_a_container_sees_its_quota_at_the_root(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/")
    machine.write("sys/fs/cgroup/cpu.max", "200000 100000")
    assert machine.count(8) == 2


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize("folder", ["docker/abc/", ""])
def test_a_quota_of_cgroup_v1_bounds_the_count(machine: Machine, mount: str, folder: str) -> None:
    machine.write("proc/self/cgroup", "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/")
    machine.write(f"sys/fs/cgroup/{mount}/{folder}cpu.cfs_quota_us", "400000")
    machine.write(f"sys/fs/cgroup/{mount}/{folder}cpu.cfs_period_us", "100000")
    assert machine.count(8) == 4


def test_no_quota_of_cgroup_v1_is_none(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "4:cpu:/\nbroken")
    machine.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1")
    machine.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    assert machine.count(8) == 8


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"hw.perflevel0.physicalcpu": 6, "hw.physicalcpu": 8}, 6),
        ({"hw.physicalcpu": 4}, 4),
        ({}, 0),
    ],
    ids=str,
)
def test_a_mac_counts_its_fast_cores(known: dict[str, int], expected: int) -> None:
    assert cores.darwin(lambda name: known.get(name, 0)) == expected


@pytest.mark.parametrize(("pointer", "form"), [(8, "<QI4x16x"), (4, "<II16x")])
def test_windows_lists_cores_among_caches_and_packages(pointer: int, form: str) -> None:
    relations = [0, 2, 0, 3, 1, 0]
    listed = b"".join(struct.pack(form, 3, relation) for relation in relations)
    assert cores.windows(listed, pointer) == 3
    assert cores.windows(b"", pointer) == 0
    assert cores.windows(listed[:-1], pointer) == 2


def test_a_system_without_a_word_for_it_has_no_count_of_a_mac() -> None:
    if sys.platform != "darwin":
        assert cores.sysctl("hw.physicalcpu") == 0
    if sys.platform != "win32":
        assert cores._processor_information() == b""


@pytest.mark.parametrize("platform", ["darwin", "win32", "sunos5"])
def test_what_cannot_be_asked_falls_back_to_the_number_of_cpus(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(cores, "sysctl", lambda _: 0)
    monkeypatch.setattr(cores, "_processor_information", lambda: b"")
    assert cores.count() == (os.cpu_count() or 1)


def test_nothing_else_counts_processors() -> None:
    """A pool without a size counts them itself, and neither knows of quotas."""
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("build", "service")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"cpu_count|PoolExecutor\(\)", path.read_text(encoding="utf-8"))
    }
    assert found == {"service/sidecar/process/cores.py", *WHOLE_MACHINE}
