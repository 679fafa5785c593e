from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from bench import synthetic
from bundler.assembly.unigram_files import write_unigram
from sidecar.engines.packed import unigram
from sidecar.engines.packed.architecture import PIECES, UnpackableError
from sidecar.engines.packed.tokens import TOKENIZER, PackedTokenizer, load
from sidecar.engines.packed.unigram import (
    CHARACTERS,
    RECORD,
    SCORES,
    TRIE,
    WHITE_SPACE,
    Unigram,
    UnigramReader,
    open_reader,
)
from tests.support.twins import edit
from tests.support.unigram import differing, paragraphs, texts, write_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

UNKNOWN = "\u0e01"  # in no piece


@pytest.fixture(scope="module")
def made() -> Tokenizer:
    return synthetic.unigram(paragraphs(), size=3_000)


@pytest.fixture(scope="module")
def pair(
    made: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PackedTokenizer, PackedTokenizer]:
    """Return the same tokenizer by our model and by tokenizers'."""
    return write_tokenizer(tmp_path_factory.mktemp("unigram"), made)


@pytest.fixture
def snapshot(made: Tokenizer, tmp_path: Path) -> Path:
    """Return a folder with a tokenizer and its files."""
    made.save(str(tmp_path / TOKENIZER))
    assert write_unigram(tmp_path)
    return tmp_path


def small(scores: Mapping[str, float], *, prepends: str = "always") -> Tokenizer:
    """Return a tokenizer with these pieces behind the unknown one, without a normaliser."""
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), *scores.items()], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("\u2581", prepends)]
    )
    tokenizer.add_special_tokens([AddedToken("<unk>")])
    return tokenizer


def reader_of(folder: Path, tokenizer: Tokenizer) -> UnigramReader:
    tokenizer.save(str(folder / TOKENIZER))
    assert write_unigram(folder)
    found = open_reader(folder, folder / TOKENIZER)
    assert found is not None
    return found


def open_model(snapshot: Path, **options: Any) -> Unigram:
    record = json.loads((snapshot / PIECES / RECORD).read_bytes())
    trie, scores, characters = (
        np.load(snapshot / PIECES / name) for name in (TRIE, SCORES, CHARACTERS)
    )
    pieces = unigram.Pieces(
        trie=trie,
        scores=scores,
        characters=characters,
        longest=record["longest"],
        unknown=record["unknown"],
        unknown_score=record["unknown_score"],
    )
    return Unigram(pieces, **options)


def ids_by_tokenizers(tokenizer: Tokenizer, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


def test_a_thousand_texts_have_the_tokens_and_places_of_tokenizers(
    made: Tokenizer, pair: tuple[PackedTokenizer, PackedTokenizer]
) -> None:
    found = list(texts(1_000, sorted(made.get_vocab())))
    assert len(set(found)) > 950
    assert differing(*pair, found) == ([], [])


def test_unknown_tokens_are_counted_as_tokenizers_counts_them(
    pair: tuple[PackedTokenizer, PackedTokenizer],
) -> None:
    ours, theirs = pair
    text = f"the {UNKNOWN * 3} cat {UNKNOWN} <unk> {UNKNOWN}\uff1cunk\uff1e{UNKNOWN}cat"
    assert ours.unknown(text) == theirs.unknown(text)
    assert ours.unknown(text)[0] == 4
    assert ours.spans(text) == theirs.spans(text)


@pytest.mark.parametrize("text", ["=" * 7, "=" * 8, "a=" * 5, "==a===", "aab"])
def test_of_equally_good_pieces_tokenizers_choice_is_taken(tmp_path: Path, text: str) -> None:
    tokenizer = small({"\u2581": -1, "=": -1, "==": -2, "===": -3, "a": -1, "=a": -2, "a=": -2})
    assert reader_of(tmp_path, tokenizer).read([text]) == [ids_by_tokenizers(tokenizer, text)]


@pytest.mark.parametrize("text", ["xyz", "xy", "xz", "xxy", "zx"])
def test_an_unknown_character_costs_what_it_costs_tokenizers(tmp_path: Path, text: str) -> None:
    # x is in no piece of its own. With 11 instead of 10 below the lowest score xyz would be xy, z.
    tokenizer = small({"\u2581": -1, "xy": -14, "z": -11, "yz": -0.5})
    assert reader_of(tmp_path, tokenizer).read([text]) == [ids_by_tokenizers(tokenizer, text)]


def test_sums_are_made_in_the_order_of_tokenizers(tmp_path: Path) -> None:
    # (0.1 + 0.2) + 0.3 is not 0.1 + (0.2 + 0.3), and either may win against a piece of 0.6.
    tokenizer = small({"\u2581": 0, "a": -0.1, "b": -0.2, "c": -0.3, "abc": -0.6, "cab": -0.6})
    for text in ("abc", "cab", "abcabc", "cabcab", "bcabc"):
        assert reader_of(tmp_path, tokenizer).read([text]) == [ids_by_tokenizers(tokenizer, text)]


@pytest.mark.parametrize("prepends", ["always", "never"])
@pytest.mark.parametrize("text", ["a b", "\u2581a", "a\u2581\u2581b", " a", "a\u3000a", "<unk>a"])
def test_words_have_the_mark_before_them_that_tokenizers_puts_there(
    tmp_path: Path, text: str, prepends: str
) -> None:
    tokenizer = small({"\u2581": -1, "a": -2, "b": -2, "\u2581b": -2.5}, prepends=prepends)
    assert reader_of(tmp_path, tokenizer).read([text]) == [ids_by_tokenizers(tokenizer, text)]


@pytest.mark.parametrize("strips", [{"lstrip": True}, {"rstrip": True}, {}])
@pytest.mark.parametrize(
    "text", ["a <x> <x>  b", " <x>", "<x>\u3000", "<x><x> <x>>", "a\x1c<x>\x1cb"]
)
def test_added_tokens_take_the_white_space_they_ask_for(
    tmp_path: Path, text: str, strips: dict[str, bool]
) -> None:
    tokenizer = small({"\u2581": -1, "a": -2, "b": -2})
    tokenizer.add_special_tokens([AddedToken("<x>", **strips), AddedToken("<x>>", **strips)])
    reader = reader_of(tmp_path, tokenizer)
    assert reader.read([text]) == [ids_by_tokenizers(tokenizer, text)]
    places = tokenizer.encode(text, add_special_tokens=False).offsets
    assert reader.spans(text) == places


def test_words_part_where_tokenizers_parts_them() -> None:
    numbers = (n for n in range(1 << 16) if not 0xD800 <= n < 0xE000)
    text = "".join(f"a{chr(number)}" for number in numbers) + "a"
    found = pre_tokenizers.WhitespaceSplit().pre_tokenize_str(text)
    parted = {text[end] for _, (_, end) in found[:-1]}
    assert parted == set(WHITE_SPACE)


def test_a_long_word_lets_other_threads_have_turns(made: Tokenizer, snapshot: Path) -> None:
    turns = list[int]()
    model = open_model(snapshot, pause=lambda: turns.append(1))
    word = "\u2581" + "the" * 4 * unigram.TURN
    assert list(model.search(word)[0]) == ids_by_tokenizers(made, word[1:])
    assert len(turns) == 12
    assert sum(model.search(word)[1]) == len(word)


def test_many_short_words_let_other_threads_have_turns_too(snapshot: Path) -> None:
    turns = list[int]()
    model = open_model(snapshot, pause=lambda: turns.append(1))
    for _ in range(unigram.TURN):
        model.search("cats")
    assert len(turns) == 4


def test_no_more_words_are_remembered_than_there_is_room_for(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unigram, "_KNOWN", 10)
    reader = open_reader(snapshot, snapshot / TOKENIZER)
    assert reader is not None
    words = [f"word{number}" for number in range(95)]
    first = reader.read(words)
    assert 0 < len(reader._known) <= 10
    reader.read(["x" * 1_000])
    assert max(map(len, reader._known)) < 1_000
    assert reader.read(words) == first


def test_the_vocabulary_is_not_parsed_where_its_files_are(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load(snapshot, max_tokens=48).tokenize(["the cat"])

    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(
        "sidecar.engines.packed.tokens.Tokenizer", type("T", (), {"from_file": fail})
    )
    assert load(snapshot, max_tokens=48).tokenize(["the cat"]) == found
    shutil.rmtree(snapshot / PIECES)
    with pytest.raises(UnpackableError, match=f"{TOKENIZER} cannot be read"):
        load(snapshot, max_tokens=48)


def test_a_folder_without_the_files_has_the_same_tokens(snapshot: Path) -> None:
    found = load(snapshot, max_tokens=48).tokenize(["the cat sat", "<mask> <s>"])
    shutil.rmtree(snapshot / PIECES)
    assert load(snapshot, max_tokens=48).tokenize(["the cat sat", "<mask> <s>"]) == found


def test_files_of_another_tokenizer_are_left_alone(
    snapshot: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changed = Tokenizer.from_file(str(snapshot / TOKENIZER))
    changed.add_special_tokens([AddedToken("<new>", special=True)])
    changed.save(str(snapshot / TOKENIZER))
    [found] = load(snapshot, max_tokens=48).tokenize(["<new>"])
    assert found.ids[1] == 3_000
    assert "is not of this tokenizer.json" in caplog.text


def test_files_of_another_format_are_left_alone(snapshot: Path) -> None:
    edit(snapshot / PIECES, RECORD, lambda record: record.update(format=2, longest="?"))
    assert open_reader(snapshot, snapshot / TOKENIZER) is None


@pytest.mark.parametrize(
    ("name", "data"),
    [(RECORD, b"{}"), (RECORD, b"["), (TRIE, b""), (SCORES, b"\x93NUMPY"), (CHARACTERS, b"x" * 99)],
)
def test_damaged_files_are_refused(snapshot: Path, name: str, data: bytes) -> None:
    (snapshot / PIECES / name).write_bytes(data)
    with pytest.raises(UnpackableError, match=f"{PIECES} cannot be read"):
        load(snapshot, max_tokens=48)


def test_a_missing_file_is_refused(snapshot: Path) -> None:
    (snapshot / PIECES / TRIE).unlink()
    with pytest.raises(UnpackableError, match=f"{PIECES} cannot be read"):
        load(snapshot, max_tokens=48)
