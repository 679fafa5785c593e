"""Texts to measure with: the prose of Python's own documentation topics, never kept here.

Every build of a CPython version has the same topics, so that two runs measure with the same texts
on any machine; `digest` tells whether they did.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pydoc_data.topics import topics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SHORTEST, LONGEST, FEWEST_WORDS = 40, 1_500, 6
PROSE = 0.8  # of the characters are letters and spaces: no tables, no code


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The texts of a run, in random order."""

    texts: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The sha256 of all texts in order."""
        return hashlib.sha256("\0".join(self.texts).encode()).hexdigest()


def gather(count: int, documents: Iterable[str] = ()) -> Corpus:
    """Return up to `count` distinct paragraphs of `documents`, or of Python's topics.

    Their hashes decide which are taken and in which order: random, and the same everywhere.
    """
    texts = {text for document in documents or topics.values() for text in paragraphs(document)}
    ranked = sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())
    return Corpus(texts=tuple(ranked[:count]))


def paragraphs(document: str) -> Iterator[str]:
    """Yield the paragraphs that are sentences: no code, no table, no heading."""
    for block in re.split(r"\n[ \t]*\n", document):
        words = block.split()
        text = " ".join(words)
        if SHORTEST <= len(text) <= LONGEST and len(words) >= FEWEST_WORDS:
            letters = sum(character.isalpha() or character == " " for character in text)
            if letters / len(text) > PROSE:
                yield text
