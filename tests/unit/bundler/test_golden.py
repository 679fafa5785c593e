from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from bundler.golden import (
    MIN_COSINE,
    Golden,
    cosine,
    decode_row,
    encode_row,
    read_golden,
    worst_cosine,
)
from sidecar.models import golden

if TYPE_CHECKING:
    from pathlib import Path

ROWS = ((1.0, 0.0), (0.0, 1.0))
GOLDEN = Golden(model="tiny", pooling="mean", texts=("a", "b"), vectors=ROWS)


def test_a_bundle_is_judged_as_its_service_judges_itself() -> None:
    assert MIN_COSINE == golden.MIN_COSINE


def test_a_row_comes_back_bit_for_bit() -> None:
    row = (0.5, -1.25, 3.0517578125e-05, 1.0)
    assert decode_row(encode_row(row)) == row
    assert encode_row((1.0,)) == "AACAPw=="


def test_a_golden_file_is_read(tmp_path: Path) -> None:
    document = {
        "model": "tiny",
        "pooling": "mean",
        "texts": ["a", "b"],
        "vectors": [encode_row(r) for r in ROWS],
    }
    (tmp_path / "tiny.json").write_text(json.dumps(document), encoding="utf-8")
    assert read_golden(tmp_path / "tiny.json") == GOLDEN


def test_the_cosine_is_that_of_the_angle() -> None:
    assert cosine((1, 0), (5, 0)) == pytest.approx(1)
    assert cosine((1, 0), (0, 2)) == pytest.approx(0)
    assert cosine((1, 1), (-1, -1)) == pytest.approx(-1)
    assert cosine((1, 0), (1, 1)) == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize(
    "row",
    [
        (0.0, 0.0),
        (math.nan, 1.0),
        (math.inf, 1.0),
        (math.inf, -math.inf),
        (1.0,),
        (1.0, 0.0, 0.0),
        (),
    ],
)
def test_what_cannot_be_compared_is_as_bad_as_can_be(row: tuple[float, ...]) -> None:
    assert cosine((1.0, 0.0), row) == -1


def test_the_worst_text_decides() -> None:
    assert worst_cosine(GOLDEN, [(2.0, 0.0), (1.0, 1.0)]) == pytest.approx(math.sqrt(0.5))
    assert worst_cosine(GOLDEN, ROWS) >= MIN_COSINE


@pytest.mark.parametrize("place", [0, 1])
def test_a_vector_that_is_no_number_fails_wherever_it_stands(place: int) -> None:
    vectors = [list(row) for row in ROWS]
    vectors[place] = [math.nan, math.nan]
    assert not worst_cosine(GOLDEN, vectors) >= MIN_COSINE


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_or_too_many_vectors_fail(count: int) -> None:
    assert worst_cosine(GOLDEN, [(1.0, 0.0)] * count) == -1


def test_no_texts_prove_nothing() -> None:
    assert worst_cosine(Golden(model="x", pooling="mean", texts=(), vectors=()), []) == -1
