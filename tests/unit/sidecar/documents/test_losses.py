from __future__ import annotations

from pathlib import Path
from typing import get_args

from sidecar.documents.losses import MAX_LISTED, Loss, LossKind, NoteKind, merged

PAGE = Path(__file__).parents[4] / "docs/files.md"


def test_losses_of_one_kind_become_one_and_none_of_nothing() -> None:
    found = merged(
        [
            Loss(kind="page", count=1, pages=(7,)),
            Loss(kind="encoding", count=4),
            Loss(kind="time", count=0),
            Loss(kind="page", count=2, pages=(2, 3)),
        ]
    )
    assert found == (
        Loss(kind="page", count=3, pages=(2, 3, 7)),
        Loss(kind="encoding", count=4),
    )


def test_pages_are_shown_where_there_are_some_and_never_too_many() -> None:
    assert Loss(kind="encoding", count=4).as_json() == {"kind": "encoding", "count": 4}
    shown = Loss(kind="limit", count=9_000, pages=tuple(range(1, 9_001))).as_json()
    assert shown == {"kind": "limit", "count": 9_000, "pages": [*range(1, MAX_LISTED + 1)]}


def test_every_kind_is_described_in_the_documentation() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for kind in (*get_args(LossKind), *get_args(NoteKind)):
        assert f"| `{kind}` |" in text
