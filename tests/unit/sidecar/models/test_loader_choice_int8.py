"""What --precision int8 needs, what it is served with, and how it is refused."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sidecar.engines.packed import engine as packed
from sidecar.engines.packed import onnx_executor
from sidecar.engines.packed.architecture import QUANTIZED_GRAPH
from sidecar.errors import ModelError, UsageError
from sidecar.models.loader import choose
from sidecar.models.snapshot import Snapshot
from sidecar.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.engines import Vectors
    from sidecar.models.loader import Loaded
    from sidecar.settings import Device, EngineName

TEXTS = ["the cat", "rivers run to the sea", "a", ""]


def chosen(
    folder: Path,
    *,
    engine: EngineName = "auto",
    device: Device = "auto",
    golden: Path | None = None,
    least_int8: float | None = None,
    has_byte_products: bool | None = True,
) -> Loaded:
    settings = Settings(
        engine=engine,
        device=device,
        precision="int8",
        threads=1,
        has_byte_products=has_byte_products,
    )
    found = Snapshot(
        name="words",
        repository="a/b",
        revision="rev",
        path=folder,
        golden=golden,
        least_int8=least_int8,
    )
    return choose(settings, found, lambda _: None)


@pytest.mark.parametrize("device", ["auto", "cpu"])
@pytest.mark.parametrize("engine", ["auto", "packed"])
def test_the_packed_engine_on_the_processor_serves_it(
    bert: Path, engine: EngineName, device: Device
) -> None:
    found = chosen(bert, engine=engine, device=device)
    made = found.engine
    assert (made.name, made.device, made.precision) == ("packed", "cpu", "int8")
    assert (found.unpacked_because, found.degraded) == (None, None)


def test_without_the_instructions_the_same_space_is_served_and_said_so(bert: Path) -> None:
    found, usual = chosen(bert, has_byte_products=False), chosen(bert)
    assert found.degraded == "float32-products"
    assert "VNNI" in str(found.degraded_because)
    assert found.unpacked_because is None
    assert found.fingerprint() == usual.fingerprint()


@pytest.mark.parametrize("clips", [True, False])
def test_sums_decide_where_the_processor_does_not_tell(
    bert: Path, monkeypatch: pytest.MonkeyPatch, *, clips: bool
) -> None:
    monkeypatch.setattr(onnx_executor, "clips", lambda: clips)
    found = chosen(bert, has_byte_products=None)
    assert found.degraded == ("float32-products" if clips else None)


@pytest.mark.parametrize("engine", ["auto", "packed"])
def test_nothing_stands_in_for_a_model_that_has_no_such_graph(
    bert: Path, engine: EngineName
) -> None:
    (bert / QUANTIZED_GRAPH).unlink()
    with pytest.raises(ModelError) as caught:
        chosen(bert, engine=engine)
    assert QUANTIZED_GRAPH in caught.value.why
    assert caught.value.exit_code == 11


def write_golden(path: Path, rows: Vectors) -> Path:
    vectors = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in rows]
    held = {"texts": TEXTS, "vectors": vectors, "dim": 32, "pooling": "mean", "normalize": True}
    path.write_text(json.dumps(held), encoding="utf-8")
    return path


def test_vectors_that_are_too_far_from_the_reference_are_not_served(
    bert: Path, tmp_path: Path
) -> None:
    golden = write_golden(tmp_path / "golden.json", np.eye(len(TEXTS), 32, dtype=np.float32))
    with pytest.raises(ModelError) as caught:
        chosen(bert, golden=golden, least_int8=0.9769)
    assert "below 0.9769" in caught.value.why
    assert caught.value.next_step == "leave out --precision"


def test_the_limit_of_the_bundle_decides_what_is_served(bert: Path, tmp_path: Path) -> None:
    exact = packed.load(bert, device="cpu", threads=1)
    ids = [tokens.ids for tokens in exact.tokenize(TEXTS)]
    rows = exact.encode(ids, pooling="mean", normalize=True)
    golden = write_golden(tmp_path / "golden.json", rows)
    assert chosen(bert, golden=golden, least_int8=0.8).engine.precision == "int8"
    with pytest.raises(ModelError, match="does not give"):
        chosen(bert, golden=golden, least_int8=0.9999999)


@pytest.mark.parametrize("has_byte_products", [True, False, None])
def test_a_model_that_was_locked_without_int8_is_refused_on_every_processor(
    bert: Path, tmp_path: Path, has_byte_products: bool | None
) -> None:
    golden = write_golden(tmp_path / "golden.json", np.eye(len(TEXTS), 32, dtype=np.float32))
    with pytest.raises(UsageError, match="--precision int8") as caught:
        chosen(bert, golden=golden, has_byte_products=has_byte_products)
    assert caught.value.exit_code == 2
    assert "no int8 of words" in caught.value.why
