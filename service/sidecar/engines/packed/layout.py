"""How the tokens of many texts lie in one row after another, and how attention finds each text.

Attention alone needs a rectangle per text. Texts of like length share one grid, so a grid has
little padding; a few grids, `GRIDS`, are enough for any mix, and their number is fixed because the
graph has a place for each. Pure arithmetic.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GRIDS = 4
# What a token costs in attention besides the tokens it looks at, and what a grid costs on a
# processor, in cells.
ROW_COST = 64
GRID_COST = 4096
# Cuts are looked for at this many places: finer ones save less than finding them costs.
BORDERS = 24
# From so many tokens on, all distances on one side share a bucket (transformers' MPNetEncoder).
FARTHEST = 128
Indices = NDArray[np.int64]
_FIRST = np.zeros(1, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Texts of like length, one per row.

    `cells` (texts, longest) are indices of tokens; behind a text's end its first token stands in.
    `mask` says which cells are tokens.
    """

    cells: Indices
    mask: NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The tokens of N texts, T in all, longest text first.

    `order[row]` is the index that the row's text came with; `starts` and `lengths` (N,) are its
    tokens. `ids` and `positions` are of shape (T,). `spans` are the first token of each grid and
    the one behind its last. `places` (T,) are the cells of each token when the cells of all grids
    are counted one after another.
    """

    order: Indices
    starts: Indices
    lengths: Indices
    ids: Indices
    positions: Indices
    grids: tuple[Grid, ...]
    spans: tuple[tuple[int, int], ...]
    places: Indices

    def pooling(self, mode: str) -> NDArray[np.float32]:
        """Return the matrix (N, T) that takes tokens to texts by `mode`, mean or cls."""
        if len(self.order) == 1 and mode != "cls":
            return np.full((1, len(self.ids)), 1.0 / len(self.ids), dtype=np.float32)
        matrix = np.zeros((len(self.order), len(self.ids)), dtype=np.float32)
        rows = np.arange(len(self.order))
        if mode == "cls":
            matrix[rows, self.starts] = 1.0
        else:
            of_token = np.repeat(rows, self.lengths)
            matrix[of_token, np.arange(len(self.ids))] = (1.0 / self.lengths)[of_token]
        return matrix


def arrange(
    batch: Sequence[Sequence[int]], *, first_position: int, grid_cost: int = GRID_COST
) -> Layout:
    """Return the layout of `batch`, sequences of at least one token id.

    Positions count up from `first_position`. Where that is not zero the row before it belongs to
    padding, whose token is of the same number (RoBERTa); a text that spells out that token gets
    that row for it, and the position is not counted. `grid_cost` is what a grid costs, in cells.
    """
    if len(batch) == 1:
        return _alone(np.asarray(batch[0], dtype=np.int64), first_position=first_position)
    known = np.fromiter((len(ids) for ids in batch), dtype=np.int64, count=len(batch))
    order = np.argsort(-known, kind="stable")
    lengths = known[order]
    ends = np.cumsum(lengths)
    starts = ends - lengths
    total = int(ends[-1])
    ids = np.concatenate([np.asarray(batch[index], dtype=np.int64) for index in order])
    is_counted = ids != first_position - 1 if first_position else np.ones(total, dtype=np.bool_)
    counted = np.cumsum(is_counted)
    before = np.repeat(counted[starts] - is_counted[starts], lengths)
    positions = np.where(is_counted, counted - before, 0) + (first_position - 1)
    grids: list[Grid] = []
    places = np.empty(total, dtype=np.int64)
    spans: list[tuple[int, int]] = []
    cells = 0
    for first, last in partition([int(n) for n in lengths], GRIDS, grid_cost):
        columns = np.arange(lengths[first], dtype=np.int64)
        mask = columns < lengths[first:last, None]
        begin = starts[first:last, None]
        grids.append(Grid(cells=np.where(mask, begin + columns, begin), mask=mask.astype(np.int32)))
        spans.append((int(starts[first]), int(ends[last - 1])))
        places[slice(*spans[-1])] = cells + np.flatnonzero(mask)
        cells += mask.size
    return Layout(
        order=order,
        starts=starts,
        lengths=lengths,
        ids=ids,
        positions=positions,
        grids=tuple(grids),
        spans=tuple(spans),
        places=places,
    )


def _alone(ids: Indices, *, first_position: int) -> Layout:
    """Return what `arrange` does for one text, of which there is nothing to sort or to divide."""
    count = len(ids)
    line = np.arange(count, dtype=np.int64)
    if first_position:
        is_counted = ids != first_position - 1
        positions = np.where(is_counted, np.cumsum(is_counted), 0) + (first_position - 1)
    else:
        positions = line
    return Layout(
        order=_FIRST,
        starts=_FIRST,
        lengths=np.array([count], dtype=np.int64),
        ids=ids,
        positions=positions,
        grids=(Grid(cells=line[None], mask=np.ones((1, count), dtype=np.int32)),),
        spans=((0, count),),
        places=line,
    )


def partition(
    lengths: Sequence[int], most: int, grid_cost: int = GRID_COST
) -> list[tuple[int, int]]:
    """Return where to cut `lengths`, longest first, into at most `most` runs of little padding.

    A run of n texts costs n times the square of its longest, for attention does, and `grid_cost`;
    dynamic programming over the distinct lengths finds the cheapest cuts.
    """
    count = len(lengths)
    borders = [i for i in range(1, count) if lengths[i] != lengths[i - 1]]
    borders = [0, *borders[:: -(-len(borders) // BORDERS) or 1], count]
    begun: dict[int, tuple[float, tuple[tuple[int, int], ...]]] = {0: (0.0, ())}
    whole: list[tuple[float, tuple[tuple[int, int], ...]]] = []
    for _ in range(most):
        further: dict[int, tuple[float, tuple[tuple[int, int], ...]]] = {}
        for start, (spent, runs) in begun.items():
            price = lengths[start] * (lengths[start] + ROW_COST)
            for end in borders:
                total = spent + (end - start) * price + grid_cost
                if end > start and (end not in further or total < further[end][0]):
                    further[end] = (total, (*runs, (start, end)))
        if count in further:
            whole.append(further.pop(count))
        begun = further
    return list(min(whole)[1])


@functools.cache
def distance_buckets(buckets: int, max_tokens: int) -> Indices:
    """Return the bucket of each distance from 1 - max_tokens to max_tokens - 1 tokens.

    Half of the buckets are for tokens that follow. Half of each half are one distance each; the
    others grow by a constant factor up to FARTHEST (T5, Raffel et al., 2020, section 2.1).
    """
    half = buckets // 2
    single = half // 2
    # To the power of `single`: logarithms differ in their last bits from machine to machine.
    edges = [single ** (single - n) * FARTHEST**n for n in range(1, single)]
    rows = [
        n if n < single else single + sum(edge <= n**single for edge in edges)
        for n in range(max_tokens)
    ]
    return np.array([*reversed(rows), *(half + row for row in rows[1:])], dtype=np.int64)
