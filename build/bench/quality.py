"""What int8 changes: how near its vectors are to float32's, and how far they rank texts alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench import client
from bench.systems import start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bench.systems import System
    from sidecar.models.golden import Golden

    Rows = NDArray[np.float32]

DEPTH = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Cosines of texts' vectors in int8 to the exact ones, and how far both rank the texts alike.

    Each text is a query for all the others. The gain of the exact ranking's first is DEPTH, that of
    its last 1, so nDCG sees the order and recall does not.
    """

    texts: str
    worst: float
    mean: float
    ndcg: float | None = None
    recall: float | None = None


def compare(ours: Sequence[System], golden: Golden, count: int, threads: int) -> list[Quality]:
    """Return what int8 changes on the golden texts, and on `count` paragraphs that are none.

    `ours` is our service in float32 and in int8. Raises SmokeError if one does not start.
    """
    known = frozenset(golden.texts)
    corpus = client.gather_corpus(count + len(known))
    paragraphs = [text for text in corpus if text not in known][:count]
    exact, rough = (_vectors(system, [*golden.texts, *paragraphs], threads) for system in ours)
    first = len(golden.texts)
    near = golden.cosines(rough[:first])
    exact, rough = exact[first:], rough[first:]
    alike = cosines(exact, rough)
    ndcg, recall = agreement(rough, exact)
    return [
        Quality(texts=f"{first} golden texts", worst=float(near.min()), mean=float(near.mean())),
        Quality(
            texts=f"{len(paragraphs)} paragraphs",
            worst=float(alike.min()),
            mean=float(alike.mean()),
            ndcg=ndcg,
            recall=recall,
        ),
    ]


def _vectors(system: System, texts: Sequence[str], threads: int) -> Rows:
    running = start(system, texts[:1], threads=threads)
    try:
        with running.connect() as connection:
            return system.api.vectors(connection.embed(texts)[1])
    finally:
        running.service.stop()


def cosines(rows: Rows, others: Rows) -> NDArray[np.float64]:
    """Return the cosine of each row to that of `others` in its place."""
    left, right = rows.astype(np.float64), others.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    found: NDArray[np.float64] = (left * right).sum(axis=1) / np.maximum(norms, 1e-12)
    return found


def agreement(rows: Rows, exact: Rows) -> tuple[float, float]:
    """Return nDCG and recall at DEPTH of how `rows` rank each other; right is how `exact` do."""
    found, wanted = _nearest(rows), _nearest(exact)
    is_same = found[:, :, None] == wanted[:, None, :]
    depth = wanted.shape[1]
    gains, discounts = np.arange(depth, 0, -1), 1 / np.log2(np.arange(depth) + 2)
    ndcg = (is_same * gains).sum(axis=2) @ discounts / (gains @ discounts)
    return float(ndcg.mean()), float(is_same.any(axis=2).mean())


def _nearest(rows: Rows) -> NDArray[np.intp]:
    """Return for each row the places of the nearest others, the nearest first."""
    unit = rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    order: NDArray[np.intp] = np.argsort(-scores, axis=1, kind="stable")
    return order[:, : min(DEPTH, len(rows) - 1)]
