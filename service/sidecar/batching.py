"""Which texts are read and encoded together: pure arithmetic on their lengths."""

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


def batches(lengths: Sequence[int], *, max_rows: int, max_tokens: int) -> list[list[int]]:
    """Return the indices of `lengths` in batches, neighbours in length, longest first.

    No batch has more than `max_rows` texts, or more than `max_tokens` when padded to its
    longest, unless it holds one text alone. Longest first: if memory runs out, it does so at once.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    made: list[list[int]] = []
    for index in order:
        batch = made[-1] if made else []
        widest = lengths[batch[0]] if batch else 0
        if batch and len(batch) < max_rows and widest * (len(batch) + 1) <= max_tokens:
            batch.append(index)
        else:
            made.append([index])
    return made
