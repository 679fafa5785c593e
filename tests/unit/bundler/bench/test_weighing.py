from __future__ import annotations

from typing import TYPE_CHECKING

from bundler.bench.weighing import weigh
from sidecar.manifest import Component, Manifest, Runtime, encode

if TYPE_CHECKING:
    from pathlib import Path


def bundle(folder: Path, *, size: int, models: int) -> Path:
    components = tuple(
        Component(name=name, digest="0" * 64, inputs="0" * 64, files=1, size=each)
        for name, each in (("python", size), ("models", models))
    )
    folder.mkdir()
    (folder / "manifest.json").write_bytes(
        encode(
            Manifest(
                plan="0" * 64,
                papers="0" * 64,
                target="linux-x64",
                version="1",
                profile="lean",
                runtime=Runtime(version="3.11", source="host", executable="python"),
                default_model=None,
                models=(),
                components=components,
            )
        )
    )
    return folder


def test_models_are_left_out_of_the_ratio_and_the_twin_is_added(tmp_path: Path) -> None:
    lean = bundle(tmp_path / "lean", size=100, models=1_000)
    none = bundle(tmp_path / "none", size=400, models=5_000)
    (tmp_path / "twin" / "deep").mkdir(parents=True)
    (tmp_path / "twin" / "deep" / "weights").write_bytes(bytes(11))
    (tmp_path / "twin" / "config").write_bytes(bytes(7))
    values = {f.name: f.value for f in weigh(lean, none, tmp_path / "twin")}
    assert values["lean-of-none"] == 0.25
    assert values["lean-with-twin"] == 118
    assert values["image-of-naive"] is None


def test_a_bundle_that_is_not_there_is_named(tmp_path: Path) -> None:
    lean = bundle(tmp_path / "lean", size=100, models=1_000)
    figures = {f.name: f for f in weigh(lean, tmp_path / "none", None)}
    assert figures["lean-of-none"].why == "there is no bundle none"
    assert figures["lean-with-twin"].why == "needs --twin"
    assert figures["image-of-naive"].why.startswith("needs containers")


def test_without_a_lean_bundle_nothing_is_weighed(tmp_path: Path) -> None:
    none = bundle(tmp_path / "none", size=400, models=1)
    assert {f.value for f in weigh(tmp_path / "lean", none, None)} == {None}
