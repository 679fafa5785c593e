from __future__ import annotations

from typing import Any

import pytest

from sidecar.documents.extracted import Extracted, extracted
from sidecar.documents.losses import Loss, Note


def test_what_a_worker_says_becomes_pages_losses_and_notes() -> None:
    said = {
        "pages": ["a", ""],
        "losses": [{"kind": "page", "count": 1, "pages": [2]}],
        "notes": [{"kind": "hyphens", "count": 3}],
    }
    assert extracted(said) == Extracted(
        pages=["a", ""],
        losses=(Loss(kind="page", count=1, pages=(2,)),),
        notes=(Note(kind="hyphens", count=3),),
    )


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
    ],
    ids=str,
)
def test_anything_else_is_nothing_that_a_worker_says(change: dict[str, Any]) -> None:
    assert extracted({"pages": ["a"], "losses": [], "notes": [], **change}) is None
    assert extracted([]) is None
