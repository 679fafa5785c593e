"""A job on a cluster that loses nodes, actors or its driver writes what one machine writes."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import ray_nodes
from tests.support.batches import shards
from tests.support.tinypdf import pdf

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psutil

    from tests.support.ray_nodes import Nodes

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is for Linux on x64"),
]
ROWS, SHARD_ROWS = 60_000, 2_000
ARGUMENTS = ("in.jsonl", "--id-column", "id", "--shard-rows", str(SHARD_ROWS), "--output")
BEGINS_WITHIN_S = 120
MOST_GROWTH_MB = 20


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with ray_nodes.nodes(2) as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an input, one text of which is refused, and what one machine makes."""
    made = tmp_path_factory.mktemp("job")
    draw = random.Random(5)
    with (made / "in.jsonl").open("w", encoding="utf-8") as lines:
        for number in range(ROWS):
            words = [f"w{draw.randrange(500)}" for _ in range(draw.randrange(40))]
            text = None if number == ROWS // 2 else " ".join(words)
            lines.write(json.dumps({"id": f"r{number}", "text": text}) + "\n")
    code, told, said = ray_nodes.end(ray_nodes.begin(made, *ARGUMENTS, "whole"))
    assert (code, told["rows"], told["errors"]) == (0, ROWS, 1), said
    return made


def wait_for_shards(job: subprocess.Popen[str], output: Path, count: int) -> None:
    deadline = time.monotonic() + BEGINS_WITHIN_S
    while len(list(output.glob("part-*"))) < count:
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_for_actors(job: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return actors of the job: for a moment there is none, where both are started again."""
    deadline = time.monotonic() + BEGINS_WITHIN_S
    while not (found := ray_nodes.actors()):
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def is_whole(job: subprocess.Popen[str], folder: Path, output: Path) -> None:
    code, told, said = ray_nodes.end(job)
    assert code == 0, said
    assert told["rows"] == ROWS
    assert shards(output) == shards(folder / "whole")
    manifests = [(made / "_job.jsonl").read_bytes() for made in (output, folder / "whole")]
    assert manifests[0] == manifests[1]


def test_a_cluster_makes_what_one_machine_makes(nodes: Nodes, folder: Path) -> None:
    is_whole(nodes.begin(folder, *ARGUMENTS, "same"), folder, folder / "same")


def test_documents_become_what_they_do_on_one_machine(nodes: Nodes, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for number in range(30):
        (shelf / f"{number:02}.txt").write_text("some words " * 60 * number, encoding="utf-8")
    (shelf / "05.pdf").write_bytes(pdf(["first page", "second page"]))
    (shelf / "06.pdf").write_bytes(b"no PDF")
    given = ("shelf", "--shard-rows", "20", "--output")
    whole = ray_nodes.end(ray_nodes.begin(tmp_path, *given, "whole"))
    made = ray_nodes.end(nodes.begin(tmp_path, *given, "out"))
    assert (made[0], made[1]) == (0, whole[1] | {"output": "out"}), made[2]
    assert whole[1]["errors"] == 2
    assert shards(tmp_path / "out") == shards(tmp_path / "whole")


@pytest.mark.parametrize(("lost", "times"), [("actor", 6), ("node", 3)])
def test_what_is_lost_in_mid_job_is_done_again(
    nodes: Nodes, folder: Path, lost: str, times: int
) -> None:
    draw = random.Random(lost)
    output = folder / f"lost-{lost}"
    spare = nodes.add() if lost == "node" else None
    job = nodes.begin(folder, *ARGUMENTS, output.name)
    for number in range(times):
        wait_for_shards(job, output, 3 + number * 20 // times)
        time.sleep(draw.random() * 0.1)
        if spare is None:
            draw.choice(wait_for_actors(job)).kill()
        else:
            nodes.kill(spare)
            spare = nodes.add()
    if spare is not None:
        nodes.kill(spare)
    is_whole(job, folder, output)


@pytest.mark.parametrize("times", [8])
def test_a_driver_that_is_killed_goes_on_when_it_is_started_again(
    nodes: Nodes, folder: Path, times: int
) -> None:
    draw = random.Random(times)
    output = folder / "killed"
    for _ in range(times):
        finished = shards(output)
        job = nodes.begin(folder, *ARGUMENTS, output.name)
        wait_for_shards(job, output, min(len(finished) + 1, ROWS // SHARD_ROWS))
        time.sleep(draw.random() * 0.1)
        job.send_signal(signal.SIGKILL)
        job.communicate(timeout=60)
        made = shards(output)
        assert {name: made[name] for name in finished} == finished
    is_whole(nodes.begin(folder, *ARGUMENTS, output.name), folder, output)


def test_a_cluster_goes_on_with_what_one_machine_began(nodes: Nodes, folder: Path) -> None:
    output = folder / "begun"
    job = ray_nodes.begin(folder, *ARGUMENTS, output.name)
    wait_for_shards(job, output, 2)
    job.send_signal(signal.SIGTERM)
    assert ray_nodes.end(job)[0] == 128 + signal.SIGTERM
    is_whole(nodes.begin(folder, *ARGUMENTS, output.name), folder, output)


def test_a_job_waits_for_a_node_with_the_cores_of_an_engine(nodes: Nodes, folder: Path) -> None:
    job = nodes.begin(folder, *ARGUMENTS, "waited", "--threads", "2")
    assert job.stderr is not None
    while "waiting for" not in (line := job.stderr.readline()):
        assert job.poll() is None, line
    assert line == "waiting for a node with 2 cores for an engine (--threads): the largest has 1\n"
    large = nodes.add(cores=2)
    is_whole(job, folder, folder / "waited")
    nodes.kill(large)


def test_private_memory_of_driver_and_actors_does_not_grow(nodes: Nodes, tmp_path: Path) -> None:
    rows, shard_rows = 1_000_000, 10_000
    with (tmp_path / "in.jsonl").open("w", encoding="utf-8") as lines:
        lines.writelines(
            f'{{"id": "r{number}", "text": "{"word " * (number % 8)}"}}\n' for number in range(rows)
        )
    given = ("in.jsonl", "--id-column", "id", "--shard-rows", str(shard_rows), "--output", "out")
    job = nodes.begin(tmp_path, *given)
    most: dict[str, list[float]] = {"driver": [0.0] * 10, "actor": [0.0] * 10}
    while job.poll() is None:
        tenth = min(9, len(list((tmp_path / "out").glob("part-*"))) * 10 * shard_rows // rows)
        held = {"driver": [job.pid], "actor": [actor.pid for actor in ray_nodes.actors()]}
        for name, pids in held.items():
            most[name][tenth] = max([most[name][tenth], *map(private_mb, pids)])
        time.sleep(0.1)
    code, told, said = ray_nodes.end(job)
    assert (code, told["rows"]) == (0, rows), said
    for tenths in most.values():
        assert min(tenths) > 0, most
        assert tenths[-1] - tenths[1] < MOST_GROWTH_MB, most


def private_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    found = re.search(r"RssAnon:\s+(\d+)", status)
    return int(found[1]) / 1024 if found else 0.0


@pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root")
def test_a_cluster_of_one_s_own_sends_nothing_to_other_machines(folder: Path) -> None:
    secluded = ["unshare", "--net", "--mount", sys.executable, "-m", "tests.support.outward"]
    own = [sys.executable, "-I", "-B", str(ray_nodes.ROOT / "service"), "embed", "--engine", "hash"]
    given = ["in.jsonl", "--id-column", "id", "--shard-rows", str(SHARD_ROWS), "--output", "own"]
    done = subprocess.run(
        [*secluded, *own, *given, "--ray", "local"],
        capture_output=True,
        encoding="utf-8",
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ray_nodes.ROOT)},
        check=False,
    )
    assert json.loads(done.stderr.splitlines()[-1]) == {"addresses": [], "code": 0}, done.stderr
    assert shards(folder / "own") == shards(folder / "whole")


def test_a_cluster_of_one_s_own_never_has_more_cores(folder: Path) -> None:
    given = [*ARGUMENTS, "small", "--ray", "local", "--threads", "1024"]
    code, _, said = ray_nodes.end(ray_nodes.begin(folder, *given))
    assert (code, "an engine takes more cores than this machine has" in said) == (2, True), said


def test_a_cluster_that_is_not_there_is_not_waited_for(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    code, _, said = ray_nodes.end(ray_nodes.begin(folder, *ARGUMENTS, "nowhere", "--ray", address))
    assert (code, f"no Ray cluster can be used at {address}" in said) == (5, True), said
    assert "Connection refused" in said


def test_a_cluster_that_does_not_take_the_token_exits_5(nodes: Nodes, folder: Path) -> None:
    environment = {**nodes.environment, "RAY_AUTH_TOKEN": "0" * 64}
    given = [*ARGUMENTS, "refused", "--ray", nodes.address]
    code, _, said = ray_nodes.end(ray_nodes.begin(folder, *given, environment=environment))
    assert (code, "no Ray cluster can be used at" in said, "RAY_AUTH_TOKEN" in said) == (
        5,
        True,
        True,
    )


def test_a_node_without_memory_ends_the_job_and_the_next_run_goes_on(folder: Path) -> None:
    output = folder / "poor"
    # Ray ends what takes most on a machine that is as full as that, which any is.
    full = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "100"}
    with ray_nodes.nodes(0) as poor:
        poor.add(environment=full)
        code, _, said = ray_nodes.end(poor.begin(folder, *ARGUMENTS, output.name))
        assert code == 11, said
        assert "it goes on" in said
        poor.add()
        is_whole(poor.begin(folder, *ARGUMENTS, output.name), folder, output)
