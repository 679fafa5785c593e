from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sidecar.documents.losses import Loss, Note
from sidecar.documents.pdf_process import Part, PdfReading, PdfText, understood
from sidecar.problems import Problem
from sidecar.settings import Limits


def test_what_a_worker_says_becomes_pages_losses_and_notes() -> None:
    said = {
        "pages": ["a", ""],
        "losses": [{"kind": "page", "count": 1, "pages": [2]}],
        "notes": [{"kind": "hyphens", "count": 3}],
    }
    found = Part(
        pages=["a", ""],
        losses=(Loss(kind="page", count=1, pages=(2,)),),
        notes=(Note(kind="hyphens", count=3),),
    )
    assert understood(json.dumps(said).encode()) == found
    more = {"of": 7, "cpu": 1.5, "more": True, "sandbox": "job"}
    found = replace(found, of=7, cpu=1.5, sandbox="job", more=True)
    assert understood(json.dumps(said | more).encode()) == found


def test_a_word_of_a_worker_becomes_a_problem() -> None:
    found = understood(b'{"error": "scanned"}')
    assert isinstance(found, Problem)
    assert found.kind == "document-scanned"


@pytest.mark.parametrize(
    "change",
    [
        {"pages": "a"},
        {"pages": [1]},
        {"losses": None},
        {"losses": [1]},
        {"losses": [{"kind": "hyphens", "count": 1}]},
        {"losses": [{"kind": "page", "count": -1}]},
        {"losses": [{"kind": "page", "count": "1"}]},
        {"losses": [{"kind": "page", "count": 1, "pages": 2}]},
        {"losses": [{"kind": "page", "count": 1, "pages": ["2"]}]},
        {"notes": [{"kind": "page", "count": 1}]},
        {"of": "1"},
        {"cpu": None},
        {"more": 1},
        {"sandbox": "none"},
    ],
    ids=str,
)
def test_anything_else_is_nothing_that_a_worker_says(change: dict[str, Any]) -> None:
    said = {"pages": ["a"], "losses": [], "notes": [], **change}
    assert understood(json.dumps(said).encode()) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"3", b'{"error": 3}', b"\xff", b"[" * 9999])
def test_no_answer_at_all_is_nothing_that_a_worker_says(body: bytes) -> None:
    assert understood(body) is None


def reading(**changes: Any) -> PdfReading:
    told = {"document_cpu_s": 8.0, "document_wall_s": 9.0, "max_pages": 5, "max_document_chars": 9}
    return PdfReading(Limits(**(told | changes)))


def page(text: str, cpu_s: float, **rest: Any) -> Part:
    return Part(pages=[text], losses=(), notes=(), of=6, cpu=cpu_s, more=True, **rest)


def test_the_next_worker_is_told_what_is_left() -> None:
    made = reading()
    turn, told = made.begin()
    assert told == {"first": 1, "seconds": 8.0, "room": 9, "password": None}
    for number, text in enumerate(("abc", "de"), start=1):
        made.add(page(text, number * 1.5), turn)
    made.end()
    made.add(page("late", 9.0), turn)
    assert made.skip("page")
    assert made.pages == ["abc", "de", ""]
    turn, told = made.begin()
    assert 4.9 <= float(str(told.pop("seconds"))) <= 5.0
    assert told == {"first": 4, "room": 4, "password": None}
    made.add(page("f", 0.25), turn)
    assert made.cpu_left_s < 4.8


def test_before_a_page_is_reached_there_is_nothing_to_go_on_with() -> None:
    made = reading()
    assert not made.skip("page")
    assert not made.stop("busy")
    assert not made.is_done


def test_the_rest_is_left_out_up_to_the_pages_that_are_read() -> None:
    made = reading(document_cpu_s=1.0)
    made.add(page("a", 0.95), made.begin()[0])
    assert made.skip("time")
    assert made.is_done
    assert made.extracted() == PdfText(
        pages=["a", ""], losses=(Loss(kind="time", count=4, pages=(2, 3, 4, 5)),)
    )
