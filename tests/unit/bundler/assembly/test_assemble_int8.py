"""A model whose int8 is decided by its lock: the same bundle on every processor, or none."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench import TINY_BERT
from bench.synthetic import write_model
from bundler.console import Progress
from bundler.errors import ModelError
from bundler.locks.models import Cosines, Int8, render_models
from bundler.verify import verify
from sidecar.engines.packed import engine
from sidecar.engines.packed.architecture import MADE
from sidecar.engines.packed.architecture import read as read_architecture
from sidecar.manifest import read
from sidecar.process.cpu_features import CpuFeatures
from tests.support.miniature import ALLOW, RECIPE, REVISION, Miniature, encode_row, snapshot
from tests.support.twins import WORDS, uneven, write_graph

if TYPE_CHECKING:
    from pathlib import Path

NEAR = Cosines(worst=0.99, mean=0.99)
TWIN = f"""
[models.catalogue.twin]
repository = "example/twin"
license = "MIT"
revision = "{REVISION}"
"""


@pytest.fixture
def miniature(tmp_path: Path) -> Miniature:
    return Miniature.make(tmp_path / "project")


def add_twin(miniature: Miniature, least: Cosines | None) -> None:
    """Add the model `twin`, which is small but real: the packed engine runs it.

    Its golden vectors are the engine's own in float32; `least` is locked for its int8.
    """
    folder = write_model(miniature.inputs / "twin", TINY_BERT, WORDS)
    (folder / "synthetic.json").unlink()
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    made = engine.load(write_graph(folder), device="cpu", threads=1)
    tokens = [found.ids for found in made.tokenize(WORDS)]
    rows = made.encode(tokens, pooling="mean", normalize=True)
    document = {
        "model": "twin",
        "pooling": "mean",
        "normalize": True,
        "dim": made.dim,
        "texts": WORDS,
        "vectors": [encode_row(row) for row in rows.tolist()],
        "int8": uneven(read_architecture(folder)).table(),
    }
    spec = miniature.spec("twin", REVISION, files, document=document)
    spec = replace(
        spec,
        dim=made.dim,
        max_tokens=made.max_tokens,
        int8=Int8(measured=Cosines(worst=1.0, mean=1.0), least=least),
    )
    names = json.dumps(sorted({*miniature.recipe.allow, *files}))
    text = RECIPE.replace(ALLOW, f"allow = {names}") + TWIN
    miniature.project.recipe.write_text(text, encoding="utf-8")
    models = [*miniature.locks.models.values(), spec]
    miniature.project.model_lock.write_text(render_models(models), encoding="utf-8")


@pytest.fixture(scope="module")
def twins_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle with a model that has int8."""
    root = tmp_path_factory.mktemp("twin")
    miniature = Miniature.make(root / "project")
    add_twin(miniature, NEAR)
    miniature.assemble(root / "bundle", models=("twin",))
    return root / "bundle"


@pytest.mark.parametrize("has_byte_products", [True, False, None])
def test_plan_and_bytes_are_the_same_with_and_without_byte_instructions(
    tmp_path: Path,
    miniature: Miniature,
    twins_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    has_byte_products: bool | None,
) -> None:
    features = CpuFeatures(level=2, has_byte_products=has_byte_products)
    monkeypatch.setattr("sidecar.process.cpu_features.detect", lambda **_: features)
    add_twin(miniature, NEAR)
    made = miniature.assemble(tmp_path / "bundle", models=("twin",)).manifest
    assert made.plan == read(twins_bundle).plan
    assert snapshot(tmp_path / "bundle") == snapshot(twins_bundle)


def test_the_limit_of_int8_is_in_the_manifest_and_its_graph_in_the_bundle(
    twins_bundle: Path,
) -> None:
    (model,) = verify(twins_bundle, Progress()).manifest.models
    assert model.least_int8 == NEAR.worst
    assert all((twins_bundle / model.snapshot / name).is_file() for name in MADE["int8"])


def test_only_a_lock_that_says_so_leaves_int8_out(
    tmp_path: Path, miniature: Miniature, twins_bundle: Path
) -> None:
    add_twin(miniature, None)
    made = miniature.assemble(tmp_path / "bundle", models=("twin",)).manifest
    (model,) = made.models
    assert model.least_int8 is None
    assert not list((tmp_path / "bundle" / model.snapshot).glob("packed-int8*"))
    assert made.plan != read(twins_bundle).plan


@pytest.mark.parametrize("has_byte_products", [True, False])
def test_int8_that_misses_its_limits_fails_the_assembly_everywhere(
    tmp_path: Path,
    miniature: Miniature,
    monkeypatch: pytest.MonkeyPatch,
    *,
    has_byte_products: bool,
) -> None:
    features = CpuFeatures(level=4, has_byte_products=has_byte_products)
    monkeypatch.setattr("sidecar.process.cpu_features.detect", lambda **_: features)
    add_twin(miniature, Cosines(worst=0.9999999, mean=0.9999999))
    with pytest.raises(ModelError, match="int8 of twin") as caught:
        miniature.assemble(tmp_path / "bundle", models=("twin",))
    assert caught.value.exit_code == 11
    assert not (tmp_path / "bundle").exists()
