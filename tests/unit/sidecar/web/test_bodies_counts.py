from __future__ import annotations

import json
import random
from typing import Any

import pytest

from sidecar.problems import Problem
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


def kind(body: bytes) -> str | None:
    """Return the problem of a body, before anything but its values was counted."""
    try:
        bodies._refuse_many(body)
    except Problem as problem:
        return problem.kind
    return None


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 16])
def test_marks_outside_of_strings_are_counted(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "SLICE_BYTES", size)
    chance = random.Random(11)
    for _ in range(200):
        texts = ["".join(chance.choices(',:[]{}"\\n é', k=chance.randrange(9))) for _ in range(6)]
        value = {"a": texts[:4], texts[4]: [{"b": [1, None, texts[5]]}, []]}
        body = json.dumps(value).encode()
        marks, strings = counted(value)
        monkeypatch.setattr(bodies, "MAX_VALUES", marks)
        assert kind(body) is None
        keys = 3
        assert kind(body + b",") == expected(strings - keys > marks // 2)
        monkeypatch.setattr(bodies, "MAX_VALUES", marks - 1)
        assert kind(body) == expected(strings - keys > (marks - 1) // 2)


def expected(are_texts: bool) -> str:
    return "too-many-texts" if are_texts else "too-many-values"


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "SLICE_BYTES", 8)
    monkeypatch.setattr(bodies, "MAX_VALUES", MOST)


@pytest.mark.usefixtures("_few")
def test_no_more_is_looked_at_than_it_takes_to_exceed() -> None:
    assert kind(b'{"a":[' + b"0," * 9 + "é".encode()) == "too-many-values"
    assert kind(b'{"a":[' + "é".encode() + b"0," * 9) == "bad-json"


@pytest.mark.usefixtures("_few")
def test_non_ascii_outside_of_strings_ends_the_count() -> None:
    assert kind('{"é": "é"}'.encode()) is None
    assert kind('{"é": é}'.encode() + b"," * 99) == "bad-json"


@pytest.mark.usefixtures("_few")
@pytest.mark.parametrize("body", [b'"' * 99, b"\\" * 99, b'"\\' * 50, b"}" * 99])
def test_what_is_no_json_is_counted_without_failing(body: bytes) -> None:
    assert kind(body) is None


def test_a_number_as_long_as_a_slice_ends_the_count() -> None:
    digits = b"9" * (3 * bodies.SLICE_BYTES)
    assert kind(b'{"a":' + digits + b"}") == "bad-json"
    assert kind(b'{"a":"' + digits + b'"}') is None
