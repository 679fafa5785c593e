from __future__ import annotations

import ctypes
import errno
import sys
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.errors import ModelError
from sidecar.models import loader
from sidecar.process import limits
from sidecar.settings import Settings
from tests.support.answered import problem

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.stub_engine import Served

SWAPLESS = "MemTotal: 24000000 kB\nSwapFree: 0 kB"
SECOND = {"memory.max": "1000", "memory.current": "700"}
FIRST = {"memory.limit_in_bytes": "1000", "memory.usage_in_bytes": "700"}
CACHE = "anon 300\ninactive_file 250\nactive_file 40\nslab_reclaimable 10\nshmem 50"
FIRST_CACHE = "total_rss 300\ntotal_inactive_file 250\ntotal_active_file 50\ninactive_file 1"
NO_LIMIT = str((1 << 63) - 4096)


class Machine:
    """A made-up tree of /sys and /proc."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/meminfo", SWAPLESS)

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n", encoding="ascii")

    def group(self, folder: str, files: dict[str, str]) -> None:
        for name, text in files.items():
            self.write(f"sys/fs/cgroup/{folder}/{name}", text)

    @property
    def left(self) -> int | None:
        room = limits.control_group(self.root)
        return room.left if room else None


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine without limits; no test depends on those of the one it runs on."""
    monkeypatch.setattr(limits, "address_space", lambda: None)
    return Machine(tmp_path)


@pytest.fixture
def limited(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be a process that has 400 of 1000 bytes of address space."""
    room = limits.Limit(name="address space", value=1000, left=600, remedy="raise it (ulimit -v)")
    monkeypatch.setattr(limits, "address_space", lambda: room)
    return machine.root


def need(space: int, private: int = 0) -> limits.MemoryNeed:
    return limits.MemoryNeed(space=space, private=private)


def test_what_fits_passes_and_what_does_not_is_exit_11_with_the_numbers(limited: Path) -> None:
    limits.require_memory(need(600, 1 << 60), root=limited)
    with pytest.raises(ModelError, match="not enough memory to load the model") as caught:
        limits.require_memory(need(601), root=limited)
    assert caught.value.exit_code == 11
    assert "needs at least 601 bytes" in caught.value.why
    assert "limit of the address space is 1000 bytes" in caught.value.why
    assert "600 are left" in caught.value.why
    assert caught.value.next_step == "raise it (ulimit -v), or choose a smaller --model"
    assert caught.value.facts == {
        "needed_bytes": 601,
        "limit_bytes": 1000,
        "available_bytes": 600,
    }


@pytest.mark.parametrize(("space", "may_pass"), [(601, True), (1000, True), (1001, False)])
def test_what_is_more_than_the_whole_limit_never_passes(
    limited: Path, *, space: int, may_pass: bool
) -> None:
    with pytest.raises(limits.LimitError) as caught:
        limits.require_memory(need(space), root=limited)
    assert caught.value.may_pass is may_pass
    assert limits.too_little(root=limited).may_pass


def test_no_smaller_model_is_advised_where_the_libraries_alone_do_not_fit(limited: Path) -> None:
    with pytest.raises(ModelError, match="not enough memory to start") as caught:
        limits.require_memory(need(601), is_model=False, root=limited)
    assert "--model" not in caught.value.next_step


def test_a_control_group_that_is_too_small_is_exit_11_with_the_numbers(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/app")
    machine.group("app", SECOND)
    limits.require_memory(need(1 << 60, 300), root=machine.root)
    with pytest.raises(ModelError) as caught:
        limits.require_memory(need(0, 301), root=machine.root)
    assert caught.value.exit_code == 11
    assert caught.value.facts == {
        "needed_bytes": 301,
        "limit_bytes": 1000,
        "available_bytes": 300,
    }
    assert "--memory" in caught.value.next_step
    assert "bytes more" not in limits.too_little(root=machine.root).why
    assert "300 are left" in limits.too_little(root=machine.root).why


@pytest.mark.parametrize(
    ("files", "left"),
    [
        (SECOND, 300),
        ({**SECOND, "memory.stat": CACHE}, 600),
        ({**SECOND, "memory.max": "max"}, None),
        ({**SECOND, "memory.max": "600"}, 0),
        ({**SECOND, "memory.swap.max": "0", "memory.swap.current": "0"}, 300),
        ({"memory.current": "700"}, None),
        ({"memory.max": "1000"}, None),
        ({"memory.max": "nonsense", "memory.current": "700"}, None),
        ({}, None),
    ],
)
def test_what_version_2_has_left_is_without_the_cache_of_files(
    machine: Machine, files: dict[str, str], left: int | None
) -> None:
    machine.write("proc/self/cgroup", "0::/app")
    machine.group("app", files)
    assert machine.left == left


@pytest.mark.parametrize(
    ("files", "left"),
    [
        (FIRST, 300),
        ({**FIRST, "memory.stat": FIRST_CACHE}, 600),
        ({**FIRST, "memory.stat": "inactive_file 250"}, 550),
        ({**FIRST, "memory.limit_in_bytes": NO_LIMIT}, None),
        (
            {
                **FIRST,
                "memory.limit_in_bytes": NO_LIMIT,
                "memory.memsw.limit_in_bytes": "1000",
                "memory.memsw.usage_in_bytes": "900",
            },
            100,
        ),
    ],
)
def test_what_version_1_has_left_is_without_the_cache_of_files(
    machine: Machine, files: dict[str, str], left: int | None
) -> None:
    machine.write("proc/self/cgroup", "3:cpu:/app\n2:memory:/app\n0::/")
    machine.group("memory/app", files)
    assert machine.left == left


def test_the_least_that_is_left_on_the_way_up_counts(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/outer/inner")
    machine.group("outer/inner", {"memory.max": "900", "memory.current": "100"})
    machine.group("outer", {"memory.max": "2000", "memory.current": "1990"})
    assert machine.left == 10


@pytest.mark.parametrize(("line", "folder"), [("0::/", ""), ("2:memory:/docker/abc", "memory")])
def test_a_container_sees_its_limit_at_the_root(machine: Machine, line: str, folder: str) -> None:
    machine.write("proc/self/cgroup", line)
    machine.group(folder, SECOND if line.startswith("0") else FIRST)
    assert machine.left == 300


@pytest.mark.parametrize(
    ("files", "left"),
    [
        (SECOND, 2348),
        ({**SECOND, "memory.swap.max": "max"}, 2348),
        ({**SECOND, "memory.swap.max": "900", "memory.swap.current": "100"}, 1100),
        ({**SECOND, "memory.swap.max": "0"}, 300),
        (FIRST, 2348),
        (
            {
                **FIRST,
                "memory.memsw.limit_in_bytes": "1500",
                "memory.memsw.usage_in_bytes": "800",
            },
            700,
        ),
    ],
)
def test_what_may_be_swapped_out_is_left_too(
    machine: Machine, files: dict[str, str], left: int
) -> None:
    machine.write("proc/meminfo", "SwapFree: 2 kB")
    machine.write("proc/self/cgroup", "0::/app\n2:memory:/app")
    machine.group("app" if "memory.max" in files else "memory/app", files)
    assert machine.left == left


def test_where_nothing_is_known_nothing_is_refused(machine: Machine) -> None:
    limits.require_memory(need(1 << 60, 1 << 60), root=machine.root)
    assert limits.too_little(root=machine.root).why == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of address space")
def test_this_process_says_what_is_left_of_a_limit_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource  # noqa: PLC0415 (not on Windows)

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 60, 1 << 60))
    room = limits.address_space()
    if sys.platform == "linux":
        assert room is not None
        assert 1 << 20 < (room.value or 0) - (room.left or 0) < 1 << 50
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert limits.address_space() is None


class Silent:
    def write_event(self, event: object, data: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (ImportError("libx.so: failed to map segment from shared object"), True),
        (ImportError("no module"), False),
    ],
    ids=str,
)
def test_memory_that_runs_out_in_the_middle_of_loading_is_told_as_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, *, is_memory: bool
) -> None:
    (tmp_path / "modules.json").write_text("[]", encoding="utf-8")

    def fail(*_: object) -> None:
        raise ModelError("the libraries cannot be imported") from error

    monkeypatch.setattr(loader, "choose", fail)
    monkeypatch.setattr(loader, "go_offline", lambda: None)
    monkeypatch.setattr(loader, "yield_cores", lambda: None)
    with pytest.raises(ModelError) as caught:
        loader.load(Settings(model=str(tmp_path)), Silent(), lambda _: None)
    assert ("not enough memory" in caught.value.what) is is_memory


def test_a_model_that_does_not_fit_keeps_its_numbers_on_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limited: Path
) -> None:
    (tmp_path / "modules.json").write_text("[]", encoding="utf-8")
    monkeypatch.setattr(loader, "choose", lambda *_: limits.require_memory(need(601), root=limited))
    monkeypatch.setattr(loader, "go_offline", lambda: None)
    monkeypatch.setattr(loader, "yield_cores", lambda: None)
    with pytest.raises(ModelError) as caught:
        loader.load(Settings(model=str(tmp_path)), Silent(), lambda _: None)
    assert caught.value.facts["needed_bytes"] == 601


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError("secret"), 507),
        (OSError(errno.ENOMEM, "secret"), 507),
        (RuntimeError("secret"), 500),
        (OSError(errno.EACCES, "secret"), 500),
    ],
    ids=repr,
)
def test_memory_that_runs_out_refuses_the_request_with_507(
    served: Served, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(served.encoder, "embed", fail)
    answer = served.post("/embed", {"texts": ["a"]})
    problem(answer, status)
    assert "secret" not in answer.text
    if status == 507:
        assert answer.headers["retry-after"] == "5"


class Library:
    """A C library that remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

        def trim(pad: int) -> None:
            self.asked.append(pad)

        self.malloc_trim = trim


def test_memory_is_given_back_each_time_where_the_c_library_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = Library()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    give_back = limits.trimmer()
    assert library.asked == []
    give_back()
    give_back()
    assert library.asked == [0, 0]


def test_this_machine_can_be_asked() -> None:
    limits.trimmer()()


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_nothing_is_looked_up_on_other_systems(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", None)
    limits.trimmer()()


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_a_c_library_without_it_is_no_error(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def missing(_: Any) -> None:
        raise error

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", missing)
    limits.trimmer()()
