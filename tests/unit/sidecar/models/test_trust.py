from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from sidecar.models.trust import dangers
from tests.support.tinymodel import tiny_model, write_model

if TYPE_CHECKING:
    from pathlib import Path


def found(tmp_path: Path, **files: bytes) -> dict[str, str]:
    named = {name.replace("__", "."): data for name, data in files.items()}
    folder = write_model(tmp_path, {**tiny_model(), **named})
    return {danger.path: danger.why for danger in dangers(folder)}


def test_a_model_of_data_alone_is_no_danger(tmp_path: Path) -> None:
    assert found(tmp_path, README__md=b"import os", vocab__txt=b"auto_map") == {}


def test_every_danger_is_told_in_the_order_of_paths(tmp_path: Path) -> None:
    told = found(tmp_path, b__py=b"", a__bin=b"", config__json=b'{"auto_map": {}}')
    assert list(told) == ["a.bin", "b.py", "config.json"]
    assert told["config.json"] == "it loads code by auto_map"


@pytest.mark.parametrize(
    "spelled",
    [
        rb'{"auto\u005fmap": 1}',
        rb'{"\u0061uto_map": 1}',
        json.dumps([[{"a": {"_attn_implementation_internal": None}}]]).encode(),
    ],
    ids=range(3),
)
def test_a_key_is_found_however_it_is_spelled_and_however_deep(
    tmp_path: Path, spelled: bytes
) -> None:
    assert list(found(tmp_path, other__json=spelled)) == ["other.json"]


def test_a_word_of_the_vocabulary_is_no_key(tmp_path: Path) -> None:
    assert found(tmp_path, tokenizer__json=b'{"vocab": ["auto_map", "\\u0061"]}') == {}


@pytest.mark.parametrize("text", [b"{auto_map", b"[" * 200_000 + b"auto_map"], ids=range(2))
def test_what_cannot_be_read_and_speaks_of_code_is_a_danger(tmp_path: Path, text: bytes) -> None:
    assert found(tmp_path, other__json=text) == {"other.json": "it cannot be read"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"7", "no list"),
        (b"[1]", "without a type"),
        (b'[{"type": 1}]', "without a type"),
        (b'[{"type": "os.system"}]', "names os.system"),
        (b'[{"type": "sentence_transformers.models.Router"}]', "trusted are Dense, "),
        (b"{", "cannot be read"),
    ],
    ids=range(6),
)
def test_modules_must_be_trusted_ones(tmp_path: Path, text: bytes, why: str) -> None:
    assert why in found(tmp_path, modules__json=text)["modules.json"]
