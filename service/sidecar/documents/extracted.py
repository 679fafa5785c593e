"""What a worker says of a document, checked: the process that says it read hostile bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sidecar.documents.losses import LOSS_KINDS, NOTE_KINDS, Loss, Note, Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """The text of each page in order, empty for one that is skipped, and what was lost."""

    pages: list[str]
    losses: tuple[Loss, ...] = ()
    notes: tuple[Note, ...] = ()


def extracted(answer: object) -> Extracted | None:
    """Return what `answer`, of JSON, says; None if it is not what a worker says."""
    match answer:
        case {"pages": list(pages), "losses": list(losses), "notes": list(notes)} if all(
            isinstance(page, str) for page in pages
        ):
            lost, noted = _tallies(losses, LOSS_KINDS), _tallies(notes, NOTE_KINDS)
            if lost is not None and noted is not None:
                return Extracted(pages=pages, losses=lost, notes=noted)
    return None


def _tallies(entries: list[Any], kinds: tuple[str, ...]) -> tuple[Tally[Any], ...] | None:
    found = []
    for entry in entries:
        match entry:
            case {"kind": str(kind), "count": int(count), **rest} if kind in kinds and count > 0:
                pages = rest.get("pages", [])
                if not isinstance(pages, list) or not all(type(page) is int for page in pages):
                    return None
                found.append(Tally(kind=kind, count=count, pages=tuple(pages)))
            case _:
                return None
    return tuple(found)
