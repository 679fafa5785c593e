from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest
from tokenizers import Tokenizer, processors

from sidecar.engines.packed.architecture import UnpackableError
from sidecar.engines.packed.tokens import TOKENIZER, PackedTokenizer, load
from tests.support.twins import ODD, WORDS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.twins import Twin

TEXTS = (*WORDS, *ODD)


def mixtures(count: int) -> list[str]:
    """Return texts drawn from characters that tokenizers treat in different ways."""
    drawn = random.Random(1)
    ranges = [(0, 0x80), (0xA0, 0x250), (0x300, 0x370), (0x2000, 0x2070), (0x3040, 0x30FF)]
    ranges += [(0x4E00, 0x4F00), (0xAC00, 0xAD00), (0xFE00, 0xFFFE), (0x1F300, 0x1F6FF)]
    return [
        "".join(chr(drawn.randrange(*drawn.choice(ranges))) for _ in range(drawn.randrange(60)))
        for _ in range(count)
    ]


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_and_their_places_are_those_of_transformers(twin: Twin, text: str) -> None:
    assert twin.packed.tokenize([text]) == twin.reference.tokenize([text])
    assert twin.packed.spans(text) == twin.reference.spans(text)


@pytest.mark.parametrize(
    "text",
    ["the the", "the \u0e01\u0e23\u0e38\u0e13\u0e32 \u0e01\u0e23 the", "\u0e01\u0e23" * 900, ""],
)
def test_unknown_tokens_are_counted_as_transformers_knows_them(twin: Twin, text: str) -> None:
    unknown, total = twin.packed.unknown(text)
    assert (unknown, total) == twin.reference.unknown(text)
    assert total == len(twin.packed.spans(text))
    assert (unknown > 0) == (not text.isascii())


def test_vocabularies_are_those_of_transformers(twin: Twin) -> None:
    ours, theirs = twin.packed.vocabulary, twin.reference.vocabulary
    assert ours is not None
    assert theirs is not None
    assert [list(ids) for ids in ours.around] == [list(ids) for ids in theirs.around]
    for text in [*TEXTS, *mixtures(50)]:
        read = [[one for some in each.read(text) for one in some] for each in (ours, theirs)]
        assert read[0] == read[1]
        ids = [one for one, _, _ in read[0]]
        assert [ours.spell(one) for one in ids] == [theirs.spell(one) for one in ids]
        whole = [*ours.around[0], *ids, *ours.around[1], 1 << 31]
        for skips in (True, False):
            found, known = (each.decode(whole, skips_special=skips) for each in (ours, theirs))
            assert found == known


def test_hundreds_of_mixtures_have_the_tokens_of_transformers(twin: Twin) -> None:
    texts = mixtures(400)
    assert twin.packed.tokenize(texts) == twin.reference.tokenize(texts)


def test_what_the_service_knows_of_tokens_is_what_the_reference_knows(twin: Twin) -> None:
    for name in ("max_tokens", "special_tokens", "pooling", "dim", "space"):
        assert getattr(twin.packed, name) == getattr(twin.reference, name)


def test_an_empty_text_has_the_special_tokens_and_no_places(twin: Twin) -> None:
    [found] = twin.packed.tokenize([""])
    assert len(found.ids) == found.length == twin.packed.special_tokens == 2
    assert twin.packed.spans("") == []
    assert twin.packed.tokenize([]) == []


@pytest.mark.parametrize("words", [45, 46, 47, 48, 400])
def test_a_long_text_is_cut_on_the_right_and_keeps_its_last_special_token(
    twin: Twin, words: int
) -> None:
    text = " ".join(["the"] * words)
    [found] = twin.packed.tokenize([text])
    [known] = twin.reference.tokenize([text])
    assert found == known
    assert len(found.ids) == min(found.length, 48)
    assert found.is_truncated == (found.length > 48)
    assert found.ids[-1] == twin.packed.tokenize([""])[0].ids[-1]


@pytest.mark.parametrize("words", [0, 23, 24, 1_500, 20_000])
def test_a_long_text_is_cut_on_the_left_where_that_is_asked_for(twin: Twin, words: int) -> None:
    text = " ".join(["the cat", *["the dog"] * words])
    [found] = twin.packed.tokenize([text], keeps_end=True)
    assert found == twin.reference.tokenize([text], keeps_end=True)[0]
    [right] = twin.packed.tokenize([text])
    assert (found.length, len(found.ids)) == (right.length, len(right.ids))
    assert (found.ids[0], found.ids[-1]) == (right.ids[0], right.ids[-1])
    assert (found.ids == right.ids) == (not found.is_truncated)
    # The tokenizer of the reference is left as it was.
    assert twin.reference.tokenize([text]) == [right]


def test_a_very_long_text_is_counted_whole(twin: Twin) -> None:
    text = "word " * 20_000
    [found] = twin.packed.tokenize([text])
    assert len(found.ids) == 48
    assert found.length == len(twin.packed.spans(text)) + 2 >= 20_002


def test_padding_and_cutting_that_the_file_asks_for_are_left_to_us(bert: Path) -> None:
    made = Tokenizer.from_file(str(bert / TOKENIZER))
    made.enable_padding(length=32)
    made.enable_truncation(4)
    made.save(str(bert / TOKENIZER))
    [found, _] = load(bert, max_tokens=48).tokenize(["the cat sat on the mat", ""])
    assert found.length == len(found.ids) > 4


def test_special_tokens_go_wherever_the_file_puts_them(bert: Path) -> None:
    made = Tokenizer.from_file(str(bert / TOKENIZER))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] [CLS] $A", special_tokens=[("[CLS]", 2)]
    )
    ours = PackedTokenizer(made, max_tokens=5)
    assert ours.special_tokens == 2
    [found] = ours.tokenize(["a b c d e f"])
    assert found.ids[:2] == (2, 2)
    assert (len(found.ids), found.length) == (5, 8)


def test_a_tokenizer_that_leaves_an_empty_text_without_tokens_is_refused(bert: Path) -> None:
    # There would be nothing to pool, and the first token would be a neighbour's.
    made = Tokenizer.from_file(str(bert / TOKENIZER))
    made.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    with pytest.raises(UnpackableError, match="gives an empty text no tokens"):
        PackedTokenizer(made, max_tokens=5)


def test_a_tokenizer_that_doubles_a_text_is_refused(bert: Path) -> None:
    # Nobody but the post-processor knows how such a text would be cut.
    made = Tokenizer.from_file(str(bert / TOKENIZER))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP] $A", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    with pytest.raises(UnpackableError, match="adds more than tokens before and after"):
        PackedTokenizer(made, max_tokens=48)


def test_a_tokenizer_that_cuts_on_the_left_is_refused(bert: Path) -> None:
    made = Tokenizer.from_file(str(bert / TOKENIZER))
    made.enable_truncation(48, direction="left")
    made.save(str(bert / TOKENIZER))
    with pytest.raises(UnpackableError, match="cuts texts on the left"):
        load(bert, max_tokens=48)


def test_a_limit_without_room_for_the_special_tokens_is_refused(bert: Path) -> None:
    assert load(bert, max_tokens=2).tokenize(["the cat"])[0].ids == (2, 3)
    with pytest.raises(UnpackableError, match="its 1 tokens have no room for the special ones"):
        load(bert, max_tokens=1)


def test_a_missing_tokenizer_is_refused(bert: Path) -> None:
    (bert / TOKENIZER).unlink()
    with pytest.raises(UnpackableError, match=f"it has no {TOKENIZER}"):
        load(bert, max_tokens=48)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe", b'{"version": "9.0"}', b"[" * 10_000])
def test_a_damaged_tokenizer_is_refused(bert: Path, data: bytes) -> None:
    (bert / TOKENIZER).write_bytes(data)
    with pytest.raises(UnpackableError, match=f"{TOKENIZER} cannot be read"):
        load(bert, max_tokens=48)


def test_a_file_of_settings_that_is_not_one_is_refused(bert: Path) -> None:
    (bert / "tokenizer_config.json").write_text(json.dumps("x"), encoding="utf-8")
    with pytest.raises(UnpackableError, match="is not a table"):
        load(bert, max_tokens=48)
