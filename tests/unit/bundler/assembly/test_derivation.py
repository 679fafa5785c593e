from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench import TINY_BERT, TINY_MPNET, TINY_XLMR, Shape
from bench.synthetic import write_model
from bundler.assembly.derivation import Proof, derive, measure_int8
from bundler.errors import ModelError
from bundler.locking.calibration import calibrate
from bundler.locks.models import Cosines
from sidecar.engines.packed import engine as packed
from sidecar.engines.packed.architecture import (
    GRAPH,
    HALF_WEIGHTS,
    MADE,
    PIECES,
    QUANTIZED_GRAPH,
    WEIGHTS,
)
from sidecar.process.cpu_features import CpuFeatures
from tests.support.miniature import encode_row
from tests.support.twins import WORDS, edit

if TYPE_CHECKING:
    from pathlib import Path

# Golden vectors come from sentence-transformers.
pytestmark = pytest.mark.torch
SHAPES = pytest.mark.parametrize(
    "shape", [TINY_BERT, TINY_XLMR, TINY_MPNET], ids=lambda shape: shape.family
)


NEAR = Cosines(worst=0.99, mean=0.99)
TOO_NEAR = Cosines(worst=0.9999999, mean=0.99999999)


def twin(folder: Path, shape: Shape = TINY_BERT) -> tuple[Path, Proof]:
    """Return a twin's snapshot in `folder`, and the proof that it must pass."""
    from sidecar.engines import reference  # noqa: PLC0415 - seconds, and not every test needs it

    snapshot = write_model(folder / "snapshot", shape, WORDS)
    engine = reference.load(snapshot, device="cpu")
    ids = [tokens.ids for tokens in engine.tokenize(WORDS)]
    rows = engine.encode(ids, pooling="mean", normalize=True)
    golden = write_golden(snapshot, rows.tolist())
    return snapshot, Proof(golden=golden, least_int8=NEAR)


def write_golden(snapshot: Path, rows: list[list[float]]) -> Path:
    int8 = calibrate(snapshot, WORDS)
    assert int8 is not None
    golden: dict[str, Any] = {
        "texts": WORDS,
        "vectors": [encode_row(row) for row in rows],
        "dim": len(rows[0]),
        "pooling": "mean",
        "normalize": True,
        "int8": int8.table(),
    }
    path = snapshot.with_name("golden.json")
    path.write_text(json.dumps(golden), encoding="utf-8")
    return path


@SHAPES
def test_a_model_gets_its_graph_beside_its_weights(tmp_path: Path, shape: Shape) -> None:
    snapshot, proof = twin(tmp_path, shape)
    before = (snapshot / WEIGHTS).read_bytes()
    derive("twin", snapshot, proof, weights="whole")
    assert (snapshot / GRAPH).stat().st_size < 100_000
    assert (snapshot / WEIGHTS).read_bytes() == before
    assert not (snapshot / HALF_WEIGHTS).exists()
    assert (snapshot / PIECES).exists() == (shape.family == "xlm-roberta")


def test_weights_in_half_take_the_place_of_the_whole_ones_and_serve(tmp_path: Path) -> None:
    snapshot, proof = twin(tmp_path)
    size = (snapshot / WEIGHTS).stat().st_size
    derive("twin", snapshot, proof, weights="half")
    assert not (snapshot / WEIGHTS).exists()
    assert (snapshot / HALF_WEIGHTS).stat().st_size < 0.6 * size
    engine = packed.load(snapshot, device="cpu", threads=1)
    ids = [tokens.ids for tokens in engine.tokenize(WORDS)]
    assert np.isfinite(engine.encode(ids, pooling="mean", normalize=True)).all()


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        snapshot, proof = twin(tmp_path / name)
        derive(name, snapshot, proof, weights="half")
        made.append(
            [(snapshot / file).read_bytes() for file in (GRAPH, *MADE["int8"], HALF_WEIGHTS)]
        )
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("weights", "instead"), [("whole", "another --model"), ("half", "--profile safe")]
)
def test_a_graph_that_gives_other_vectors_is_not_shipped(
    tmp_path: Path, weights: str, instead: str
) -> None:
    snapshot, _ = twin(tmp_path)
    width = TINY_BERT.width
    golden = write_golden(snapshot, np.eye(len(WORDS), width).tolist())
    proof = Proof(golden=golden, least_int8=NEAR)
    with pytest.raises(ModelError, match="graph of twin in float32 does not give") as caught:
        derive("twin", snapshot, proof, weights=weights)
    assert "worst cosine" in caught.value.why
    # The profile safe has the weights whole: it is none to go over to from there.
    assert [
        way for way in ("another --model", "--profile safe") if way in caught.value.next_step
    ] == [instead]


@pytest.mark.parametrize("has_byte_products", [True, False])
@pytest.mark.parametrize("weights", ["whole", "half"])
def test_int8_below_its_limits_is_an_error_on_every_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, *, has_byte_products: bool
) -> None:
    features = CpuFeatures(level=4, has_byte_products=has_byte_products)
    monkeypatch.setattr("sidecar.process.cpu_features.detect", lambda **_: features)
    snapshot, proof = twin(tmp_path)
    with pytest.raises(ModelError, match="int8 of twin is farther") as caught:
        derive("twin", snapshot, replace(proof, least_int8=TOO_NEAR), weights=weights)
    assert caught.value.exit_code == 11
    numbers = re.findall(r"0\.\d+", caught.value.why)
    assert len(numbers) == 4
    assert numbers[1::2] == ["0.9999999", "0.99999999"]
    assert NEAR.worst <= float(numbers[0]) < TOO_NEAR.worst
    assert NEAR.mean <= float(numbers[2]) < TOO_NEAR.mean
    assert "lock --models twin" in caught.value.next_step


@pytest.mark.parametrize("figure", ["worst", "mean"])
def test_either_limit_alone_is_held(tmp_path: Path, figure: str) -> None:
    snapshot, proof = twin(tmp_path)
    least = replace(NEAR, **{figure: getattr(TOO_NEAR, figure)})
    with pytest.raises(ModelError, match="int8 of twin"):
        derive("twin", snapshot, replace(proof, least_int8=least), weights="whole")


def test_a_model_that_is_locked_without_int8_gets_no_graph_for_it(tmp_path: Path) -> None:
    snapshot, proof = twin(tmp_path)
    derive("twin", snapshot, replace(proof, least_int8=None), weights="whole")
    assert (snapshot / GRAPH).is_file()
    assert not (snapshot / QUANTIZED_GRAPH).exists()


def test_a_model_that_is_only_measured_gets_every_graph_unproven(tmp_path: Path) -> None:
    snapshot = write_model(tmp_path / "snapshot", TINY_BERT, WORDS)
    derive("twin", snapshot, None, weights="whole")
    assert (snapshot / GRAPH).is_file()
    assert all((snapshot / name).is_file() for name in MADE["int8"])


def test_golden_texts_without_constants_of_int8_are_refused(tmp_path: Path) -> None:
    snapshot, proof = twin(tmp_path)
    edit(tmp_path, proof.golden.name, lambda held: held.pop("int8"))
    with pytest.raises(ModelError, match="cannot run twin") as caught:
        derive("twin", snapshot, proof, weights="whole")
    assert "constants of its int8" in caught.value.why
    assert "lock --models twin" in caught.value.next_step


@SHAPES
def test_int8_is_measured_below_one(tmp_path: Path, shape: Shape) -> None:
    snapshot, proof = twin(tmp_path, shape)
    found = measure_int8(snapshot, proof.golden)
    assert found is not None
    assert NEAR.worst <= found.worst <= found.mean < 1


def test_weights_in_half_count_where_they_would_not_hold_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot, proof = twin(tmp_path)
    given = iter([Cosines(worst=0.995, mean=0.998), Cosines(worst=0.993, mean=0.999)])
    monkeypatch.setattr("bundler.assembly.derivation._int8_cosines", lambda *_, **__: next(given))
    assert measure_int8(snapshot, proof.golden) == Cosines(worst=0.993, mean=0.998)


def test_int8_of_a_model_of_another_family_cannot_be_measured(tmp_path: Path) -> None:
    snapshot, proof = twin(tmp_path)
    edit(snapshot, "config.json", lambda held: held.update(model_type="t5"))
    assert measure_int8(snapshot, proof.golden) is None


def test_a_model_of_another_family_is_left_as_it_is(tmp_path: Path) -> None:
    snapshot, proof = twin(tmp_path)
    edit(snapshot, "config.json", lambda held: held.update(model_type="t5"))
    files = {path.name for path in snapshot.iterdir()}
    derive("twin", snapshot, replace(proof, least_int8=None), weights="whole")
    assert {path.name for path in snapshot.iterdir()} == files


@pytest.mark.parametrize(
    ("weights", "least", "said"),
    [
        ("half", None, "no other engine"),
        ("half", NEAR, "no other engine"),
        ("whole", NEAR, "says that it has int8"),
    ],
)
def test_a_model_of_another_family_cannot_have_what_only_this_engine_has(
    tmp_path: Path, weights: str, least: Cosines | None, said: str
) -> None:
    snapshot, proof = twin(tmp_path)
    edit(snapshot, "config.json", lambda held: held.update(model_type="t5"))
    with pytest.raises(ModelError) as caught:
        derive("twin", snapshot, replace(proof, least_int8=least), weights=weights)
    assert caught.value.exit_code == 11
    assert "t5" in caught.value.why
    assert said in caught.value.why
