"""From a document's text to chunks: where each begins and ends, in characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus

from sidecar.problems import Problem

# A token of text has four or five characters with the space; indented code has more.
USUAL_CHARS, CHARS_PER_TOKEN, LEAST_CHARS = 4, 16, 256
_INK = re.compile(r"\S")


def char_chunks(text: str, *, size: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of chunks of at most `size` characters that cover `text`.

    A chunk ends at white space if there is some in its last quarter. Neighbours share `overlap`
    characters, which is smaller than `size`; only white space may lie between two that do not.
    """
    start = 0
    while (ink := _INK.search(text, start)) is not None:
        end = min(start + size, len(text))
        if ink.start() >= end:  # a chunk of white space alone is none
            start = ink.start()
            continue
        if end < len(text):
            floor = start + max(overlap + 1, size - size // 4)
            end = next((at for at in range(end, floor, -1) if text[at - 1].isspace()), end)
        if ink.start() < end:
            yield start, end
        if end == len(text):
            return
        start = end - overlap


def token_chunks(
    text: str, starts: Sequence[int], ends: Sequence[int], *, size: int, overlap: int
) -> Iterator[tuple[int, int]]:
    """Yield start and end, in characters, of chunks of at most `size` tokens that cover `text`.

    `starts` and `ends` are the places of the text's tokens. A chunk ends before a word if one
    begins in its last quarter, and begins with one if it can: cut within a word, it would have
    other tokens, and perhaps more, than it was measured by. Neighbours share at most `overlap`
    tokens, which is smaller than `size`, and at least half as many.

    A chunk has at most `most_chars(size)` characters, too. A tokenizer takes a whole paragraph of
    a script that it does not know for one token: one that is longer than `size` usual tokens is
    divided, and stands in chunks of its own.
    """
    longest, longest_token = most_chars(size), max(LEAST_CHARS, size * USUAL_CHARS)
    begins_word = bytes(
        text[start : start + 1].isspace() or text[start - 1 : start].isspace() for start in starts
    )
    is_long = bytes(end - start > longest_token for start, end in zip(starts, ends, strict=True))
    first = 0
    while first < len(starts):
        if is_long[first]:
            yield from _divided(text, starts[first], ends[first], longest=longest_token)
            first += 1
            continue
        last = min(first + size, len(starts))
        found = is_long.find(True, first, last)
        end = last if found < 0 else found
        while ends[end - 1] - starts[first] > longest:
            end -= 1
        if end < len(starts):
            floor = first + max(overlap + 1, size - size // 4)
            found = begins_word.rfind(True, floor + 1, end + 1)
            end = end if found < 0 else found
        yield starts[first], ends[end - 1]
        if end == len(starts):
            return
        back = end - min(overlap, end - first - 1)
        # What follows has something new.
        while back < end and (is_long[end] or ends[end] - starts[back] > longest):
            back += 1
        found = begins_word.find(True, back, min(back + overlap // 2, end) + 1)
        first = back if found < 0 else found


def most_chars(tokens: int) -> int:
    """Return the most characters of a chunk of so many tokens: four times what text has."""
    return max(LEAST_CHARS, tokens * CHARS_PER_TOKEN)


def _divided(text: str, start: int, end: int, *, longest: int) -> Iterator[tuple[int, int]]:
    """Yield pieces of the token from `start` to `end`, equally long but for what must not part."""
    slack = LEAST_CHARS // 4
    pieces = -(-(end - start) // (longest - slack))
    at = start
    for piece in range(1, pieces + 1):
        stop = start + (end - start) * piece // pieces
        least = max(at + 1, stop - slack)
        # A mark, as a vowel of Thai, stands with the letter before it.
        while piece < pieces and stop > least and unicodedata.category(text[stop])[0] == "M":
            stop -= 1
        yield at, stop
        at = stop


def take(
    places: Iterable[tuple[int, int]], *, max_chunks: int, max_chars: int
) -> tuple[list[tuple[int, int]], bool]:
    """Return the first `max_chunks` of `places`, and whether they are all of them.

    Raises Problem 422 if they hold more than `max_chars` together: an overlap close to the size
    of a chunk would make gigabytes of a small document.
    """
    taken: list[tuple[int, int]] = []
    room = max_chars
    for start, end in places:
        if len(taken) == max_chunks:
            return taken, False
        room -= end - start
        if room < 0:
            what = f"chunk_overlap: the chunks would hold more than {max_chars} characters together"
            step = "choose a smaller chunk_overlap or max_chunks"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too-much-overlap", what, next_step=step)
        taken.append((start, end))
    return taken, True
