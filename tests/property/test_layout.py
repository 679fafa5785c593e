from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.engines.packed.layout import GRID_COST, GRIDS, ROW_COST, Layout, arrange, partition

LENGTHS = st.lists(
    st.one_of(st.integers(1, 4), st.integers(1, 64), st.integers(1, 512)), min_size=1, max_size=80
)
FIRST = st.sampled_from((0, 2))


def laid(lengths: list[int], first: int = 0) -> tuple[list[list[int]], Layout]:
    """Return a batch in which every token has a number of its own, none padding's, and a layout."""
    numbers = itertools.count(10)
    batch = [[next(numbers) for _ in range(n)] for n in lengths]
    return batch, arrange(batch, first_position=first)


def cost(lengths: list[int], runs: list[tuple[int, int]]) -> int:
    price = sum((end - at) * lengths[at] * (lengths[at] + ROW_COST) for at, end in runs)
    return price + GRID_COST * len(runs)


@given(lengths=LENGTHS)
def test_every_token_has_exactly_one_cell_and_is_found_again_at_its_place(
    lengths: list[int],
) -> None:
    batch, made = laid(lengths)
    cells = np.concatenate([grid.cells.ravel() for grid in made.grids])
    mask = np.concatenate([grid.mask.ravel() for grid in made.grids])
    assert sorted(cells[mask == 1].tolist()) == list(range(sum(lengths)))
    assert cells[made.places].tolist() == list(range(sum(lengths)))
    assert (mask[made.places] == 1).all()
    for row, index in enumerate(made.order):
        begin = made.starts[row]
        assert made.ids[begin : begin + made.lengths[row]].tolist() == batch[index]


@given(lengths=LENGTHS)
def test_grids_hold_every_text_once_and_no_row_shows_two(lengths: list[int]) -> None:
    _, made = laid(lengths)
    text_of = np.repeat(np.arange(len(lengths)), made.lengths)
    assert 1 <= len(made.grids) <= GRIDS
    shown = []
    for grid, (first, last) in zip(made.grids, made.spans, strict=True):
        owners = text_of[grid.cells]
        # What stands in behind the end is of the text itself as well, and masked.
        assert (owners == owners[:, :1]).all()
        assert grid.mask[:, 0].all()
        assert (np.diff(grid.mask, axis=1) <= 0).all()
        assert grid.mask.sum(axis=1).tolist() == made.lengths[owners[:, 0]].tolist()
        assert grid.cells.shape[1] == made.lengths[owners[0, 0]]
        assert grid.mask.sum() == last - first
        shown += owners[:, 0].tolist()
    assert shown == list(range(len(lengths)))
    assert made.spans[0][0] == 0
    assert made.spans[-1][1] == sum(lengths)


@given(lengths=LENGTHS, first=FIRST)
def test_positions_restart_with_every_text(lengths: list[int], first: int) -> None:
    _, made = laid(lengths, first)
    for begin, length in zip(made.starts, made.lengths, strict=True):
        positions = made.positions[begin : begin + length]
        assert positions.tolist() == list(range(first, first + length))


@given(lengths=LENGTHS, most=st.integers(1, 6))
def test_cuts_are_in_order_and_never_dearer_than_one_run(lengths: list[int], most: int) -> None:
    lengths.sort(reverse=True)
    runs = partition(lengths, most)
    assert 1 <= len(runs) <= most
    assert [at for at, _ in runs] == [0, *(end for _, end in runs[:-1])]
    assert runs[-1][1] == len(lengths)
    assert all(at < end for at, end in runs)
    assert cost(lengths, runs) <= cost(lengths, [(0, len(lengths))])


@settings(max_examples=60)
@given(lengths=st.lists(st.sampled_from((1, 8, 64, 300, 512)), min_size=1, max_size=40))
def test_with_few_lengths_no_cuts_are_cheaper(lengths: list[int]) -> None:
    lengths.sort(reverse=True)
    inner = [at for at in range(1, len(lengths)) if lengths[at] != lengths[at - 1]]
    every = [
        [(at, end) for at, end in itertools.pairwise((0, *cuts, len(lengths)))]
        for count in range(GRIDS)
        for cuts in itertools.combinations(inner, count)
    ]
    assert cost(lengths, partition(lengths, GRIDS)) == min(cost(lengths, runs) for runs in every)


@given(lengths=LENGTHS)
def test_the_rows_of_the_pooling_matrix_weigh_the_tokens_of_their_text(lengths: list[int]) -> None:
    _, made = laid(lengths)
    mean, cls = made.pooling("mean"), made.pooling("cls")
    assert np.allclose(mean.sum(axis=1), 1)
    assert ((mean > 0).sum(axis=1) == made.lengths).all()
    assert ((mean > 0).sum(axis=0) == 1).all()
    assert [row.nonzero()[0].tolist() for row in cls] == [[at] for at in made.starts]
