"""Which texts are read together: pure arithmetic on their lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def slices(lengths: Sequence[int], *, max_rows: int, max_total: int) -> list[slice]:
    """Return the slices that cut `lengths` into runs, in order.

    No run has more than `max_rows` members, or a sum above `max_total` unless it is one alone.
    """
    made: list[slice] = []
    start = total = 0
    for index, length in enumerate(lengths):
        if index > start and (index - start == max_rows or total + length > max_total):
            made.append(slice(start, index))
            start, total = index, 0
        total += length
    if lengths:
        made.append(slice(start, len(lengths)))
    return made


def turns(text: str, *, max_chars: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of pieces of at most `max_chars` that `text` consists of.

    A piece begins where white space does, if there is some in the second half of the one before:
    tokenizers take no token across that. An empty text has none.
    """
    start = 0
    while start < len(text):
        end = start + max_chars
        if end < len(text):
            floor = start + max_chars // 2
            places = range(end, floor, -1)
            end = next(
                (at for at in places if text[at].isspace() and not text[at - 1].isspace()), end
            )
        yield start, min(end, len(text))
        start = end
