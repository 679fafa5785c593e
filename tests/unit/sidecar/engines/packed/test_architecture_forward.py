"""The forward itself, on operations of a third kind: plain numpy, one text after another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sidecar.engines.packed.architecture import PROJECTIONS, WEIGHTS, forward
from sidecar.engines.packed.layout import distance_buckets
from sidecar.engines.packed.weights import Weights, names_read, open_weights
from tests.support.clients import cosines
from tests.support.twins import lots

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sidecar.engines.packed.architecture import Architecture
    from tests.support.twins import Twin

    Rows = NDArray[np.float64]

ERF = np.vectorize(math.erf)


class PlainOperations:
    """Computes one text in float64 as the formulas are printed; `used` are the weights it read."""

    def __init__(self, architecture: Architecture, weights: Weights, ids: list[int]) -> None:
        self._architecture = architecture
        self._weights = weights
        self._ids = ids
        self.used: set[str] = set()

    def _get(self, name: str) -> Rows:
        self.used.add(name)
        made: Rows = self._weights.array(name).astype(np.float64)
        return made

    def embed(self, words: str, positions: str, types: str | None) -> Rows:
        first = self._architecture.first_position
        places = self._get(positions)[first : first + len(self._ids)]
        made: Rows = self._get(words)[self._ids] + places
        return made if types is None else made + self._get(types)[0]

    def norm(self, x: Rows, name: str) -> Rows:
        centred = x - x.mean(axis=1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + self._architecture.epsilon)
        made: Rows = centred / spread * self._get(f"{name}.weight") + self._get(f"{name}.bias")
        return made

    def add_norm(self, x: Rows, residual: Rows, name: str) -> Rows:
        return self.norm(x + residual, name)

    def linear(self, x: Rows, weight: str, bias: str | None = None) -> Rows:
        made: Rows = x @ self._get(weight).T
        if bias is not None:
            made += self._get(bias)
        return made

    def gelu(self, x: Rows) -> Rows:
        made: Rows = x * (1 + ERF(x / math.sqrt(2))) / 2
        return made

    def attention(self, x: Rows, name: str, distances: str | None) -> Rows:
        heads = self._architecture.heads
        parts = (
            self.linear(x, f"{name}.{part}.weight", f"{name}.{part}.bias") for part in PROJECTIONS
        )
        q, k, v = (np.stack(np.split(part, heads, axis=1)) for part in parts)
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[2])
        if distances is not None:
            table, places = self._get(distances), range(len(self._ids))
            reach = self._architecture.max_tokens - 1
            buckets = distance_buckets(self._architecture.buckets, reach + 1)
            scores += [
                [[table[buckets[j - i + reach], h] for j in places] for i in places]
                for h in range(heads)
            ]
        scores = np.exp(scores)
        made: Rows = np.hstack(scores / scores.sum(axis=2, keepdims=True) @ v)
        return made

    def pool(self, x: Rows) -> Rows:
        made: Rows = x.mean(axis=0, keepdims=True)
        return made


@pytest.fixture
def weights(twin: Twin) -> Weights:
    return open_weights(twin.folder / WEIGHTS)


def test_the_definition_is_the_encoder_that_transformers_runs(twin: Twin, weights: Weights) -> None:
    batch = lots(twin.shape, [1, 2, 7, 20, 48])
    plain: Any = np.concatenate(
        [
            forward(PlainOperations(twin.architecture, weights, list(ids)), twin.architecture)
            for ids in batch
        ]
    )
    known = twin.reference.encode(batch, pooling="mean", normalize=False)
    np.testing.assert_allclose(plain, known, atol=1e-5)
    assert cosines(plain, known).min() > 0.999999


def test_the_definition_reads_all_that_is_required_and_nothing_else(
    twin: Twin, weights: Weights
) -> None:
    ops = PlainOperations(twin.architecture, weights, [0, 9, 2])
    forward(ops, twin.architecture)
    assert ops.used == names_read(twin.architecture)
