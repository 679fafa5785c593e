from __future__ import annotations

import numpy as np
import pytest

from bundler.bench.quality import agreement, judge, likeness, nearest


def rows(count: int = 40, width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def test_likeness_does_not_mind_lengths() -> None:
    found = likeness(rows() * 3, rows())
    assert found.smallest == pytest.approx(1.0)
    assert found.mean == pytest.approx(1.0)


def test_likeness_finds_the_one_row_that_is_wrong() -> None:
    spoilt = rows()
    spoilt[7] = -spoilt[7]
    assert likeness(spoilt, rows()).smallest == pytest.approx(-1.0)
    assert likeness(spoilt, rows()).mean > 0.9


@pytest.mark.parametrize("other", [rows(39), rows(40, 7)])
def test_other_shapes_cannot_be_compared(other: np.ndarray) -> None:
    with pytest.raises(ValueError, match="compared"):
        likeness(rows(), other)


def test_the_same_vectors_rank_the_same() -> None:
    found = agreement(rows(), rows())
    assert (found.queries, found.recall) == (40, 1.0)
    assert found.ndcg == pytest.approx(1.0)


def test_noise_shows_in_the_ranking_and_more_noise_shows_more() -> None:
    some, much = (
        agreement((rows() + share * rows(seed=1)).astype(np.float32), rows()) for share in (0.1, 2)
    )
    assert 1.0 > some.ndcg > much.ndcg
    assert 1.0 > some.recall > much.recall


def test_order_is_seen_by_ndcg_and_not_by_recall() -> None:
    gains = [{1: 3.0, 2: 2.0, 3: 1.0}]
    best, turned = judge([[1, 2, 3]], gains), judge([[3, 2, 1]], gains)
    assert best.ndcg == pytest.approx(1.0)
    assert turned.ndcg < 1.0
    assert best.recall == turned.recall == 1.0


def test_recall_counts_against_what_fits_in_the_depth() -> None:
    gains = [dict.fromkeys(range(20), 1.0)]
    assert judge([list(range(10))], gains, depth=10).recall == 1.0


def test_queries_without_anything_relevant_are_left_out() -> None:
    assert judge([[1], [2]], [{}, {2: 1.0}]).queries == 1
    assert judge([[1]], [{}]).queries == 0


def test_the_nearest_comes_first_and_draws_keep_their_order() -> None:
    passages = np.array([[0, 1], [1, 0], [1, 0]], np.float32)
    assert nearest(np.array([[2, 0.1]], np.float32), passages) == [[1, 2, 0]]
