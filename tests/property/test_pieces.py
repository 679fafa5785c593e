"""A long text has the tokens that it has when it is read at once, wherever it is cut."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from bench import synthetic
from sidecar.engines.packed import tokens
from sidecar.engines.packed.tokens import PackedTokenizer
from tests.support.unigram import differing, write_tokenizer

WORDS = ("the cat sat on the mat", "a dog and a house by the river", "naïve café")
MAX_TOKENS = 12
WHOLE = 1 << 30
# What tokenizers treat in ways of their own, alone or beside each other.
PARTS = (
    *("a", "the", "cat ", " ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u2003", "\u2028", "\u3000"),
    *(".", "\\", '"', "[", "]", "<", ">", "-", "_", "$", "\u2014", "\u3002", "\u00bf", "\u037e"),
    *("[MASK]", "[SEP]", "[MA", "SK]", "<mask>", "<ma", "sk>", "<s>", "</s>", "x<mask>", " <mask>"),
    *("\u0301", "e\u0301", "\u00e9", "\u0344", "\u0941", "\u20dd", "\u3099", "\u302e", "\u05b0"),
    *(
        "\U0001d15e",
        "\U0001d165",
        "\U0001d16d",
        "\U0001d167",
        "\u093f",
        "\u0e33",
        "\u0e01",
        "\u0d4e",
    ),
    *("\u200d", "\u200b", "\u00ad", "\ufeff", "\ufffd", "\x00", "\x01", "\x7f", "\u0600", "\ue000"),
    *("\u65e5", "\u8c48", "\uf900", "\u3042", "\uac00", "\u1100\u1161", "\uff76\uff9e"),
    *("\U0001f600", "\U0001f468\u200d\U0001f469", "\U0001f1e9\U0001f1ea", "\U0001f44d\U0001f3fd"),
    *(
        "\u00df",
        "\u0130",
        "\u01c5",
        "\ufb01",
        "\u2460",
        "\u03a3",
        "\u0439",
        "\u05e9",
        "\u0660",
        "7",
    ),
)
UNITS = st.one_of(st.sampled_from(PARTS), st.characters(codec="utf-8"))
TEXTS = st.lists(
    st.builds(lambda unit, times: unit * times, UNITS, st.sampled_from((1, 1, 1, 2, 7, 40))),
    max_size=14,
).map("".join)


def wordpiece(longest: int = 100, **normal: Any) -> Tokenizer:
    """Return one of BERT's kind, for which a word of more than `longest` characters is unknown."""
    made = synthetic.wordpiece(WORDS, size=600)
    vocabulary = made.get_vocab()
    made.model = models.WordPiece(
        vocabulary,
        unk_token="[UNK]",  # noqa: S106
        max_input_chars_per_word=longest,
    )
    for name, value in normal.items():
        setattr(made.normalizer, name, value)
    return made


def roberta() -> Tokenizer:
    """Return one of RoBERTa's kind, whose words are bytes."""
    made = synthetic.unigram(WORDS, size=600)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(["<s>", "</s>", *letters])}
    made.model = models.BPE(vocabulary, [])
    made.normalizer = None
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return made


KINDS = {
    "bert": wordpiece(),
    "bert of short words": wordpiece(5),
    "bert with accents": wordpiece(5, strip_accents=False),
    "bert with case": wordpiece(5, lowercase=False, strip_accents=True),
    "bert with controls": wordpiece(5, clean_text=False, handle_chinese_chars=False),
    "xlm-roberta": synthetic.unigram(WORDS, size=600),
    "roberta": roberta(),
}


NORMALIZER = normalizers.Precompiled(synthetic.charsmap())


def read(kind: str, *, piece_chars: int) -> PackedTokenizer:
    return PackedTokenizer(KINDS[kind], max_tokens=MAX_TOKENS, piece_chars=piece_chars)


def ids(tokenizer: PackedTokenizer, text: str) -> list[int]:
    return [one for found in tokenizer.read(text) for one, _, _ in found]


def has_exact_places(kind: str, text: str) -> bool:
    """Return whether tokenizers gives tokens the places where their characters stand.

    Behind a character that XLM-R's normaliser takes away, it counts one place too few, up to the
    end of what it reads at once. Marks that BERT's puts in order have the places of each other.
    """
    if kind == "xlm-roberta":
        return all(map(NORMALIZER.normalize_str, text))
    if kind == "roberta":
        return True
    return not any(map(unicodedata.combining, KINDS[kind].normalizer.normalize_str(text)))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS, piece_chars=st.integers(1, 30))
@example(text="[MA" + "\u200d" * 40 + "SK]", piece_chars=8)
@example(text="\U0001d167\u0941\U0001d165" * 2 + "\u200d" * 40, piece_chars=8)
@example(text="a" * 40 + "\u0301" * 40, piece_chars=8)
@example(text="\bcat cat ", piece_chars=1)
def test_a_text_in_pieces_has_the_tokens_of_the_whole(
    kind: str, text: str, piece_chars: int
) -> None:
    whole, cut = read(kind, piece_chars=WHOLE), read(kind, piece_chars=piece_chars)
    assert cut.tokenize([text, "", text]) == whole.tokenize([text, "", text])
    assert ids(cut, text) == ids(whole, text)
    if has_exact_places(kind, text):
        assert cut.spans(text) == whole.spans(text)
    assert cut.unknown(text) == whole.unknown(text)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[PackedTokenizer, PackedTokenizer]:
    """Return XLM-RoBERTa's kind read by our model and by tokenizers'."""
    return write_tokenizer(tmp_path_factory.mktemp("unigram"), KINDS["xlm-roberta"])


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_our_unigram_gives_the_tokens_and_places_of_tokenizers(
    both: tuple[PackedTokenizer, PackedTokenizer], text: str
) -> None:
    assert differing(*both, [text]) == ([], [])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(text=TEXTS, piece_chars=st.integers(1, 30))
def test_pieces_are_the_whole_text_and_long_where_nothing_parts(
    kind: str, text: str, piece_chars: int
) -> None:
    rule = tokens.rule_of(KINDS[kind])
    found = list(tokens.places(text, rule, max_chars=piece_chars))
    assert "".join(text[start:end] for start, end in found) == text
    for start, end in found:
        assert start < end
        if end - start > piece_chars:
            assert not any(rule.parts(text, at) for at in range(start + 1, end))
