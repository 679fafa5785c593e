"""Unigram tokenizers on mapped files: tokenizers' own model takes 1,500 bytes of memory a piece.

The builder writes the files when a model is assembled. Normaliser, pre-tokenizer and places are
tokenizers' own; the search for the best pieces makes the same sums in the same order as its
Viterbi, so that ids are equal where pieces are equally good.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import re
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sidecar.engines.packed.architecture import PIECES, UnpackableError

log = logging.getLogger("sidecar.unigram")

# In the snapshot's folder PIECES.
FORMAT = 1
RECORD, TRIE, SCORES, CHARACTERS = "record.json", "trie.npy", "scores.npy", "characters.npy"
# The rows of the trie, a double array (Aoe, 1989). A cell is a node; its child by a character is
# the cell at its base plus the character's code, if that has the node for its parent. The code of
# characters that are in no piece is 0. The root is cell 0.
BASE, PARENT, PIECE = range(3)
NONE = -1
# What Unicode calls white space, where tokenizers parts words. Python calls more so.
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_WORD = re.compile(f"[^{WHITE_SPACE}]+")
# How many words are remembered, and how long they may be: most of a text are among them.
_KNOWN, _KNOWN_CHARS = 1 << 14, 32
# After so many characters that were searched, about a millisecond, the interpreter is left to other
# threads, for as long as one that waits for it takes to wake.
TURN = 1 << 10
_PAUSE_S = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """The pieces of a vocabulary, and by their numbers their scores.

    `characters` has the codes of characters; `longest` is the length of the longest piece.
    """

    trie: NDArray[np.int32]
    scores: NDArray[np.float64]
    characters: NDArray[np.unsignedinteger[Any]]
    longest: int
    unknown: int
    unknown_score: float


# The ids of pieces, and how many characters each takes.
Read = tuple[tuple[int, ...], tuple[int, ...]]


class Unigram:
    """Finds the best pieces of a word."""

    def __init__(
        self, pieces: Pieces, *, pause: Callable[[], None] = lambda: time.sleep(_PAUSE_S)
    ) -> None:
        """Call `pause` after every TURN characters."""
        self._base, self._parent, self._piece = (row.data for row in pieces.trie)
        self._scores, self._characters = pieces.scores.data, pieces.characters.data
        self._longest = pieces.longest
        self._unknown, self._unknown_score = pieces.unknown, pieces.unknown_score
        self._pause = pause
        self._searched = 0

    def spell(self, number: int) -> str | None:
        """Return how a piece is spelled, None if there is none of this number."""
        cells, letters = self._names
        cell = int(cells[number]) if 0 <= number < len(cells) else NONE
        if cell == NONE:
            return None
        codes = list[int]()
        while cell:
            parent = self._parent[cell]
            codes.append(cell - self._base[parent])
            cell = parent
        return "".join(letters[code] for code in reversed(codes))

    @functools.cached_property
    def _names(self) -> tuple[NDArray[np.int32], list[str]]:
        """The cells where pieces end, by their numbers, and the characters by their codes."""
        pieces, codes = np.asarray(self._piece), np.asarray(self._characters)
        ends = np.flatnonzero(pieces != NONE)
        cells = np.full(len(self._scores), NONE, dtype=np.int32)
        cells[pieces[ends]] = ends
        letters = [""] * (int(codes.max(initial=0)) + 1)
        for number in np.flatnonzero(codes).tolist():
            letters[codes[number]] = chr(number)
        return cells, letters

    def search(self, word: str) -> Read:
        """Return the best pieces of `word`.

        Of pieces that are as good as each other the longest is kept. Neighbours that are in no
        piece are one unknown piece.
        """
        size = len(word)
        sums = array("d", bytes(8 * (size + 1)))
        starts, ids = array("i", [NONE]) * (size + 1), array("i", [NONE]) * (size + 1)
        for first in range(0, size, TURN):
            last = min(size, first + TURN)
            self._searched += last - first
            if self._searched >= TURN:
                self._searched = 0
                self._pause()
            codes = self._codes(word[first : last + self._longest])
            self._extend(codes, range(first, last), sums, starts, ids)
        found, lengths, end = list[int](), list[int](), size
        while end:
            start, one = starts[end], ids[end]
            if one == self._unknown and found and found[-1] == one:
                lengths[-1] += end - start
            else:
                found.append(one)
                lengths.append(end - start)
            end = start
        return tuple(reversed(found)), tuple(reversed(lengths))

    def _codes(self, text: str) -> list[int]:
        characters, many = self._characters, len(self._characters)
        return [characters[number] if number < many else 0 for number in map(ord, text)]

    def _extend(
        self,
        codes: list[int],
        places: range,
        sums: array[float],
        starts: array[int],
        ids: array[int],
    ) -> None:
        """Follow the pieces that start at `places`, the first of which `codes` begin with.

        Noted by the place where pieces end: the best sum up to there, where its last piece starts,
        and the number of that.
        """
        base, parent, piece, scores = self._base, self._parent, self._piece, self._scores
        first, longest = places.start, self._longest
        for start in places:
            total, node, is_known = sums[start], 0, False
            for end, code in enumerate(codes[start - first : start - first + longest], start + 1):
                cell = base[node] + code
                if parent[cell] != node:
                    break
                node, one = cell, piece[cell]
                if one == NONE:
                    continue
                score = scores[one] + total
                if starts[end] == NONE or score > sums[end]:
                    sums[end], starts[end], ids[end] = score, start, one
                if end == start + 1:
                    is_known = True
            if not is_known:
                end, score = start + 1, self._unknown_score + total
                if starts[end] == NONE or score > sums[end]:
                    sums[end], starts[end], ids[end] = score, start, self._unknown


class UnigramReader:
    """Reads texts with the steps of a tokenizer around the search for pieces.

    `steps` is that tokenizer with a model that takes every character for an unknown token.
    """

    def __init__(self, steps: Tokenizer, model: Unigram) -> None:
        self.steps = steps
        self._model = model
        self._normalizer, self._splitter = steps.normalizer, steps.pre_tokenizer
        self._known: dict[str, Read] = {}
        space = json.loads(self._splitter.__getstate__())["pretokenizers"][1]
        self._mark: str = space["replacement"]
        self._before = "" if space["prepend_scheme"] == "never" else self._mark
        added = steps.get_added_tokens_decoder()
        self._added = {token.content: number for number, token in added.items()}
        longest_first = sorted(self._added, key=len, reverse=True)
        self._cut = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def read(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each of `texts`."""
        return [[one for ids, _ in self._pieces(text) for one in ids] for text in texts]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return start and end of every token of `text`, in characters."""
        # To encode one text holds the interpreter, a batch does not.
        (found,) = self.steps.encode_batch([text], add_special_tokens=False)
        places = found.offsets
        made, first = list[tuple[int, int]](), 0
        for _, lengths in self._pieces(text):
            for length in lengths:
                made.append((places[first][0], places[first + length - 1][1]))
                first += length
        return made

    def spell(self, number: int) -> str | None:
        """Return how the token of an id is spelled."""
        named: str | None = self.steps.id_to_token(number)
        return self._model.spell(number) if named is None else named

    def _pieces(self, text: str) -> Iterator[Read]:
        """Yield the pieces of words, and each added token for itself."""
        known = self._known
        for part in self._parts(text):
            if isinstance(part, int):
                yield (part,), (1,)
                continue
            for word in _WORD.findall(self._normalized(part)):
                yield known.get(word) or self._read_word(word)

    def _read_word(self, word: str) -> Read:
        if self._mark in word:
            splits = [split for split, _ in self._splitter.pre_tokenize_str(word)]
        else:
            splits = [self._before + word]
        found = [self._model.search(split) for split in splits]
        made = found[0] if len(found) == 1 else _joined(found)
        if len(word) <= _KNOWN_CHARS:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[word] = made
        return made

    def _normalized(self, part: str) -> str:
        if self._normalizer is None:
            return part
        made: str = self._normalizer.normalize_str(part)
        return made

    def _parts(self, text: str) -> Iterator[str | int]:
        """Yield what stands between added tokens, and the numbers of these.

        White space that they take with them has no tokens anyway.
        """
        first = 0
        for match in self._cut.finditer(text):
            if first < match.start():
                yield text[first : match.start()]
            yield self._added[match[0]]
            first = match.end()
        if first < len(text):
            yield text[first:]


def _joined(found: list[Read]) -> Read:
    return tuple(chain.from_iterable(ids for ids, _ in found)), tuple(
        chain.from_iterable(lengths for _, lengths in found)
    )


def open_reader(folder: Path, tokenizer: Path) -> UnigramReader | None:
    """Return the reader on the files in the snapshot `folder`, None if there are none.

    None as well if they are of another format, or were made of another file than `tokenizer`.
    Raises UnpackableError for files that cannot be read.
    """
    place = folder / PIECES
    if not (place / RECORD).is_file():
        return None
    try:
        record: Mapping[str, Any] = json.loads((place / RECORD).read_bytes())
        with tokenizer.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if (record["format"], record["tokenizer"]) != (FORMAT, digest):
            log.warning("%s is not of this %s, which is read instead", PIECES, tokenizer.name)
            return None
        trie, scores, characters = (
            np.load(place / name, mmap_mode="r") for name in (TRIE, SCORES, CHARACTERS)
        )
        pieces = Pieces(
            trie=trie,
            scores=scores,
            characters=characters,
            longest=record["longest"],
            unknown=record["unknown"],
            unknown_score=record["unknown_score"],
        )
        steps = Tokenizer.from_str(json.dumps(record["steps"]))
        return UnigramReader(steps, Unigram(pieces))
    except Exception as error:  # tokenizers raises Exception itself
        raise UnpackableError(f"{PIECES} cannot be read") from error
