"""Twins load in sentence-transformers, tell texts apart, and are the same bytes every time."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import unicodedata
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, normalizers

from bundler.bench.charsmap import charsmap, nfkc
from bundler.bench.shapes import MINILM_L6, TINY_BERT, TINY_XLMR, XLMR_BASE, Shape
from bundler.bench.twin import weights, write_twin
from bundler.bench.twintokenizer import unigram, wordpiece

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = (
    "The cat sat on the mat, and the dog did not.",
    "A function is called with its arguments in brackets.",
    "Rivers run to the sea; the sea is not full.",
    "Assignment binds a name to an object.",
)
ODD = ("", "a  b\tc", "ﬁnal ① Ｗide", "Привет, мир", "日本語のテキスト", "🙂 [MASK] <mask> </s>")
SHAPES = pytest.mark.parametrize("shape", [TINY_XLMR, TINY_BERT], ids=lambda shape: shape.family)


def load(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@SHAPES
def test_a_twin_loads_and_gives_different_texts_different_vectors(
    tmp_path: Path, shape: Shape
) -> None:
    model = load(write_twin(tmp_path / "twin", shape, TEXTS))
    rows = model.encode([*TEXTS, *ODD], normalize_embeddings=True, show_progress_bar=False)
    assert rows.shape == (len(TEXTS) + len(ODD), shape.width)
    assert np.isfinite(rows).all()
    likeness = (rows @ rows.T)[np.triu_indices(len(TEXTS), 1)]
    assert likeness.max() < 0.98
    assert model.max_seq_length == shape.max_tokens
    raw = model.encode(list(TEXTS), show_progress_bar=False)
    assert np.allclose(np.linalg.norm(raw, axis=1), 1, atol=1e-4) == shape.is_normalized


@SHAPES
def test_the_same_shape_and_seed_give_the_same_bytes_and_another_seed_others(
    tmp_path: Path, shape: Shape
) -> None:
    first = tree(write_twin(tmp_path / "first", shape, TEXTS))
    assert tree(write_twin(tmp_path / "again", shape, TEXTS)) == first
    other = tree(write_twin(tmp_path / "other", shape, TEXTS, seed=1))
    assert other["model.safetensors"] != first["model.safetensors"]
    assert other["tokenizer.json"] == first["tokenizer.json"]


def test_the_weights_are_the_ones_that_every_machine_draws(tmp_path: Path) -> None:
    path = write_twin(tmp_path / "twin", TINY_XLMR, TEXTS) / "model.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == (
        "42bd871422a8db9cde222fb5fa60a43127672cc9e9c12d1c67aa47f8e5c8d3eb"
    )


def test_a_twin_that_is_there_is_kept_and_one_of_another_shape_replaced(tmp_path: Path) -> None:
    folder = write_twin(tmp_path / "twin", TINY_BERT, TEXTS)
    before = (folder / "config.json").stat().st_ino
    assert (write_twin(folder, TINY_BERT, TEXTS) / "config.json").stat().st_ino == before
    write_twin(folder, dataclasses.replace(TINY_BERT, layers=1), TEXTS)
    assert json.loads((folder / "config.json").read_bytes())["num_hidden_layers"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["twin"]


@SHAPES
def test_sentence_transformers_and_the_file_itself_cut_texts_alike(
    tmp_path: Path, shape: Shape
) -> None:
    folder = write_twin(tmp_path / "twin", shape, TEXTS)
    reader = load(folder).tokenizer
    itself = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in (*TEXTS, *ODD):
        assert list(reader(text)["input_ids"]) == itself.encode(text).ids


def test_the_pieces_of_xlm_r_have_its_numbers() -> None:
    tokenizer = unigram(TEXTS, size=2_000)
    named = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    assert tokenizer.get_vocab_size() == 2_000
    assert [tokenizer.token_to_id(name) for name in named] == [0, 1, 2, 3, 1_999]
    assert tokenizer.encode("").ids == [0, 2]
    found = tokenizer.encode(TEXTS[0])
    assert 3 not in found.ids
    assert "▁cat" in found.tokens


def test_the_pieces_of_bert_start_words_bare_and_go_on_marked() -> None:
    tokenizer = wordpiece(TEXTS, size=2_000)
    assert tokenizer.get_vocab_size() == 2_000
    found = tokenizer.encode("The catamaran").tokens
    assert found[:3] == ["[CLS]", "the", "cat"]
    assert found[-1] == "[SEP]"
    assert all(piece.startswith("##") for piece in found[3:-1])


def test_the_normaliser_does_to_every_character_what_nfkc_does() -> None:
    table = nfkc()
    normaliser = normalizers.Precompiled(charsmap(table))
    assert len(table) > 4_000
    assert [key for key in table if normaliser.normalize_str(key) != table[key]] == []
    numbers = [*range(1, 0xD800, 7), *range(0xE000, 0x3_0000, 7)]
    kept = [chr(number) for number in numbers if chr(number) not in table]
    assert [key for key in kept if normaliser.normalize_str(key) != key] == []
    assert normaliser.normalize_str("ﬁ①") == unicodedata.normalize("NFKC", "ﬁ①")


def test_the_full_twin_has_the_size_of_the_real_model() -> None:
    assert XLMR_BASE.vocabulary == 250_002
    shapes = {name: tensor.shape for name, tensor in weights(MINILM_L6)}
    assert shapes["embeddings.word_embeddings.weight"] == (30_522, 384)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 22_713_216


def test_weights_have_the_spread_they_are_meant_to_have(tmp_path: Path) -> None:
    tensors = load_file(write_twin(tmp_path / "twin", TINY_XLMR, TEXTS) / "model.safetensors")
    table = tensors["embeddings.word_embeddings.weight"]
    assert table.dtype == np.float32
    assert abs(table.std() - 0.5) < 0.01
    assert abs(table.mean()) < 0.01
