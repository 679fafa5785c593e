from __future__ import annotations

from typing import Any

import pytest

from sidecar.documents.losses import Loss, Note
from sidecar.documents.pdf_process import Part, PdfReading, PdfText, part


def test_what_a_worker_says_becomes_pages_losses_and_notes() -> None:
    said = {
        "pages": ["a", ""],
        "losses": [{"kind": "page", "count": 1, "pages": [2]}],
        "notes": [{"kind": "hyphens", "count": 3}],
    }
    found = PdfText(
        pages=["a", ""],
        losses=(Loss(kind="page", count=1, pages=(2,)),),
        notes=(Note(kind="hyphens", count=3),),
    )
    assert part(said) == Part(said=found)
    more = {"of": 7, "cpu": 1.5, "more": True, "sandbox": "job"}
    assert part(said | more) == Part(said=found, of=7, cpu_s=1.5, sandbox="job", is_last=False)


@pytest.mark.parametrize(
    "change",
    [
        {"pages": "a"},
        {"pages": [1]},
        {"losses": None},
        {"losses": [1]},
        {"losses": [{"kind": "hyphens", "count": 1}]},
        {"losses": [{"kind": "page", "count": 0}]},
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
    assert part({"pages": ["a"], "losses": [], "notes": [], **change}) is None
    assert part([]) is None


def reading(**changes: Any) -> PdfReading:
    return PdfReading(
        **{"cpu_left_s": 8.0, "wall_left_s": 9.0, "max_pages": 5, "max_chars": 9} | changes
    )


def page(text: str, cpu_s: float, **rest: Any) -> Part:
    return Part(said=PdfText(pages=[text]), of=6, cpu_s=cpu_s, is_last=False, **rest)


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
    made = reading(cpu_left_s=1.0)
    made.add(page("a", 0.95), made.begin()[0])
    assert made.skip("time")
    assert made.is_done
    assert made.extracted() == PdfText(
        pages=["a", ""], losses=(Loss(kind="time", count=4, pages=(2, 3, 4, 5)),)
    )
