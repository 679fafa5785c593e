"""Jobs of texts that are only lengths, for what schedules them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.scheduling.jobs import Job, Space

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.scheduling.jobs import Batch, Claim

SPACE = Space("mean", normalize=True)


def job(
    lengths: Iterable[int],
    *,
    space: Space = SPACE,
    is_interactive: bool = False,
    claim: Claim | None = None,
) -> Job:
    """Return a job with one text of each length."""
    ids = [[7] * length for length in lengths]
    return Job(ids, dim=2, space=space, is_interactive=is_interactive, claim=claim)


def lengths(batch: Batch | None) -> list[int]:
    """Return the lengths of the batch's texts, in its order."""
    assert batch is not None
    return [len(piece.ids) for piece in batch.pieces]
