"""The service under a limit of address space or of its control group, at its start and at work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.models import memory_needs
from tests.support import stub_service
from tests.support.clients import Client
from tests.support.groups import group
from tests.support.processes import WAIT_S
from tests.support.running import running

if TYPE_CHECKING:
    from collections.abc import Sequence

MIB = 1 << 20
SERVICE = [sys.executable, "-I", "-B", str(stub_service.ROOT / "service"), "--port", "0"]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits address space on Linux")


def last_words(command: Sequence[str], *, megabytes: int | None = None) -> tuple[int, Any]:
    """Return exit code and last log line of `command`, under a limit of address space if given."""
    limited = f'ulimit -v {megabytes * 1024 if megabytes else "unlimited"}; exec "$@"'
    done = subprocess.run(
        ["/bin/sh", "-c", limited, "sh", *command],
        env={},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    return done.returncode, json.loads(done.stderr.splitlines()[-1])


def test_limit_below_the_libraries_need_is_told_first() -> None:
    code, last = last_words([*SERVICE, "--engine", "hash"], megabytes=200)
    assert (code, last["exit_code"]) == (11, 11)
    assert last["limit_bytes"] == 200 * MIB
    assert last["needed_bytes"] > last["available_bytes"] > 0
    assert str(last["needed_bytes"]) in last["why"]


def test_a_limit_below_what_the_model_needs_is_told_before_it_is_loaded(tmp_path: Path) -> None:
    code, last = last_words([*SERVICE, "--model", str(empty_model(tmp_path))], megabytes=1400)
    assert (code, last["exit_code"]) == (11, 11)
    assert last["needed_bytes"] == memory_needs.REFERENCE.space + 300 * MIB
    assert last["available_bytes"] < last["needed_bytes"]
    assert "not enough memory to load the model" in last["message"]


def empty_model(folder: Path) -> Path:
    """Make `folder` a model with no more to it than 300 MiB of weights."""
    (folder / "modules.json").write_text("[]", encoding="utf-8")
    with (folder / "model.safetensors").open("wb") as weights:
        weights.truncate(300 * MIB)  # a file of holes
    return folder


def test_group_too_small_for_the_libraries_is_told_first() -> None:
    with group("memory", 24 * MIB) as (inside, _):
        code, last = last_words([*inside, *SERVICE, "--engine", "hash"])
    assert (code, last["exit_code"]) == (11, 11)
    assert last["limit_bytes"] == 24 * MIB
    assert last["needed_bytes"] > last["available_bytes"] > 0
    assert str(last["needed_bytes"]) in last["why"]
    assert str(last["available_bytes"]) in last["why"]


def test_a_group_too_small_for_the_model_is_told_before_it_is_loaded(tmp_path: Path) -> None:
    with group("memory", 256 * MIB) as (inside, _):
        code, last = last_words([*inside, *SERVICE, "--model", str(empty_model(tmp_path))])
    assert (code, last["exit_code"]) == (11, 11)
    assert last["needed_bytes"] == memory_needs.REFERENCE.private
    assert 0 < last["available_bytes"] < 256 * MIB
    assert "not enough memory to load the model" in last["message"]


def test_what_a_group_keeps_of_files_is_not_taken_for_memory_in_use(tmp_path: Path) -> None:
    with (tmp_path / "read").open("wb") as large:
        large.truncate(300 * MIB)
    read = ["/bin/sh", "-c", 'cat "$0" > /dev/null; exec "$@"', str(tmp_path / "read")]
    with (
        group("memory", 128 * MIB) as (inside, _),
        running([*inside, *read, *SERVICE, "--engine", "hash"]) as service,
    ):
        client = Client(port=service.wait_ready())
        assert client.ask("/embed", {"texts": ["a"]}).status == 200
        assert service.stop() == 0


def test_memory_limit_refuses_the_request_that_hits_it() -> None:
    import resource  # noqa: PLC0415 (not on Windows)

    with running([*SERVICE, "--engine", "hash"]) as service:
        client = Client(port=service.wait_ready())
        assert client.ask("/embed", {"texts": ["a"]}).status == 200
        pid = service.process.pid
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[0])
        bound = pages * resource.getpagesize() + 48 * MIB
        # 60,000 vectors take 88 MiB, and their JSON many times that.
        resource.prlimit(pid, resource.RLIMIT_AS, (bound, resource.RLIM_INFINITY))
        refused = client.ask("/embed", {"texts": ["a"] * 60_000})
        assert refused.status == 507
        assert refused.json()["type"] == "urn:sidecar:problem:out-of-memory"
        assert client.ask("/embed", {"texts": ["a", "b"]}).status == 200
        resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        assert client.ask("/embed", {"texts": ["a"] * 6_000}).status == 200
        assert service.stop() == 0
