from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bundler.bench.shapes import TINY_BERT, TINY_XLMR, Shape
from bundler.bench.twin import write_twin
from bundler.errors import ModelError
from bundler.models.derivation import derive
from bundler.models.golden import encode_row
from sidecar.engines.packed import engine as packed
from sidecar.engines.packed.architecture import GRAPH, HALF_WEIGHTS, WEIGHTS
from tests.support.twins import WORDS, edit

if TYPE_CHECKING:
    from pathlib import Path

SHAPES = pytest.mark.parametrize("shape", [TINY_BERT, TINY_XLMR], ids=lambda shape: shape.family)


def twin(folder: Path, shape: Shape = TINY_BERT) -> tuple[Path, Path]:
    """Return a twin's snapshot in `folder`, and a file of the vectors it must give."""
    from sidecar.engines import reference  # noqa: PLC0415 - seconds, and not every test needs it

    snapshot = write_twin(folder / "snapshot", shape, WORDS)
    engine = reference.load(snapshot, device="cpu")
    ids = [tokens.ids for tokens in engine.tokenize(WORDS)]
    rows = engine.encode(ids, pooling="mean", normalize=True)
    return snapshot, write_golden(folder, rows.tolist())


def write_golden(folder: Path, rows: list[list[float]]) -> Path:
    golden: dict[str, Any] = {
        "texts": WORDS,
        "vectors": [encode_row(row) for row in rows],
        "dim": len(rows[0]),
        "pooling": "mean",
        "normalize": True,
    }
    path = folder / "golden.json"
    path.write_text(json.dumps(golden), encoding="utf-8")
    return path


@SHAPES
def test_a_model_gets_its_graph_beside_its_weights(tmp_path: Path, shape: Shape) -> None:
    snapshot, golden = twin(tmp_path, shape)
    before = (snapshot / WEIGHTS).read_bytes()
    derive("twin", snapshot, golden, weights="whole")
    assert (snapshot / GRAPH).stat().st_size < 100_000
    assert (snapshot / WEIGHTS).read_bytes() == before
    assert not (snapshot / HALF_WEIGHTS).exists()


def test_weights_in_half_take_the_place_of_the_whole_ones_and_serve(tmp_path: Path) -> None:
    snapshot, golden = twin(tmp_path)
    size = (snapshot / WEIGHTS).stat().st_size
    derive("twin", snapshot, golden, weights="half")
    assert not (snapshot / WEIGHTS).exists()
    assert (snapshot / HALF_WEIGHTS).stat().st_size < 0.6 * size
    engine = packed.load(snapshot, device="cpu", threads=1)
    ids = [tokens.ids for tokens in engine.tokenize(WORDS)]
    assert np.isfinite(engine.encode(ids, pooling="mean", normalize=True)).all()


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        snapshot, golden = twin(tmp_path / name)
        derive(name, snapshot, golden, weights="half")
        made.append([(snapshot / file).read_bytes() for file in (GRAPH, HALF_WEIGHTS)])
    assert made[0] == made[1]


def test_a_graph_that_gives_other_vectors_is_not_shipped(tmp_path: Path) -> None:
    snapshot, _ = twin(tmp_path)
    width = TINY_BERT.width
    golden = write_golden(tmp_path, np.eye(len(WORDS), width).tolist())
    with pytest.raises(ModelError, match="graph of twin in float32 does not give") as caught:
        derive("twin", snapshot, golden, weights="whole")
    assert "worst cosine" in caught.value.why


def test_a_model_of_another_family_is_left_as_it_is(tmp_path: Path) -> None:
    snapshot, golden = twin(tmp_path)
    edit(snapshot, "config.json", lambda held: held.update(model_type="t5"))
    files = {path.name for path in snapshot.iterdir()}
    derive("twin", snapshot, golden, weights="whole")
    assert {path.name for path in snapshot.iterdir()} == files


def test_a_model_of_another_family_cannot_be_in_a_profile_without_another_engine(
    tmp_path: Path,
) -> None:
    snapshot, golden = twin(tmp_path)
    edit(snapshot, "config.json", lambda held: held.update(model_type="t5"))
    with pytest.raises(ModelError) as caught:
        derive("twin", snapshot, golden, weights="half")
    assert caught.value.exit_code == 11
    assert "t5" in caught.value.why
