"""Synthetic models load in sentence-transformers and are the same bytes every time."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from bench import MINILM_L6, TINY_BERT, TINY_MPNET, TINY_XLMR, XLMR_BASE, Shape
from bench.synthetic import weights, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from sentence_transformers import SentenceTransformer

TEXTS = (
    "The cat sat on the mat, and the dog did not.",
    "A function is called with its arguments in brackets.",
    "Rivers run to the sea; the sea is not full.",
    "Assignment binds a name to an object.",
)
ODD = ("", "a  b\tc", "ﬁnal ① Ｗide", "Привет, мир", "日本語のテキスト", "🙂 [MASK] <mask> </s>")
SHAPES = pytest.mark.parametrize(
    "shape", [TINY_XLMR, TINY_BERT, TINY_MPNET], ids=lambda shape: shape.family
)


def load(folder: Path) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - torch

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.torch
@SHAPES
def test_a_model_gives_different_texts_different_vectors(tmp_path: Path, shape: Shape) -> None:
    model = load(write_model(tmp_path / "model", shape, TEXTS))
    rows = model.encode([*TEXTS, *ODD], normalize_embeddings=True, show_progress_bar=False)
    assert rows.shape == (len(TEXTS) + len(ODD), shape.width)
    assert np.isfinite(rows).all()
    likeness = (rows @ rows.T)[np.triu_indices(len(TEXTS), 1)]
    assert likeness.max() < 0.98
    assert model.max_seq_length == shape.max_tokens
    raw = model.encode(list(TEXTS), show_progress_bar=False)
    assert np.allclose(np.linalg.norm(raw, axis=1), 1, atol=1e-4) == shape.is_normalized


@SHAPES
def test_the_same_shape_and_seed_give_the_same_bytes(tmp_path: Path, shape: Shape) -> None:
    first = tree(write_model(tmp_path / "first", shape, TEXTS))
    assert tree(write_model(tmp_path / "again", shape, TEXTS)) == first
    other = tree(write_model(tmp_path / "other", shape, TEXTS, seed=1))
    assert other["model.safetensors"] != first["model.safetensors"]
    assert other["tokenizer.json"] == first["tokenizer.json"]


def test_weights_are_the_same_on_every_machine(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model", TINY_XLMR, TEXTS) / "model.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == (
        "42bd871422a8db9cde222fb5fa60a43127672cc9e9c12d1c67aa47f8e5c8d3eb"
    )


def test_a_model_is_kept_and_one_of_another_shape_replaced(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", TINY_BERT, TEXTS)
    before = (folder / "config.json").stat().st_ino
    assert (write_model(folder, TINY_BERT, TEXTS) / "config.json").stat().st_ino == before
    write_model(folder, dataclasses.replace(TINY_BERT, layers=1), TEXTS)
    assert json.loads((folder / "config.json").read_bytes())["num_hidden_layers"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.torch
@SHAPES
def test_sentence_transformers_tokenizes_like_the_file(tmp_path: Path, shape: Shape) -> None:
    folder = write_model(tmp_path / "model", shape, TEXTS)
    reader = load(folder).tokenizer
    itself = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in (*TEXTS, *ODD):
        assert list(reader(text)["input_ids"]) == itself.encode(text).ids


def test_a_full_model_has_the_size_of_the_real_one() -> None:
    assert XLMR_BASE.vocabulary == 250_002
    shapes = {name: tensor.shape for name, tensor in weights(MINILM_L6)}
    assert shapes["embeddings.word_embeddings.weight"] == (30_522, 384)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 22_713_216


def test_weights_have_their_standard_deviation(tmp_path: Path) -> None:
    tensors = load_file(write_model(tmp_path / "model", TINY_XLMR, TEXTS) / "model.safetensors")
    table = tensors["embeddings.word_embeddings.weight"]
    assert table.dtype == np.float32
    assert abs(table.std() - 0.5) < 0.01
    assert abs(table.mean()) < 0.01
