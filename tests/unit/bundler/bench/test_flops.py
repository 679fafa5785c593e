from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bundler.bench.flops import Work, read_work
from bundler.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

XLMR = Work(layers=12, width=768, inner=3072)


def test_a_token_of_the_base_model_costs_170_million_and_what_attention_adds() -> None:
    assert XLMR.per_token(0) == 169_869_312
    assert XLMR.per_token(100) - XLMR.per_token(0) == 12 * 4 * 768 * 100


def test_the_products_of_a_layer_are_all_but_attention() -> None:
    flops = sum(2 * m * k * n * count for (m, k, n), count in XLMR.products(10))
    assert flops * XLMR.layers == 10 * XLMR.per_token(0)


def test_padding_is_not_counted() -> None:
    assert XLMR.total([5, 7]) == 5 * XLMR.per_token(5) + 7 * XLMR.per_token(7)


def test_sizes_are_read_from_the_configuration(tmp_path: Path) -> None:
    config = {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert read_work(tmp_path) == XLMR


@pytest.mark.parametrize("text", [None, "{", "[]", '{"d_model": 512}'])
def test_another_familys_configuration_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="not known"):
        read_work(tmp_path)
