"""From a document's text to chunks: where each begins and ends, in characters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus

from sidecar.problems import Problem

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
    """
    begins_word = bytes(
        text[start : start + 1].isspace() or text[start - 1 : start].isspace() for start in starts
    )
    first = 0
    while first < len(starts):
        end = min(first + size, len(starts))
        if end < len(starts):
            floor = first + max(overlap + 1, size - size // 4)
            found = begins_word.rfind(True, floor + 1, end + 1)
            end = end if found < 0 else found
        yield starts[first], ends[end - 1]
        if end == len(starts):
            return
        back = end - overlap
        found = begins_word.find(True, back, back + overlap // 2 + 1)
        first = back if found < 0 else found


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
