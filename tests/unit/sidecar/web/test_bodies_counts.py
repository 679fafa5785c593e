from __future__ import annotations

import json
import random
from typing import Any

import pytest

from sidecar.web import bodies

MOST = 3


def counted(value: Any) -> tuple[int, int]:
    """Return the marks and the strings of `value`, written without spaces."""
    if isinstance(value, str):
        return 0, 1
    if isinstance(value, dict):
        inner = [counted(part) for part in value.values()]
        own = 1 + len(value) + max(0, len(value) - 1)
        return own + sum(m for m, _ in inner), len(value) + sum(s for _, s in inner)
    if isinstance(value, list):
        inner = [counted(part) for part in value]
        own = 1 + max(0, len(value) - 1)
        return own + sum(m for m, _ in inner), sum(s for _, s in inner)
    return 0, 0


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 16])
def test_marks_outside_of_strings_are_counted(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "SLICE_BYTES", size)
    chance = random.Random(11)
    for _ in range(200):
        texts = ["".join(chance.choices(',:[]{}"\\n é', k=chance.randrange(9))) for _ in range(6)]
        value = {"a": texts[:4], texts[4]: [{"b": [1, None, texts[5]]}, []]}
        body = json.dumps(value).encode()
        marks, strings = counted(value)
        assert bodies.counts_above(body, max_marks=marks) is None
        found = bodies.counts_above(body + b",", max_marks=marks)
        assert found is not None
        assert (found.marks, found.strings) == (marks + 1, strings)
        assert found.opened == found.closed


def test_no_more_is_looked_at_than_it_takes_to_exceed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "SLICE_BYTES", 8)
    found = bodies.counts_above(b"[" + b"0," * 100_000, max_marks=MOST)
    assert found is not None
    assert found.commas == MOST


def test_a_body_with_other_than_ascii_outside_of_strings_is_looked_at_no_further() -> None:
    assert bodies.counts_above('{"é": "é"}'.encode(), max_marks=MOST) is None
    found = bodies.counts_above('{"é": é}'.encode(), max_marks=MOST)
    assert found is not None
    assert not found.is_ascii


@pytest.mark.parametrize("body", [b'"' * 99, b"\\" * 99, b'"\\' * 50, b"}" * 99])
def test_what_is_no_json_is_counted_without_failing(body: bytes) -> None:
    assert bodies.counts_above(body, max_marks=MOST) is None


def test_a_number_as_long_as_a_slice_ends_the_count() -> None:
    digits = b"9" * (3 * bodies.SLICE_BYTES)
    found = bodies.counts_above(b'{"a":' + digits + b"}", max_marks=MOST)
    assert found is not None
    assert found.has_long_number
    assert bodies.counts_above(b'{"a":"' + digits + b'"}', max_marks=MOST) is None
