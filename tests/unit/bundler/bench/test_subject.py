from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from bundler.bench.served import from_checkout
from bundler.bench.shapes import TINY_BERT
from bundler.bench.subject import own, served_copy, twin
from bundler.bench.twin import write_twin
from bundler.errors import UsageError
from sidecar.engines.packed import engine
from tests.support.benched import ROOT, TEXTS
from tests.support.miniature import Miniature

if TYPE_CHECKING:
    from pathlib import Path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_copy_is_served_by_the_packed_engine_and_the_original_stays_as_it_is(
    tmp_path: Path,
) -> None:
    made = write_twin(tmp_path / "twin", TINY_BERT, TEXTS)
    before = names(made)
    whole, half = (served_copy(made, weights=weights) for weights in ("whole", "half"))
    assert names(made) == before
    assert {"packed.onnx", "model.safetensors"} <= names(whole)
    assert {"packed.onnx", "packed.safetensors"} <= names(half)
    assert "model.safetensors" not in names(half)
    for folder in (whole, half):
        loaded = engine.load(folder, device="cpu", threads=1)
        rows = loaded.encode([[2, 7, 3]], pooling="mean", normalize=True)
        assert rows.shape == (1, TINY_BERT.width)


def test_a_copy_is_made_anew_where_one_is_left_over(tmp_path: Path) -> None:
    made = write_twin(tmp_path / "twin", TINY_BERT, TEXTS)
    (tmp_path / "twin-whole").mkdir()
    (tmp_path / "twin-whole" / "old").touch()
    assert "old" not in names(served_copy(made, weights="whole"))


def test_copies_need_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    made = write_twin(tmp_path / "twin", TINY_BERT, TEXTS)
    monkeypatch.setattr(os, "link", refuse)
    assert "model.safetensors" in names(served_copy(made, weights="whole"))


def test_a_twin_is_made_once_and_served_with_its_graph(tmp_path: Path) -> None:
    program = from_checkout(ROOT / "service", threads=1)
    said: list[str] = []
    first, found = (
        twin("tiny-bert", tmp_path, texts=TEXTS, program=program, weights="half", say=said.append)
        for _ in range(2)
    )
    assert first == found
    assert len(said) == 1
    assert found.snapshot == tmp_path / "tiny-bert"
    assert found.program.options == ("--model", str(tmp_path / "tiny-bert-half"))
    assert found.weights == "half"


def test_a_bundle_without_a_model_has_nothing_of_its_own_to_measure(tmp_path: Path) -> None:
    Miniature.make(tmp_path / "project").assemble(tmp_path / "bundle", parts=("service",))
    with pytest.raises(UsageError, match="no model") as caught:
        own(tmp_path / "bundle", snapshot=None, threads=1)
    assert "--twin" in caught.value.next_step


def test_a_bundles_model_is_measured_where_it_lies(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    Miniature.make(tmp_path / "project").assemble(bundle)
    found = own(bundle, snapshot=None, threads=2)
    assert found.snapshot.is_relative_to(bundle / "models")
    assert found.weights == "whole"
    assert found.program.service == bundle / "embedding_sidecar"
    assert own(bundle, snapshot=tmp_path, threads=2).snapshot == tmp_path
