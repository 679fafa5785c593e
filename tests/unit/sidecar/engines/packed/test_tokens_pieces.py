from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import pytest
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from bench import synthetic
from sidecar.engines.packed.tokens import (
    PIECE_CHARS,
    Bert,
    LibraryReader,
    PackedTokenizer,
    Rule,
    Spaced,
    places,
    rule_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = ("the cat sat on the mat",)
BYTES = 1 << 17
SHAPES = {
    "one word": "a" * BYTES,
    "backslashes": "\\" * (BYTES // 2),
    "emoji": "\U0001f600" * (BYTES // 4),
    "combining marks": "\u0301" * (BYTES // 2),
    "marks that stay": "\U0001d165" * (BYTES // 4),
    "Han": "\u65e5" * (BYTES // 3),
    "joiners": "\u200d" * (BYTES // 3),
    "controls": "\x01" * BYTES,
    "white space": " " * BYTES,
    "words": "the cat " * (BYTES // 8),
    "half of an added token": "[MASK" * (BYTES // 5),
}


def bert() -> Tokenizer:
    return synthetic.wordpiece(WORDS, size=600)


def xlm_roberta() -> Tokenizer:
    return synthetic.unigram(WORDS, size=600)


class Recording(LibraryReader):
    """Keeps the lengths of what was read."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.lengths: list[int] = []

    def read(self, texts: list[str]) -> list[list[int]]:
        self.lengths.append(sum(map(len, texts)))
        return super().read(texts)

    def spans(self, text: str) -> list[tuple[int, int]]:
        self.lengths.append(len(text))
        return super().spans(text)


def recorded(tokenizer: Tokenizer) -> tuple[PackedTokenizer, Recording]:
    reader = Recording(tokenizer)
    return PackedTokenizer(tokenizer, max_tokens=32, reader=reader), reader


@pytest.mark.parametrize("name", SHAPES)
def test_no_text_is_read_in_more_than_pieces(name: str) -> None:
    tokenizer, reader = recorded(bert())
    whole = PackedTokenizer(bert(), max_tokens=32, piece_chars=1 << 30)
    text = SHAPES[name]
    assert tokenizer.tokenize([text]) == whole.tokenize([text])
    assert tokenizer.spans(text) == whole.spans(text)
    assert [*chain(*tokenizer.read(text))] == [*chain(*whole.read(text))]
    assert max(reader.lengths) <= PIECE_CHARS


def test_short_texts_are_read_together_and_no_more_of_them_than_a_piece() -> None:
    tokenizer, reader = recorded(bert())
    texts = ["the cats"] * 3000
    assert (
        tokenizer.tokenize(texts)
        == PackedTokenizer(bert(), max_tokens=32).tokenize(texts[:1]) * 3000
    )
    assert max(reader.lengths) <= PIECE_CHARS
    assert len(reader.lengths) == -(-3000 // (PIECE_CHARS // 8))


@pytest.mark.parametrize("words", ["the cat ", "кот и дом ", "แมว กับ บ้าน ", "बिल्ली और घर "])
def test_words_between_spaces_part_for_xlm_roberta(words: str) -> None:
    tokenizer, reader = recorded(xlm_roberta())
    tokenizer.tokenize([words * (BYTES // 16)])
    assert max(reader.lengths) <= PIECE_CHARS


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("aaaa bbbb", ["aaaa ", "bbbb"]),
        ("aaa.bbb", ["aaa.", "bbb"]),
        ("aaaaaaa bb", ["aaaaaaa", " bb"]),
        ("aa[MASK]b", ["aa", "[MASK]", "b"]),
        ("", []),
    ],
)
def test_words_of_bert_part_at_spaces_and_signs(text: str, found: list[str]) -> None:
    made = places(text, rule_of(bert()), max_chars=5)
    assert [text[start:end] for start, end in made] == found


def test_a_mark_behind_a_space_does_not_part_it() -> None:
    rule = rule_of(xlm_roberta())
    assert rule.parts("a b", 1)
    for text in ("a \u0301b", "a \u0e33", "a  b", "a <mask>", ". b", "\u0d4e b", "a "):
        assert not rule.parts(text, 1)


def test_a_word_that_is_too_long_is_as_unknown_when_it_is_short() -> None:
    rule = rule_of(bert())
    assert rule.kept("a" * 500) == [*range(100), 499]
    assert rule.kept("a" * 101 + "\u200d" * 500) == [*range(101)]
    assert rule.kept("\u0301" * 500) == []
    assert rule.kept("c\u200da\u200dt" + "\u200d" * 500) == [0, 2, 4]
    assert rule.kept("a." + "b" * 500) is None
    # Those that stay would be put in another order.
    assert rule.kept("\U0001d167\u0941\U0001d165" + "\u200d" * 500) is None


def plain(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()


def lowered(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Lowercase()


def swallowing(tokenizer: Tokenizer) -> None:
    tokenizer.add_special_tokens([AddedToken("[X]", lstrip=True)])


def named(tokenizer: Tokenizer) -> None:
    tokenizer.add_special_tokens([AddedToken("word")])


def normalized(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken("[X]", normalized=True)])


def first(tokenizer: Tokenizer) -> None:
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])


def bytewise(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(use_regex=False)


@pytest.mark.parametrize(
    ("make", "change"),
    [
        *((bert, change) for change in (plain, lowered, swallowing, named, normalized)),
        *((xlm_roberta, change) for change in (plain, lowered, named, normalized, first, bytewise)),
    ],
)
def test_a_tokenizer_that_nothing_is_known_of_reads_texts_whole(
    make: Callable[[], Tokenizer], change: Callable[[Tokenizer], None]
) -> None:
    assert isinstance(rule_of(make()), Bert | Spaced)
    tokenizer = make()
    change(tokenizer)
    rule = rule_of(tokenizer)
    assert type(rule) is Rule
    text = "a b." * 9
    assert list(places(text, rule, max_chars=5)) == [(0, len(text))]
    assert rule.kept(text) is None
