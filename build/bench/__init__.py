"""Measures the service beside sentence-transformers and every installed embedding server.

The builder's command `bench` starts it; docs/performance.md says what each figure means.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Shape:
    """The sizes that decide a model's costs. XLM-R and MPNet never use two of `positions`."""

    family: Literal["xlm-roberta", "bert", "mpnet"]
    layers: int
    width: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    max_tokens: int
    is_normalized: bool = False


XLMR_BASE = Shape("xlm-roberta", 12, 768, 12, 3072, 250_002, 514, 128)
MINILM_L6 = Shape("bert", 6, 384, 12, 1536, 30_522, 512, 256, is_normalized=True)
TINY_BERT = Shape("bert", 2, 32, 4, 64, 600, 64, 48, is_normalized=True)
TINY_XLMR = replace(TINY_BERT, family="xlm-roberta", positions=66, is_normalized=False)
TINY_MPNET = replace(TINY_BERT, family="mpnet", positions=66)
# The first has the shape of the model that a release carries.
SHAPES: Mapping[str, Shape] = {
    "xlmr-base": XLMR_BASE,
    "minilm-l6": MINILM_L6,
    "tiny-xlmr": TINY_XLMR,
    "tiny-bert": TINY_BERT,
    "tiny-mpnet": TINY_MPNET,
}
