"""Random mixes of lengths: every text gets the vector that it gets alone."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.clients import cosines
from tests.support.twins import Twin, lots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.engines import Vectors

ROUNDING = 2e-6
SAME = 0.99999
POOL = 160
MIXES = 2000
POOLINGS = ("mean", "cls", "max")
EXAMPLES = settings(max_examples=60, deadline=None)


class Known:
    """A pool of texts with the vectors that each gets alone, from the engine and the reference."""

    def __init__(self, twin: Twin) -> None:
        drawn = random.Random(8421)
        longest = twin.shape.max_tokens
        lengths = [drawn.choice((1, 2, drawn.randint(1, longest), longest)) for _ in range(POOL)]
        self.texts = lots(twin.shape, lengths, seed=3)
        self.torch = twin.torch()
        self.alone: dict[str, Vectors] = {}
        for pooling in POOLINGS:
            rows = [
                twin.packed.encode([ids], pooling=pooling, normalize=False) for ids in self.texts
            ]
            self.alone[pooling] = np.concatenate(rows)
            theirs = twin.reference.encode(self.texts, pooling=pooling, normalize=False)
            assert cosines(self.alone[pooling], theirs).min() >= SAME

    def batch(self, picked: Sequence[int]) -> list[tuple[int, ...]]:
        return [self.texts[index] for index in picked]


@pytest.fixture(scope="session")
def known(twin: Twin) -> Known:
    return Known(twin)


def test_thousands_of_mixes_give_the_vectors_of_one_by_one(twin: Twin, known: Known) -> None:
    drawn = random.Random(1)
    for number in range(MIXES):
        picked = [drawn.randrange(POOL) for _ in range(drawn.choice((1, 2, 3, 8, 20)))]
        pooling = POOLINGS[number % 3]
        found = twin.packed.encode(known.batch(picked), pooling=pooling, normalize=False)
        worst = np.abs(found - known.alone[pooling][picked]).max()
        assert worst <= ROUNDING, (number, picked, pooling)


@EXAMPLES
@given(
    picked=st.lists(st.integers(0, POOL - 1), min_size=1, max_size=60),
    pooling=st.sampled_from(POOLINGS),
)
def test_torch_gives_the_vectors_of_onnx_runtime_alone(
    known: Known, picked: list[int], pooling: str
) -> None:
    found = known.torch.run(known.batch(picked), pooling=pooling, normalize=False)
    np.testing.assert_allclose(found, known.alone[pooling][picked], atol=1e-5)


@EXAMPLES
@given(texts=st.lists(st.text(max_size=80), min_size=1, max_size=12))
def test_whatever_texts_say_they_get_the_reference_vectors(twin: Twin, texts: list[str]) -> None:
    tokens = twin.packed.tokenize(texts)
    assert tokens == twin.reference.tokenize(texts)
    ids = [found.ids for found in tokens]
    found = twin.packed.encode(ids, pooling="mean", normalize=True)
    theirs = twin.reference.encode(ids, pooling="mean", normalize=True)
    assert cosines(found, theirs).min() >= SAME
