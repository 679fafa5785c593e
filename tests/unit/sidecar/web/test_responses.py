from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from sidecar.web import responses

ROWS = np.array(
    [[1, -0.1, 1e-45, 3.4028235e38], [0.333333343, 1 / 7, -2.5e-9, 0]], dtype=np.float32
)


def test_json_numbers_bring_every_float_back_exactly() -> None:
    chance = np.random.default_rng(1)
    bits = chance.integers(0, 2**32, size=(50, 64), dtype=np.uint32).view(np.float32)
    finite = np.where(np.isfinite(bits), bits, np.float32(0))
    for rows in (ROWS, finite):
        back = np.array(json.loads(responses.array_of(rows, encoding="float")), dtype=np.float32)
        assert back.tobytes() == (rows + np.float32(0)).tobytes() or (back == rows).all()


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_no_rows_are_an_empty_array(encoding: str) -> None:
    assert responses.array_of(np.zeros((0, 4), dtype=np.float32), encoding=encoding) == b"[]"


def test_rows_in_any_layout_and_number_are_written_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(responses, "CHUNK_VALUES", 12)
    rows = np.arange(35, dtype=np.float32).reshape(5, 7).T  # seven rows, two at a time
    assert json.loads(responses.array_of(rows, encoding="float")) == rows.tolist()
    assert json.loads(responses.array_of(rows.astype(">f4"), encoding="float")) == rows.tolist()


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 384])
def test_base64_is_that_of_each_row_alone(dim: int) -> None:
    rows = np.random.default_rng(dim).standard_normal((5, dim)).astype(np.float32)
    expected = [base64.b64encode(row.tobytes()).decode() for row in rows]
    assert json.loads(responses.array_of(rows, encoding="base64")) == expected
    assert json.loads(responses.array_of(rows[:1], encoding="base64")) == expected[:1]


def test_raw_rows_are_little_endian_whatever_the_machine() -> None:
    assert responses.raw(ROWS.astype(">f4")) == ROWS.astype("<f4").tobytes()
    assert responses.raw(ROWS[:, ::2]) == ROWS[:, ::2].astype("<f4").tobytes()
    assert bytes(responses.raw(ROWS[:0])) == b""
    coded = json.loads(responses.array_of(ROWS, encoding="base64"))
    assert b"".join(map(base64.b64decode, coded)) == responses.raw(ROWS)


def test_raw_rows_are_not_copied() -> None:
    rows = ROWS.astype("<f4")
    assert np.shares_memory(np.asarray(responses.raw(rows)), rows)


@pytest.mark.parametrize(
    ("found", "text"), [([], ""), ([3], "3"), ([1, 2, 9], "1,2,9"), ([1] * 3_000, "count=3000")]
)
def test_indices_fit_a_header(found: list[int], text: str) -> None:
    assert responses.indices(found) == text
