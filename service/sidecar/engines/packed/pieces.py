"""Where a long text is cut without changing a token: a tokenizer takes 600 bytes a character.

Every rule stands on its tokenizer's own steps, and is there for those alone; a text for whose
tokenizer there is none is read whole.
"""

from __future__ import annotations

import itertools
import json
import unicodedata
from collections.abc import Iterator
from typing import Protocol

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer, Precompiled
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel, Sequence

PIECE_CHARS = 2_048
_CODE_POINTS = 0x110000
_LETTERS = frozenset(("Lu", "Ll", "Lt", "Lo", "Nd"))
# In the table of characters.
_UNSEEN, _PARTING, _LETTER, _MARK, _NOTHING, _OTHER = range(6)


class Rule(Protocol):
    """What one kind of tokenizer allows."""

    def parts(self, text: str, at: int) -> bool:
        """Return whether what stands before and from `at`, within `text`, is read as if alone."""

    def shortened(self, piece: str) -> str:
        """Return a text with the tokens of `piece`, in which nothing parts."""


class Unparted:
    """Of a tokenizer that nothing is known of."""

    def parts(self, text: str, at: int) -> bool:  # noqa: ARG002 (nothing does)
        """Return False."""
        return False

    def shortened(self, piece: str) -> str:
        """Return `piece`."""
        return piece


class Spaced(Unparted):
    """Of words that are read one by one: a space between two letters parts.

    Letters and digits are neither the end of an added token nor, as marks are, read together with
    what stands before.
    """

    def __init__(self, added: Added) -> None:
        """Leave the tokens in `added` whole."""
        self._added = added

    def parts(self, text: str, at: int) -> bool:
        """Return whether a word ends before `at`, and the next begins after one space."""
        return (
            text[at] == " "
            and _is_letter(text[at - 1])
            and _is_letter(text[at + 1 : at + 2])
            and not self._added.crosses(text, at)
        )


class Bert(Unparted):
    """Of BERT's words: white space, punctuation and Han characters part, and long words are one.

    Its normaliser looks at characters one by one, so each is tried once, between two letters.
    """

    def __init__(self, tokenizer: Tokenizer, added: Added) -> None:
        """Ask the steps of `tokenizer`, whose model is WordPiece, and leave `added` whole."""
        self._normalizer = tokenizer.normalizer
        self._splitter = tokenizer.pre_tokenizer
        self._longest: int = tokenizer.model.max_input_chars_per_word
        self._added = added
        self._kinds = bytearray(_CODE_POINTS)

    def parts(self, text: str, at: int) -> bool:
        """Return whether a character that is read by itself ends or begins at `at`."""
        is_parted = self._kind(text[at]) == _PARTING or self._kind(text[at - 1]) == _PARTING
        return is_parted and not self._added.crosses(text, at)

    def shortened(self, piece: str) -> str:
        """Leave out what the normaliser does, and the rest of a word that is too long anyway."""
        kinds = {character: self._kind(character) for character in set(piece)}
        if not {_PARTING, _OTHER}.isdisjoint(kinds.values()):
            return piece
        found = (character for character in piece if kinds[character] != _NOTHING)
        kept = "".join(itertools.islice(found, self._longest + 1))
        # Marks are put in order, but for those that others stand between.
        is_ordered = len(kept) > self._longest or all(kinds[one] == _LETTER for one in kept)
        return kept if is_ordered else piece

    def _kind(self, character: str) -> int:
        number = ord(character)
        if self._kinds[number] == _UNSEEN:
            self._kinds[number] = self._tried(character)
        return self._kinds[number]

    def _tried(self, character: str) -> int:
        text = self._normalizer.normalize_str(f"a{character}a")
        words = [word for word, _ in self._splitter.pre_tokenize_str(text)]
        if words == ["aa"]:
            return _NOTHING
        if len(words) == 1:
            first = unicodedata.normalize("NFD", character)[0]
            return _MARK if unicodedata.combining(first) else _LETTER
        return _PARTING if (words[0], words[-1]) == ("a", "a") else _OTHER


class Added:
    """The tokens that are found in a text before anything else is done with it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take those of `tokenizer`."""
        self._tokens = list(tokenizer.get_added_tokens_decoder().values())
        self._contents = [token.content for token in self._tokens]

    @property
    def are_plain(self) -> bool:
        """Whether each is found as it is spelled, whatever stands beside it."""
        return not any(
            token.normalized or token.single_word or token.lstrip or token.rstrip
            for token in self._tokens
        )

    @property
    def are_signs(self) -> bool:
        """Whether each begins and ends with ASCII punctuation, and is found as it is spelled."""
        return not any(token.normalized for token in self._tokens) and all(
            one.isascii() and one.isprintable() and not one.isalnum() and one != " "
            for content in self._contents
            for one in (content[:1], content[-1:])
        )

    def crosses(self, text: str, at: int) -> bool:
        """Return whether one stands in `text` across `at`."""
        return any(
            text.find(one, max(0, at - len(one) + 1), at + len(one) - 1) >= 0
            for one in self._contents
        )


def rule_of(tokenizer: Tokenizer) -> Rule:
    """Return what is known of `tokenizer`."""
    added = Added(tokenizer)
    normalizer, splitter = tokenizer.normalizer, tokenizer.pre_tokenizer
    if not added.are_signs:
        return Unparted()
    if isinstance(normalizer, BertNormalizer) and isinstance(splitter, BertPreTokenizer):
        is_known = isinstance(tokenizer.model, WordPiece) and added.are_plain
        return Bert(tokenizer, added) if is_known else Unparted()
    is_known = normalizer is None or isinstance(normalizer, Precompiled)
    return Spaced(added) if is_known and _reads_words(splitter) else Unparted()


def places(text: str, rule: Rule, *, max_chars: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the pieces of `text`; one in which nothing parts may be longer."""
    start = 0
    while len(text) - start > max_chars:
        last = start + max_chars
        end = next((at for at in range(last, start, -1) if rule.parts(text, at)), 0)
        if not end:
            rest = range(last + 1, len(text))
            end = next((at for at in rest if rule.parts(text, at)), len(text))
        yield start, end
        start = end
    if start < len(text):
        yield start, len(text)


def _reads_words(splitter: object) -> bool:
    """Return whether `splitter` is XLM-RoBERTa's or RoBERTa's."""
    if not isinstance(splitter, Sequence | ByteLevel):
        return False
    state = json.loads(splitter.__getstate__())
    if isinstance(splitter, ByteLevel):
        return bool(state["use_regex"])
    steps = state["pretokenizers"]
    return [step["type"] for step in steps] == ["WhitespaceSplit", "Metaspace"] and all(
        step.get("prepend_scheme") != "first" for step in steps
    )


def _is_letter(character: str) -> bool:
    """Return whether `character` is a letter or a digit, and nothing joins it to its neighbours."""
    if character.isascii():
        return character.isalnum()
    first = unicodedata.normalize("NFKD", character)[0]
    # Letters that some scripts put before others are all beyond the first plane, but for one.
    is_alone = character < "\U00010000" and character != "\u0d4e"
    return is_alone and {unicodedata.category(one) for one in (first, character)} <= _LETTERS
