"""Vectors of hashed words, without a model: for tests of programs that only need some vectors.

Words and the trigrams of their letters are hashed to columns (feature hashing), so texts that share
words, or parts of words, are near each other. It knows nothing of meaning. It serves only when it
is asked for by name, and says so in its answers and its log.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence

import numpy as np

from sidecar.engines import Tokens, Vectors, Vocabulary
from sidecar.settings import Precision

BECAUSE = "the vectors are those of hashed words, without a model: --engine hash is for tests alone"
# Names this way of hashing: change it with anything that changes a vector.
REVISION = hashlib.sha256(b"words and trigrams 1").hexdigest()[:40]
DIM = 384
MAX_TOKENS = 512
START, END = 0, 1
TRIGRAM_WEIGHT = 0.3
_MARK = b"\x01"  # before a word's bytes: no word is then the number of a special token
_WORD_BYTES = 64
_WORD = re.compile(r"\w+|[^\w\s]")


class HashEngine:
    """Every word and every sign is a token; its id is its bytes, read as a number.

    So `encode` needs nothing but the ids, however many words there are.
    """

    name = "hash"
    device = "cpu"
    precision: Precision = "float32"
    space: str = "hash"
    dim = DIM
    max_tokens = MAX_TOKENS
    special_tokens = 2
    pooling = "mean"
    pads = False
    best_tokens = 4096
    vocabulary: Vocabulary | None = None

    def tokenize(self, texts: Sequence[str], *, keeps_end: bool = False) -> list[Tokens]:
        """Return the tokens of every text; an empty text has its special tokens."""
        found = []
        for text in texts:
            words = _WORD.findall(text.casefold())
            room = self.max_tokens - self.special_tokens
            kept = words[-room:] if keeps_end else words[:room]
            ids = (START, *map(_number, kept), END)
            found.append(Tokens(ids=ids, length=len(words) + self.special_tokens))
        return found

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return start and end of every word and sign."""
        return [match.span() for match in _WORD.finditer(text)]

    def unknown(self, text: str) -> tuple[int, int]:
        """Return that no word and no sign is unknown."""
        return 0, len(self.spans(text))

    def encode(self, batch: Sequence[Sequence[int]], *, pooling: str, normalize: bool) -> Vectors:
        """Return one row per text; `cls` is the same as `mean` here."""
        rows = np.stack([_row(ids, pooling) for ids in batch])
        if normalize:
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    def trim(self) -> None:
        """Do nothing: what it keeps is small."""


def _number(word: str) -> int:
    return int.from_bytes(_MARK + word.encode("utf-8", "replace")[:_WORD_BYTES], "big")


def _row(ids: Sequence[int], pooling: str) -> Vectors:
    words = [_features(number) for number in ids if number > END]
    # A text without words, and one whose words cancel each other out, has a vector as well.
    nothing = _features(START)
    if not words:
        return nothing.copy()
    stack = np.stack(words)
    row: Vectors = stack.max(axis=0) if pooling == "max" else stack.mean(axis=0)
    return row if row.any() else nothing.copy()


@functools.lru_cache(maxsize=4096)
def _features(number: int) -> Vectors:
    """Return the row of one word: its own column, and those of its trigrams."""
    row = np.zeros(DIM, dtype=np.float32)
    word = number.to_bytes((number.bit_length() + 7) // 8, "big")[len(_MARK) :]
    _add(row, b"w" + word, 1.0)
    letters = f"<{word.decode('utf-8', 'ignore')}>"
    for at in range(len(letters) - 2):
        _add(row, b"t" + letters[at : at + 3].encode(), TRIGRAM_WEIGHT)
    return row


def _add(row: Vectors, feature: bytes, weight: float) -> None:
    drawn = int.from_bytes(hashlib.blake2b(feature, digest_size=8).digest(), "big")
    row[drawn % DIM] += weight if drawn >> 63 else -weight
