"""Which texts are read together: pure arithmetic on their lengths."""

from __future__ import annotations

from collections.abc import Sequence


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
