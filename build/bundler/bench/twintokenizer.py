"""Tokenizers for twins: the structure of the real ones, and pieces made from words by rule.

A Unigram vocabulary of XLM-R's size costs what the real one does to load and to search. Frequent
words are pieces of their own, parts of words follow, and syllables of several scripts fill up the
rest; so English text is cut into words and parts of words, as the real one cuts it.
"""

from __future__ import annotations

import collections
import itertools
import math
import re
import string
from typing import TYPE_CHECKING

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from bundler.bench.charsmap import charsmap, nfkc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

UNIGRAM_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
MASK = "<mask>"
WORDPIECE_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CHARACTERS = (*string.ascii_letters, *string.digits, *string.punctuation)
META = "\u2581"
# First letter and number of letters: Latin, Greek, Cyrillic, Hebrew, Arabic, Devanagari, Thai,
# Hiragana, and the first of the common Han characters.
SCRIPTS = (
    *((0x61, 26), (0x3B1, 25), (0x430, 32), (0x5D0, 27), (0x627, 36)),
    *((0x905, 53), (0xE01, 46), (0x3041, 83), (0x4E00, 600)),
)
LONGEST_PART = 6
WORD_SHARE = 12  # one piece in so many is a whole word
LOWEST = -14.0


def unigram(texts: Iterable[str], *, size: int) -> Tokenizer:
    """Return a tokenizer of XLM-R's kind with exactly `size` pieces; same texts, same pieces."""
    vocabulary = [(piece, 0.0) for piece in UNIGRAM_SPECIAL]
    vocabulary += itertools.islice(_scored(texts, size), size - len(vocabulary) - 1)
    tokenizer = Tokenizer(models.Unigram([*vocabulary, (MASK, 0.0)], unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.Precompiled(charsmap(nfkc()))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(META, "always")]
    )
    tokenizer.decoder = decoders.Metaspace(META, "always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in UNIGRAM_SPECIAL])
    tokenizer.add_special_tokens([AddedToken(MASK, lstrip=True, special=True)])
    return tokenizer


def wordpiece(texts: Iterable[str], *, size: int) -> Tokenizer:
    """Return a tokenizer of BERT's kind with exactly `size` pieces; same texts, same pieces."""
    lower = (text.lower() for text in texts)
    made = itertools.chain(WORDPIECE_SPECIAL, _marked(piece for piece, _ in _scored(lower, size)))
    vocabulary: dict[str, int] = {}
    while len(vocabulary) < size:
        vocabulary.setdefault(next(made), len(vocabulary))
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in WORDPIECE_SPECIAL])
    return tokenizer


def _marked(pieces: Iterable[str]) -> Iterator[str]:
    """Yield pieces as WordPiece spells them: what starts a word is bare, what goes on is marked."""
    for piece in pieces:
        if piece.startswith(META):
            yield piece.removeprefix(META) or "[unused0]"
        else:
            yield f"##{piece}"
            if len(piece) == 1:
                yield piece


def _scored(texts: Iterable[str], size: int) -> Iterator[tuple[str, float]]:
    """Yield distinct pieces with their log probabilities, the indispensable ones first."""
    words = collections.Counter[str]()
    for text in texts:
        words.update(re.findall(r"\w+|[^\w\s]+", text))
    parts = collections.Counter[str]()
    for word, count in words.items():
        for start, length in itertools.product(range(len(word)), range(1, LONGEST_PART + 1)):
            if start + length <= len(word):
                part = word[start : start + length]
                parts[META + part if start == 0 else part] += count
    total = parts.total() + words.total() + 1
    seen: set[str] = set()
    frequent = _ranked(words)[: max(1, size // WORD_SHARE)]
    for piece, count in itertools.chain(
        ((character, parts[character] or 1) for character in (META, *CHARACTERS)),
        ((META + word, count) for word, count in frequent),
        _ranked(parts),
    ):
        if piece not in seen:
            seen.add(piece)
            yield piece, round(max(LOWEST, math.log(count / total)), 4)
    for number, piece in enumerate(_syllables()):
        if piece not in seen:
            seen.add(piece)
            yield piece, round(LOWEST - number / 250_000, 4)


def _ranked(counts: collections.Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def _syllables() -> Iterator[str]:
    """Yield words of made-up syllables without end, script after script in turn."""
    for number in itertools.count():
        script, rest = number % len(SCRIPTS), number // len(SCRIPTS)
        first, letters = SCRIPTS[script]
        # Multiplying by an odd constant scatters neighbours; the length grows with the number.
        scattered = rest * 2_654_435_761 % (1 << 32)
        word = ""
        for _ in range(2 + rest % 5):
            word += chr(first + scattered % letters)
            scattered //= letters
        yield META + word if rest % 2 else word
