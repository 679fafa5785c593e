from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bundler.bench.replay import Replayed, export, read, replay
from bundler.bench.served import start
from bundler.errors import UsageError
from tests.support.benched import stub_program

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_exported_is_read_in_the_same_order(tmp_path: Path) -> None:
    batches = [[f"text {number}", "é"] for number in range(11)]
    export(tmp_path, batches)
    assert [json.loads(body)["texts"] for _, body in read(tmp_path)] == batches


def test_a_folder_without_requests_is_refused_with_the_way_to_make_some(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError) as caught:
            read(folder)
        assert "--export" in caught.value.next_step


def test_bodies_go_out_as_they_are_and_refusals_are_counted() -> None:
    bodies = [
        ("1.json", b'{"texts": ["a", "b"]}'),
        ("2.json", b"{"),
        ("3.json", b'{"texts": ["c"], "encoding": "float"}'),
    ]
    running = start(stub_program(), "ready")
    try:
        found = replay(running.target, bodies)
    finally:
        running.service.stop()
    assert (found.requests, found.texts, found.failures) == (3, 3, ((400, 1),))
    assert found.latency is not None
    assert found.latency.count == 2


def test_people_read_rates_percentiles_and_failures() -> None:
    found = Replayed(requests=2, texts=0, seconds=0.5, latency=None, failures=((0, 1), (500, 1)))
    assert list(found.lines()) == [
        "2 requests, 0 texts, 0.50 s, 0.0/s",
        "failures: 1 with status 0, 1 with status 500",
    ]
