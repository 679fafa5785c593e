"""The twins that can be measured, by name: what decides the costs of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Shape:
    """What decides a twin's costs. `positions` counts the two that XLM-R never uses."""

    family: Literal["xlm-roberta", "bert"]
    layers: int
    width: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    max_tokens: int
    is_normalized: bool = False


XLMR_BASE = Shape(
    family="xlm-roberta",
    layers=12,
    width=768,
    heads=12,
    inner=3072,
    vocabulary=250_002,
    positions=514,
    max_tokens=128,
)
MINILM_L6 = Shape(
    family="bert",
    layers=6,
    width=384,
    heads=12,
    inner=1536,
    vocabulary=30_522,
    positions=512,
    max_tokens=256,
    is_normalized=True,
)
TINY_BERT = replace(
    MINILM_L6, layers=2, width=32, heads=4, inner=64, vocabulary=600, positions=64, max_tokens=48
)
TINY_XLMR = replace(TINY_BERT, family="xlm-roberta", positions=66, is_normalized=False)
TWINS: Mapping[str, Shape] = {
    "xlmr-base": XLMR_BASE,
    "minilm-l6": MINILM_L6,
    "tiny-xlmr": TINY_XLMR,
    "tiny-bert": TINY_BERT,
}
