"""A document's text, what it lost on its way there, and what was done to it: by kind, counted.

docs/files.md says what each kind counts. A loss makes an answer incomplete; a note never does.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from pydantic import NonNegativeInt

LossKind = Literal["limit", "time", "busy", "page", "picture", "encoding", "controls"]
NoteKind = Literal["form-values", "annotations", "hyphens", "symbols", "unknown-tokens"]
# The most pages that are listed; `count` goes on.
MAX_LISTED = 500
K = TypeVar("K", bound=str)


@dataclass(frozen=True, kw_only=True)
class Tally(Generic[K]):
    """How often something of a kind happened, and on which pages, from 1, in a PDF.

    `share` is of all that was counted, where that is what tells.
    """

    kind: K
    count: NonNegativeInt
    pages: tuple[int, ...] = ()
    share: float | None = None

    def as_json(self) -> dict[str, object]:
        """Return it as answers show it: without `pages` where there are none."""
        shown: dict[str, object] = {"kind": self.kind, "count": self.count}
        if self.share is not None:
            shown["share"] = round(self.share, 4)
        return {**shown, "pages": list(self.pages[:MAX_LISTED])} if self.pages else shown


Loss = Tally[LossKind]
Note = Tally[NoteKind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text; `page_starts` are the offsets at which its pages begin, empty if it has none.

    `losses` are what the document has and the text lacks, `notes` what was done to the text.
    `encoding` is what the bytes of a text file were read as, `confidence` that of the detection,
    None where nothing was guessed.
    """

    text: str
    page_starts: tuple[int, ...] = ()
    losses: tuple[Loss, ...] = ()
    notes: tuple[Note, ...] = ()
    encoding: str | None = None
    confidence: float | None = None

    def page_at(self, offset: int) -> int | None:
        """Return the page, from 1, that the character at `offset` is on."""
        return bisect_right(self.page_starts, offset) or None

    @property
    def pages(self) -> int | None:
        """The number of pages that were read, None if the document has none."""
        return len(self.page_starts) or None


def merged(tallies: Iterable[Tally[K]]) -> tuple[Tally[K], ...]:
    """Return one tally a kind, in the order of the kinds' first; those that count 0 are none."""
    found: dict[K, Tally[K]] = {}
    for tally in tallies:
        if not tally.count:
            continue
        before = found.get(tally.kind)
        if before is not None:
            pages = tuple(sorted({*before.pages, *tally.pages}))
            tally = Tally(kind=tally.kind, count=before.count + tally.count, pages=pages)  # noqa: PLW2901
        found[tally.kind] = tally
    return tuple(found.values())
