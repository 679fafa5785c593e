from __future__ import annotations

import dataclasses
import json
import shutil
from typing import TYPE_CHECKING

import pytest

from bundler.assembly.model_graph import write_half
from sidecar.engines.packed import architecture
from sidecar.engines.packed.architecture import HALF_WEIGHTS, PIECES, WEIGHTS, Architecture
from sidecar.engines.packed.weights import open_weights
from sidecar.models.memory_needs import PACKED, REFERENCE, packed_needs, reference_needs
from tests.support.twins import edit

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.settings import Precision

# As many bytes of encoder as a MiniLM and as an XLM-RoBERTa have, on the weights of a tiny one.
SMALL, LARGE = 43 << 20, 340 << 20


@pytest.fixture
def sized(monkeypatch: pytest.MonkeyPatch) -> Architecture:
    """Return an architecture whose encoder's size a test may choose."""
    monkeypatch.setattr(Architecture, "encoder_bytes", LARGE)
    return Architecture(
        family="bert",
        layers=1,
        width=1,
        heads=1,
        inner=1,
        positions=1,
        first_position=0,
        epsilon=1.0,
        max_tokens=1,
        pooling="mean",
    )


@pytest.fixture
def half(bert: Path) -> Path:
    """Return the same weights in half."""
    path = bert / HALF_WEIGHTS
    write_half(open_weights(bert / WEIGHTS), architecture.read(bert), path)
    return path


def private(made: Architecture, weights: Path, precision: Precision = "float32") -> int:
    """Return the private bytes beside the libraries and a vocabulary of 600."""
    need = packed_needs(made, weights, precision=precision)
    return need.private - PACKED.private - 600 * 250


def test_large_whole_weights_stay_in_their_file(bert: Path, sized: Architecture) -> None:
    weights = bert / WEIGHTS
    assert private(sized, weights) == 0
    need = packed_needs(sized, weights, precision="float32")
    assert need.space == PACKED.space + weights.stat().st_size + 600 * 250


def test_weights_in_half_are_widened_whatever_their_size(half: Path, sized: Architecture) -> None:
    assert private(sized, half) == LARGE
    assert private(sized, half, "int8") == LARGE // 2


@pytest.mark.parametrize("name", [WEIGHTS, HALF_WEIGHTS])
def test_a_small_encoder_is_copied_whole_or_in_half(
    monkeypatch: pytest.MonkeyPatch, half: Path, sized: Architecture, name: str
) -> None:
    monkeypatch.setattr(Architecture, "encoder_bytes", SMALL)
    assert private(sized, half.with_name(name)) == SMALL


@pytest.mark.parametrize("name", [WEIGHTS, HALF_WEIGHTS])
def test_what_is_copied_is_mapped_no_more(half: Path, sized: Architecture, name: str) -> None:
    with half.with_name(name).open("ab") as weights:
        weights.truncate(1 << 30)  # holes
    mapped = (1 << 30) - (LARGE if name == WEIGHTS else LARGE // 2)
    need = packed_needs(sized, half.with_name(name), precision="int8")
    assert need.space == PACKED.space + mapped + LARGE // 2 + 600 * 250


def test_a_vocabulary_in_a_trie_takes_more_than_one_in_a_table(
    bert: Path, sized: Architecture
) -> None:
    table = packed_needs(sized, bert / WEIGHTS, precision="float32")
    family = dataclasses.replace(sized, family="xlm-roberta")
    trie = packed_needs(family, bert / WEIGHTS, precision="float32")
    assert trie.private - table.private == 600 * 1250


def test_a_mapped_vocabulary_takes_the_same_whatever_its_size(
    bert: Path, sized: Architecture
) -> None:
    weights = bert / WEIGHTS
    before = packed_needs(sized, weights, precision="float32")
    (bert / PIECES).mkdir()
    for name, size in (("trie.npy", 7 << 20), ("scores.npy", 2 << 20)):
        with (bert / PIECES / name).open("wb") as stream:
            stream.truncate(size)  # holes
    need = packed_needs(sized, weights, precision="float32")
    assert need.private - before.private == (12 << 20) - 600 * 250
    assert need.space - before.space == (21 << 20) - 600 * 250


def test_weights_that_cannot_be_read_are_not_weighed(tmp_path: Path, sized: Architecture) -> None:
    assert packed_needs(sized, tmp_path / WEIGHTS, precision="float32") == PACKED
    (tmp_path / WEIGHTS).write_bytes(b"damaged")
    assert packed_needs(sized, tmp_path / WEIGHTS, precision="float32") == PACKED


def test_reference_needs_libraries_weights_and_vocabulary(bert: Path, xlmr: Path) -> None:
    size = (bert / WEIGHTS).stat().st_size
    need = reference_needs(bert)
    assert need.private == REFERENCE.private + 600 * 250
    assert need.space == REFERENCE.space + size + 600 * 250
    assert reference_needs(xlmr).private == REFERENCE.private + 600 * 1500
    (bert / "0_Transformer").mkdir()
    shutil.copyfile(bert / WEIGHTS, bert / "0_Transformer" / WEIGHTS)
    assert reference_needs(bert).space == need.space + size


@pytest.mark.parametrize("config", ["[]", "{", json.dumps({"model_type": "bert"})])
def test_a_configuration_that_says_nothing_adds_nothing(bert: Path, config: str) -> None:
    (bert / "config.json").write_text(config, encoding="utf-8")
    assert reference_needs(bert).private == REFERENCE.private
    (bert / "config.json").unlink()
    assert reference_needs(bert).private == REFERENCE.private


def test_a_vocabulary_of_a_negative_size_takes_nothing_away(bert: Path) -> None:
    edit(bert, "config.json", lambda c: c.update(vocab_size=-(1 << 60)))
    assert reference_needs(bert).private == REFERENCE.private
