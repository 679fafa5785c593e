"""Jobs of texts that are only lengths, for what schedules them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.scheduling.jobs import BatchKey, Job

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.scheduling.jobs import Batch, Reservation

KEY = BatchKey("mean", normalize=True)


def job(
    lengths: Iterable[int],
    *,
    key: BatchKey = KEY,
    is_interactive: bool = False,
    reservation: Reservation | None = None,
) -> Job:
    """Return a job with one text of each length."""
    ids = [[7] * length for length in lengths]
    return Job(ids, dim=2, key=key, is_interactive=is_interactive, reservation=reservation)


def lengths(batch: Batch | None) -> list[int]:
    """Return the lengths of the batch's texts, in its order."""
    assert batch is not None
    return [len(item.ids) for item in batch.items]
