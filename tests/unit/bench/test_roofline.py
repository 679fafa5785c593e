from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from bench import MINILM_L6
from bench.measurement import Sizes, ceiling, read_sizes
from bench.synthetic import write_model
from bench.systems import GEMM, Running, library, start
from bundler.errors import UsageError
from tests.unit.bench.conftest import TEXTS, server

if TYPE_CHECKING:
    from pathlib import Path

SIZES = Sizes(layers=6, width=384, inner=1536)


def test_arithmetic_of_a_token_is_that_of_its_products() -> None:
    products = 6 * 2 * (4 * 384 * 384 + 2 * 384 * 1536)
    assert SIZES.per_token(0) == products
    assert SIZES.per_token(10) - products == 6 * 4 * 10 * 384
    assert SIZES.total([3, 5]) == 3 * SIZES.per_token(3) + 5 * SIZES.per_token(5)


def test_products_of_a_layer_are_its_arithmetic() -> None:
    operations = sum(2 * m * k * n * count for m, k, n, count in SIZES.products(7))
    assert 6 * operations == 7 * SIZES.per_token(0)


def test_sizes_are_read_from_the_configuration(tmp_path: Path) -> None:
    text = '{"num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 1536}'
    (tmp_path / "config.json").write_text(text)
    assert read_sizes(tmp_path) == SIZES


def test_an_unknown_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"d_model": 512}')
    with pytest.raises(UsageError, match="not known"):
        read_sizes(tmp_path)


def test_the_ceiling_is_the_best_of_all_numbers_of_rows() -> None:
    class Meter:
        def __init__(self, connect: object) -> None:
            self.connect = connect

    with server(GEMM, answer={"rates": {"numpy": 2.0, "torch": 3.0}}) as (connect, seen):
        found = ceiling(cast("Running", Meter(connect)), SIZES, (8, 16))
    assert found == {"numpy": 2.0, "torch": 3.0}
    assert [body["products"][0][0] for _, body in seen.bodies] == [8, 16]


def test_matrices_are_multiplied_without_a_model(tmp_path: Path) -> None:
    meter = start(library(tmp_path, 1, api=GEMM), [], threads=1)
    try:
        found = ceiling(meter, Sizes(layers=1, width=16, inner=32), (8,))
        assert found["numpy"] > 0
        assert "numpy" in meter.info()
    finally:
        meter.service.stop()


def test_a_synthetic_model_has_the_sizes_of_its_shape(tmp_path: Path) -> None:
    from bench import TINY_BERT  # noqa: PLC0415

    found = read_sizes(write_model(tmp_path / "model", TINY_BERT, TEXTS))
    assert (found.layers, found.width, found.inner) == (2, 32, 64)
    assert MINILM_L6.width == SIZES.width
