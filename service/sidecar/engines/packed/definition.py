"""The forward, once, over a handful of operations that each executor spells in its own way.

BERT's post-norm encoder (Devlin et al., 2018; RoBERTa shares it) on the tokens of many texts in one
row after another: every step but attention treats tokens alone, so nothing is padded. What each
value holds, with T tokens of N texts: token vectors are of shape (T, width), the result (N, width).
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from sidecar.engines.packed.architecture import Architecture

V = TypeVar("V")
# What a vector is divided by at the least when it is brought to length 1.
SMALLEST_NORM = 1e-12


class Operations(Protocol[V]):
    """What the forward is made of. `weight` names are BERT's own."""

    def embed(self, words: str, positions: str, types: str) -> V:
        """Return for every token the sum of its word's, its position's and the first type's row."""

    def norm(self, x: V, name: str) -> V:
        """Return each row of `x` normalised over its columns, scaled and shifted by `name`."""

    def add_norm(self, x: V, residual: V, name: str) -> V:
        """Return `norm` of `x` plus `residual`."""

    def linear(self, x: V, weight: str, bias: str | None = None) -> V:
        """Return `x` times the transposed weight, plus the bias."""

    def gelu(self, x: V, bias: str) -> V:
        """Return the exact GELU of `x` plus the bias."""

    def attention(self, query: V, key: V, value: V) -> V:
        """Return multi-head attention of every token to the tokens of its own text alone."""

    def pool(self, x: V) -> V:
        """Return one row per text as the request pools, of length 1 if it asks for that."""


def forward(ops: Operations[V], architecture: Architecture) -> V:
    """Return one row per text."""
    x = ops.embed(
        "embeddings.word_embeddings.weight",
        "embeddings.position_embeddings.weight",
        "embeddings.token_type_embeddings.weight",
    )
    x = ops.norm(x, "embeddings.LayerNorm")
    for layer in range(architecture.layers):
        place = f"encoder.layer.{layer}."
        query, key, value = (
            ops.linear(
                x, f"{place}attention.self.{part}.weight", f"{place}attention.self.{part}.bias"
            )
            for part in ("query", "key", "value")
        )
        seen = ops.attention(query, key, value)
        output = f"{place}attention.output."
        seen = ops.linear(seen, f"{output}dense.weight", f"{output}dense.bias")
        x = ops.add_norm(seen, x, f"{output}LayerNorm")
        inner = ops.linear(x, f"{place}intermediate.dense.weight")
        inner = ops.gelu(inner, f"{place}intermediate.dense.bias")
        inner = ops.linear(inner, f"{place}output.dense.weight", f"{place}output.dense.bias")
        x = ops.add_norm(inner, x, f"{place}output.LayerNorm")
    return ops.pool(x)
