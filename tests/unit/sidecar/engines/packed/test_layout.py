"""Where the tokens of known batches lie. What holds for all of them: tests/property."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.engines.packed.layout import GRIDS, arrange, distance_buckets, partition


def test_texts_lie_one_after_another_the_longest_first_and_positions_restart() -> None:
    made = arrange([[10], [20, 21, 22], [30, 31]], first_position=0)
    assert made.order.tolist() == [1, 2, 0]
    assert made.ids.tolist() == [20, 21, 22, 30, 31, 10]
    assert made.positions.tolist() == [0, 1, 2, 0, 1, 0]
    assert (made.starts.tolist(), made.lengths.tolist()) == ([0, 3, 5], [3, 2, 1])


def test_positions_begin_behind_the_row_of_padding() -> None:
    made = arrange([[10], [20, 21]], first_position=2)
    assert made.positions.tolist() == [2, 3, 2]


def test_spelled_padding_has_its_own_row() -> None:
    # transformers: positions are counted over what is not padding, padding's is its own number.
    made = arrange([[0, 1, 7, 1, 1, 8, 2], [1, 1], [0, 1]], first_position=2)
    assert made.positions.tolist() == [2, 1, 3, 1, 1, 4, 5, 1, 1, 2, 1]


def test_without_a_row_of_padding_every_token_is_counted() -> None:
    assert arrange([[0, 1, 0]], first_position=0).positions.tolist() == [0, 1, 2]


@pytest.mark.parametrize("first_position", [0, 2])
def test_a_text_alone_lies_as_it_does_among_others(first_position: int) -> None:
    text = [0, 1, 7, 1, 1, 8, 2]
    alone, among = (arrange([text] * n, first_position=first_position) for n in (1, 2))
    assert alone.ids.tolist() == text
    assert alone.positions.tolist() == among.positions[:7].tolist()
    assert alone.places.tolist() == among.places[:7].tolist()
    assert alone.spans == ((0, 7),)
    assert [alone.order[0], alone.starts[0], alone.lengths[0]] == [0, 0, 7]
    for found, expected in (
        (alone.grids[0].cells, among.grids[0].cells[:1]),
        (alone.grids[0].mask, among.grids[0].mask[:1]),
    ):
        assert found.dtype == expected.dtype
        assert found.tolist() == expected.tolist()
    for mode in ("mean", "cls"):
        assert alone.pooling(mode).tolist() == among.pooling(mode)[:1, :7].tolist()


def test_texts_of_one_length_share_an_unpadded_grid() -> None:
    made = arrange([[1, 2], [3, 4], [5, 6]], first_position=0)
    assert made.order.tolist() == [0, 1, 2]
    assert len(made.grids) == 1
    assert made.grids[0].cells.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert made.grids[0].mask.all()


def test_behind_a_texts_end_its_own_first_token_stands_in() -> None:
    made = arrange([[1, 2, 3], [4]], first_position=0)
    assert made.grids[0].cells.tolist() == [[0, 1, 2], [3, 3, 3]]
    assert made.grids[0].mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert made.places.tolist() == [0, 1, 2, 3]


def test_long_texts_and_short_ones_lie_in_grids_of_their_own() -> None:
    lengths = [512] * 4 + [8] * 200
    made = arrange([range(n) for n in lengths], first_position=0)
    assert [grid.cells.shape for grid in made.grids] == [(4, 512), (200, 8)]
    assert made.spans == ((0, 2048), (2048, 3648))


def test_a_batch_too_small_to_pay_for_a_second_grid_has_one() -> None:
    assert len(arrange([[1] * 9, [1]], first_position=0).grids) == 1


def test_more_lengths_than_are_looked_at_are_still_cut_well() -> None:
    lengths = list(range(512, 0, -1))
    runs = partition(lengths, GRIDS)
    padded = sum((end - start) * lengths[start] for start, end in runs)
    assert len(runs) == GRIDS
    assert padded < 1.3 * sum(lengths)


@pytest.mark.parametrize("mode", ["mean", "cls"])
def test_the_pooling_matrix_takes_tokens_to_texts(mode: str) -> None:
    made = arrange([[5], [6, 7, 8, 9]], first_position=0)
    values = made.ids[:, None].astype(np.float32)
    expected = {"mean": [[7.5], [5.0]], "cls": [[6.0], [5.0]]}
    assert (made.pooling(mode) @ values).tolist() == expected[mode]


@pytest.mark.torch
@pytest.mark.parametrize("buckets", [8, 32, 64])
def test_distances_fall_into_the_buckets_of_transformers(buckets: int) -> None:
    import torch  # noqa: PLC0415 - seconds, and not every test needs it
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder  # noqa: PLC0415

    theirs = MPNetEncoder.relative_position_bucket(torch.arange(-511, 512), num_buckets=buckets)
    np.testing.assert_array_equal(distance_buckets(buckets, 512), theirs.numpy())
