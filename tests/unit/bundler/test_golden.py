from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from bundler.errors import ModelError, UsageError
from bundler.golden import (
    HEADER,
    keep_or_replace,
    make_golden,
    read_texts,
    render_golden,
)
from sidecar.models.golden import read
from tests.support.miniature import encode_row

GOLDEN = Path(__file__).parents[3] / "bundle" / "golden"
TEXTS = ["one", "zwei\u202e", "", "a\x00b"]


def header(**values: object) -> dict[str, object]:
    return {
        "model": "tiny",
        "repository": "someone/tiny",
        "revision": "0" * 40,
        "pooling": "mean",
        "normalize": True,
        "dim": 2,
        "made_with": {"torch": "2", "tokenizers": "1"},
        **values,
    }


def rows(shift: float = 0.0) -> list[str]:
    angles = [index + shift for index in range(len(TEXTS))]
    return [encode_row([math.cos(angle), math.sin(angle)]) for angle in angles]


def test_a_golden_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    path.write_text(render_golden(header(), TEXTS, rows()), encoding="utf-8")
    golden = read(path)
    assert golden.texts == tuple(TEXTS)
    assert golden.vectors[1] == pytest.approx((math.cos(1), math.sin(1)))
    assert (golden.pooling, golden.normalize) == ("mean", True)


def test_a_golden_file_has_a_line_per_vector_and_no_invisible_characters() -> None:
    text = render_golden(header(), TEXTS, rows())
    assert text.isascii()
    assert all(character.isprintable() or character == "\n" for character in text)
    assert len(text.splitlines()) == len(HEADER) + 2 * len(TEXTS) + 6
    assert list(json.loads(text)) == [*HEADER, "texts", "vectors"]


def test_the_same_vectors_render_to_the_same_bytes() -> None:
    other = header(made_with={"tokenizers": "1", "torch": "2"})
    assert render_golden(header(), TEXTS, rows()) == render_golden(other, TEXTS, rows())


def test_vectors_that_differ_by_rounding_keep_the_committed_file(tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    old = render_golden(header(), TEXTS, rows())
    path.write_text(old, encoding="utf-8")
    fresh = render_golden(header(), TEXTS, rows(1e-6))
    assert fresh != old
    assert keep_or_replace(path, fresh) == old


def constants(scheme: int, shift: str) -> dict[str, Any]:
    return {"scheme": scheme, "norms": {"embeddings.LayerNorm": {"shifts": shift}}}


def test_constants_that_differ_by_rounding_keep_the_committed_file(tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    old = render_golden(header(), TEXTS, rows(), constants(2, "AAA="))
    path.write_text(old, encoding="utf-8")
    fresh = render_golden(header(), TEXTS, rows(1e-6), constants(2, "AAE="))
    assert keep_or_replace(path, fresh) == old


@pytest.mark.parametrize("known", [None, constants(1, "AAA=")])
def test_another_scheme_replaces_the_constants_alone(
    tmp_path: Path, known: dict[str, Any] | None
) -> None:
    path = tmp_path / "tiny.json"
    path.write_text(render_golden(header(), TEXTS, rows(), known), encoding="utf-8")
    fresh = render_golden(header(), TEXTS, rows(1e-6), constants(2, "AAE="))
    kept = keep_or_replace(path, fresh)
    assert kept == render_golden(header(), TEXTS, rows(), constants(2, "AAE="))


@pytest.mark.parametrize(
    "fresh",
    [
        render_golden(header(), TEXTS, rows(0.01)),
        render_golden(header(revision="1" * 40), TEXTS, rows()),
        render_golden(header(made_with={"torch": "3"}), TEXTS, rows()),
        render_golden(header(), TEXTS[:3], rows()[:3]),
    ],
    ids=["another space", "another revision", "another library", "other texts"],
)
def test_anything_more_than_rounding_replaces_the_file(tmp_path: Path, fresh: str) -> None:
    path = tmp_path / "tiny.json"
    path.write_text(render_golden(header(), TEXTS, rows()), encoding="utf-8")
    assert keep_or_replace(path, fresh) == fresh


@pytest.mark.parametrize("old", [None, "", "[]", "{}", '{"vectors": 3}', '{"vectors": ["?"]}'])
def test_a_golden_file_that_is_missing_or_damaged_is_replaced(
    tmp_path: Path, old: str | None
) -> None:
    path = tmp_path / "tiny.json"
    if old is not None:
        path.write_text(old, encoding="utf-8")
    fresh = render_golden(header(), TEXTS, rows())
    assert keep_or_replace(path, fresh) == fresh


@pytest.mark.parametrize("text", ["", "[]", "{}", "[1]", '"text"'])
def test_a_list_of_texts_that_is_none_is_a_usage_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "texts.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"texts\.json is not a list of texts"):
        read_texts(path)


def test_a_maker_that_fails_says_the_last_thing_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "maker.py"
    program.write_text("import sys\nsys.exit('the weights have the wrong shape')\n")
    monkeypatch.setattr("bundler.golden.MAKER", program)
    with pytest.raises(ModelError) as caught:
        make_golden(tmp_path, ["one"])
    assert caught.value.why == "the weights have the wrong shape"


def test_a_maker_that_answers_with_noise_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "maker.py"
    program.write_text("print('hello')\n")
    monkeypatch.setattr("bundler.golden.MAKER", program)
    with pytest.raises(ModelError, match="cannot load"):
        make_golden(tmp_path, ["one"])


def test_the_committed_texts_are_many_and_of_every_kind() -> None:
    texts = read_texts(GOLDEN / "texts.json")
    assert len(texts) >= 64
    assert len(set(texts)) == len(texts)
    assert {"", " "} < set(texts)
    assert max(map(len, texts)) == 10_000
    assert any("\0" in text for text in texts)
    scripts = {"Latin": "a", "Cyrillic": "д", "Greek": "μ", "Han": "的", "Kana": "の"}
    scripts |= {"Hangul": "는", "Devanagari": "ा", "Thai": "า", "Arabic": "م", "Hebrew": "ה"}
    for name, letter in scripts.items():
        assert any(letter in text for text in texts), name


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_golden_files_hold_unit_vectors_of_the_texts(
    path: Path,
) -> None:
    if path.name == "texts.json":
        return
    golden = read(path)
    assert json.loads(path.read_bytes())["model"] == path.stem
    assert golden.texts == read_texts(GOLDEN / "texts.json")
    for row in golden.vectors:
        assert float(row @ row) == pytest.approx(1.0, abs=1e-5)
