"""A job on a cluster that loses nodes, actors or its driver writes what one machine writes."""

from __future__ import annotations

import importlib.util
import json
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import ray_nodes
from tests.support.batches import shards
from tests.support.tinypdf import pdf

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.ray_nodes import Nodes

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is for Linux on x64"),
]
ROWS, SHARD_ROWS = 60_000, 2_000
ARGUMENTS = ("in.jsonl", "--id-column", "id", "--shard-rows", str(SHARD_ROWS), "--output")
BEGINS_WITHIN_S = 120


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


@pytest.mark.parametrize("lost", ["actor", "node"])
def test_what_is_lost_in_mid_job_is_done_again(nodes: Nodes, folder: Path, lost: str) -> None:
    output = folder / f"lost-{lost}"
    spare = nodes.add()
    job = nodes.begin(folder, *ARGUMENTS, output.name)
    wait_for_shards(job, output, 3)
    if lost == "actor":
        ray_nodes.actors()[0].kill()
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
