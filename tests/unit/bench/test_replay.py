from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pytest

from bench.client import Answer
from bench.run import Replayed, kind_of, read_requests, replay
from bench.systems import SIDECAR, free_port
from bundler.errors import UsageError
from tests.unit.bench.conftest import server

if TYPE_CHECKING:
    from pathlib import Path

    from bench.client import Connection

PROBLEM = b'{"type": "urn:sidecar:problem:text_failed", "detail": "one text failed"}'


def answer(status: int, body: bytes = b"{}", seconds: float = 0.01) -> Answer:
    return Answer(seconds=seconds, status=status, body=body)


def test_requests_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "notes.txt"):
        (tmp_path / name).write_text(name)
    assert read_requests(tmp_path) == [("a.json", b"a.json"), ("b.json", b"b.json")]


def test_a_folder_without_requests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no saved requests"):
        read_requests(tmp_path)


@pytest.mark.parametrize("clients", [1, 3])
def test_bodies_are_sent_as_they_are_and_failures_kept(clients: int) -> None:
    bodies = [(f"{n}.json", b'{"texts": ["%d"]}' % n) for n in range(6)]
    with server(refuses="4") as (connect, seen):
        sent = replay(connect, bodies, clients=clients)
    assert sorted(body["texts"][0] for _, body in seen.bodies) == list("012345")
    assert [(name, one.status) for name, one in sent.answers][3:] == [
        *(("3.json", 200), ("4.json", 500), ("5.json", 200))
    ]
    text = "\n".join(sent.lines())
    assert f"6 requests by {clients} clients" in text
    assert "- 500: 4.json" in text


def test_a_report_has_the_latencies_of_each_status() -> None:
    good = [(f"{n}", answer(200, seconds=n / 100)) for n in range(1, 101)]
    bad = [("x", answer(429, seconds=0.002)), ("y", answer(0, b""))]
    lines = list(Replayed(answers=[*good, *bad], clients=2, seconds=2.0).lines())
    assert lines[0] == "102 requests by 2 clients in 2.00 s, 51.0 requests/s"
    assert lines[4:7] == [
        "| no response | 1 | 10.0 | 10.0 | 10.0 |",
        "| 200 | 100 | 505.0 | 950.5 | 990.1 |",
        "| 429 | 1 | 2.0 | 2.0 | 2.0 |",
    ]


def test_failures_are_named_by_kind_and_request() -> None:
    answers = [(f"{n}.json", answer(422, PROBLEM)) for n in range(7)]
    lines = list(Replayed(answers=answers, clients=1, seconds=1.0).lines())
    names = "0.json, 1.json, 2.json, 3.json, 4.json and 2 more"
    assert lines[-1] == f"- 422 text_failed: {names}"


def test_every_request_is_a_line_of_csv() -> None:
    answers = [("a.json", answer(200)), ("b.json", answer(422, PROBLEM))]
    rows = list(csv.DictReader(io.StringIO(Replayed(answers=answers, clients=1, seconds=1).csv())))
    assert [(r["request"], r["status"], r["kind"]) for r in rows] == [
        ("a.json", "200", ""),
        ("b.json", "422", "text_failed"),
    ]


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b"{}"])
def test_a_failure_that_is_no_problem_document_has_no_kind(body: bytes) -> None:
    assert kind_of(answer(500, body)) == ""


def test_a_server_that_is_gone_is_no_response() -> None:
    from bench.client import Connection  # noqa: PLC0415

    def connect() -> Connection:
        return Connection(free_port(), SIDECAR)

    sent = replay(connect, [("a.json", b"{}")], clients=1)
    assert [one.status for _, one in sent.answers] == [0]
