"""Which texts are encoded together: pure arithmetic on their lengths."""

from __future__ import annotations

from collections.abc import Sequence


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
