from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench import quality
from bench.quality import agreement, compare, cosines
from sidecar.models.golden import Golden
from tests.unit.bench.conftest import stub_systems

# Directions in degrees: each is farther from the one before.
ANGLES = [0.0, 1.0, 3.0, 7.0]
LOG = float(np.log2(3))  # discounts the second place


def rows(angles: list[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    turned = np.radians(angles)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)


@pytest.fixture
def two_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "DEPTH", 2)


@pytest.mark.usefixtures("two_deep")
def test_the_same_ranking_agrees_whatever_the_lengths() -> None:
    assert agreement(7 * rows(ANGLES), rows(ANGLES)) == pytest.approx((1.0, 1.0))


@pytest.mark.usefixtures("two_deep")
def test_neighbours_that_change_places_cost_ndcg_alone() -> None:
    ndcg, recall = agreement(rows([0.0, 3.0, 1.0]), rows([0.0, 1.0, 3.0]))
    assert ndcg == pytest.approx((1 + 2 / LOG) / (2 + 1 / LOG))
    assert recall == 1.0


@pytest.mark.usefixtures("two_deep")
def test_neighbours_that_are_lost_cost_recall() -> None:
    ndcg, recall = agreement(rows([0.0, 1.0, 31.0, 7.0]), rows(ANGLES))
    assert recall == 0.5
    assert ndcg == pytest.approx((2 + 2 + 2 / LOG + 1) / 4 / (2 + 1 / LOG))


def test_cosines_are_of_rows_in_the_same_place() -> None:
    found = cosines(rows([0.0, 60.0]), 3 * rows([60.0, 60.0]))
    assert found == pytest.approx([0.5, 1.0])


def test_golden_texts_are_held_against_golden_vectors() -> None:
    (ours,) = stub_systems()
    texts = ("one", "two words", "")
    golden = Golden(
        texts=texts, vectors=np.ones((3, 8), np.float32), pooling="mean", normalize=True
    )
    vectors = quality._vectors(ours, texts, 1)
    golden = replace(golden, vectors=vectors)
    first, second = compare([ours, ours], golden, 12, 1)
    assert (first.texts, second.texts) == ("3 golden texts", "12 paragraphs")
    assert first.worst == pytest.approx(1.0)
    assert first.ndcg is None
    assert second.mean == pytest.approx(1.0)
    assert second.ndcg == pytest.approx(1.0)
    assert second.recall == 1.0
    other = replace(golden, vectors=-vectors)
    assert compare([ours, ours], other, 12, 1)[0].worst == pytest.approx(-1.0)
