"""Which limit an error has met, by every spelling that systems and libraries have for it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from sidecar.errors import DiskError, ModelError, UsageError
from sidecar.process import diagnosis, limits
from sidecar.process.limits import Limit, LimitError
from tests.support.answered import problem

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.stub_engine import Served

FILES = "open files and sockets of this process"
GROUP = "threads and processes of this container or control group"


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """Return a root whose inner group has less left than its outer one and the machine."""
    for path, text in {
        "proc/self/cgroup": "0::/app/inner",
        "proc/loadavg": "0.10 0.20 0.30 2/500 4711",
        "proc/sys/kernel/threads-max": "9000",
        "sys/fs/cgroup/app/pids.max": "max",
        "sys/fs/cgroup/app/pids.current": "64",
        "sys/fs/cgroup/app/inner/pids.max": "20",
        "sys/fs/cgroup/app/inner/pids.current": "18",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"{text}\n", encoding="ascii")
    return tmp_path


def test_threads_are_limited_by_whatever_leaves_the_fewest(crowded: Path) -> None:
    found = limits.threads(crowded)
    assert (found.name, found.value, found.left) == (GROUP, 20, 2)
    (crowded / "sys/fs/cgroup/app/inner/pids.max").write_text("max", encoding="ascii")
    found = limits.threads(crowded)
    assert (found.name, found.value, found.left) == ("threads of this machine", 9000, 8500)


def test_where_no_limit_of_threads_can_be_read_none_is_invented(tmp_path: Path) -> None:
    found = limits.threads(tmp_path)
    assert (found.value, found.left) == (None, None)
    assert str(found) == "the limit of threads and processes was met"


FULL = OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def due_to(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        due_to(DiskError("the files of the model cannot be read"), FULL),
        due_to(UsageError("cannot listen"), FULL),
        due_to(ModelError("cannot be loaded"), RuntimeError("Too many open files (os error 24)")),
        ImportError("/x.so: cannot open shared object file: Too many open files"),
    ],
    ids=repr,
)
def test_files_that_ran_out_are_told_however_they_were_spelled(error: BaseException) -> None:
    found = diagnosis.of_system(error)
    assert isinstance(found, LimitError)
    assert found.exit_code == 11
    assert found.facts["limit"] == FILES
    assert str(found.facts["limit_value"]) in found.why


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        RuntimeError("the system starts no thread"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    ],
    ids=repr,
)
def test_threads_that_ran_out_are_told_however_they_were_spelled(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, crowded: Path
) -> None:
    monkeypatch.setattr(limits, "ROOT", crowded)
    found = diagnosis.of_system(error)
    assert isinstance(found, LimitError)
    assert (found.facts["limit"], found.facts["limit_value"]) == (GROUP, 20)
    assert "--pids-limit" in found.next_step


def test_the_machines_own_limit_of_files_is_told_as_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "proc/sys/fs").mkdir(parents=True)
    (tmp_path / "proc/sys/fs/file-max").write_text("4711\n", encoding="ascii")
    monkeypatch.setattr(limits, "ROOT", tmp_path)
    found = limits.named(OSError(errno.ENFILE, "x"))
    assert found is not None
    assert str(found) == "the limit of open files of this machine is 4711"


@pytest.mark.parametrize(
    "error", [ValueError("x"), OSError(errno.EACCES, "x"), ModelError("x")], ids=repr
)
def test_any_other_error_has_met_no_limit(error: BaseException) -> None:
    assert diagnosis.of_system(error) is None


def test_memory_that_ran_out_at_a_start_is_no_bug() -> None:
    found = diagnosis.of_system(due_to(ModelError("x"), MemoryError()))
    assert isinstance(found, limits.LimitError)


def test_a_start_is_refused_below_what_it_needs_and_not_at_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = Limit(name="things", value=9, left=5, remedy="raise it")
    monkeypatch.setattr(limits, "files", lambda: few)
    limits.require(files_needed=5, threads_needed=0)
    with pytest.raises(LimitError) as caught:
        limits.require(files_needed=6, threads_needed=0)
    assert caught.value.facts == {
        "limit": "things",
        "limit_value": 9,
        "limit_left": 5,
        "limit_needed": 6,
    }


@pytest.mark.parametrize(
    "error", [FULL, RuntimeError("can't start new thread")], ids=["files", "threads"]
)
def test_a_limit_that_a_request_meets_is_named_in_a_503(
    served: Served, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(served.encoder, "embed", fail)
    answer = served.post("/embed", {"texts": ["a"]})
    told = problem(answer, 503)
    assert told["type"] == "urn:sidecar:problem:system-limit"
    assert "the limit of " in told["why"]
    assert answer.headers["retry-after"] == "5"
