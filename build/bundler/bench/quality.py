"""How near vectors are to others, and how well they find what belongs together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

DEPTH = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """Cosines of the same texts' vectors by two engines."""

    smallest: float
    mean: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """How well a ranking puts what is relevant first; means over the queries."""

    queries: int
    ndcg: float
    recall: float


def likeness(left: Rows, right: Rows) -> Likeness:
    """Return the cosines of matching rows. Raises ValueError for other shapes."""
    if left.shape != right.shape or not len(left):
        raise ValueError("the vectors cannot be compared")
    found = (_unit(left) * _unit(right)).sum(axis=1)
    return Likeness(smallest=float(found.min()), mean=float(found.mean()))


def nearest(queries: Rows, passages: Rows, *, depth: int = DEPTH) -> list[list[int]]:
    """Return for each query the nearest passages, the nearest first, earlier ones at a draw."""
    scores = _unit(queries) @ _unit(passages).T
    return [[int(i) for i in np.argsort(-row, kind="stable")[:depth]] for row in scores]


def agreement(rows: Rows, reference: Rows, *, depth: int = DEPTH) -> Retrieval:
    """Return how far `rows` rank each other as `reference` does; what that has first is relevant.

    Each text is a query for all the others. The gain of the reference's first is `depth`, that of
    its last 1, so nDCG sees the order and recall does not.
    """
    found, wanted = (_without_self(each, depth) for each in (rows, reference))
    gains = [{place: float(depth - rank) for rank, place in enumerate(row)} for row in wanted]
    return judge(found, gains, depth=depth)


def judge(
    found: Sequence[Sequence[int]], gains: Sequence[dict[int, float]], *, depth: int = DEPTH
) -> Retrieval:
    """Return nDCG and recall at `depth` of rankings whose relevant passages have `gains`.

    Recall counts against what can be found in so many places. Queries without any are left out.
    """
    ndcg, recall = [], []
    for ranking, gain in zip(found, gains, strict=True):
        if not gain:
            continue
        best = _discounted(sorted(gain.values(), reverse=True)[:depth])
        ndcg.append(_discounted([gain.get(place, 0.0) for place in ranking[:depth]]) / best)
        hits = sum(place in gain for place in ranking[:depth])
        recall.append(hits / min(depth, len(gain)))
    if not ndcg:
        return Retrieval(queries=0, ndcg=0.0, recall=0.0)
    return Retrieval(queries=len(ndcg), ndcg=float(np.mean(ndcg)), recall=float(np.mean(recall)))


def _without_self(rows: Rows, depth: int) -> list[list[int]]:
    ranked = nearest(rows, rows, depth=depth + 1)
    return [[i for i in row if i != own][:depth] for own, row in enumerate(ranked)]


def _discounted(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(place + 2) for place, gain in enumerate(gains)))


def _unit(rows: Rows) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    made: NDArray[np.float64] = wide / np.maximum(
        np.linalg.norm(wide, axis=1, keepdims=True), 1e-12
    )
    return made
