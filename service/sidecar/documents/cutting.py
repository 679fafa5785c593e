"""From a document's bytes to the chunks that are embedded, and what is said of each."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence

from sidecar.documents import chunks, documents
from sidecar.documents.documents import Document
from sidecar.documents.losses import Loss, Note, merged
from sidecar.documents.revision import READER
from sidecar.scheduling.abandonment import Gone
from sidecar.scheduling.encoder import Embedded
from sidecar.scheduling.texts import DeferredTexts
from sidecar.web.schemas import FileOptions
from sidecar.web.state import Service


class Cut(DeferredTexts):
    """The texts of a document's chunks; what is kept of them are their places in its text.

    `is_all` is False if there would be more chunks than were asked for; `notes` are those on the
    chunks, beside the document's own.
    """

    def __init__(
        self,
        document: Document,
        places: Sequence[tuple[int, int]],
        *,
        is_all: bool,
        notes: Sequence[Note] = (),
    ) -> None:
        """Have the chunks at `places`, in characters."""
        super().__init__([end - start for start, end in places])
        self.document = document
        self._places = places
        self._is_all = is_all
        self._notes = notes

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What the document has and the chunks lack."""
        return merged([*self.document.losses, *self._left_out()])

    def said(self) -> dict[str, object]:
        """Return what an answer says of all the chunks together."""
        losses = [loss.as_json() for loss in self.losses]
        notes = [note.as_json() for note in (*self.document.notes, *self._notes)]
        return {
            "complete": not losses,
            "losses": losses,
            "notes": notes,
            "encoding": self.document.encoding,
            "encoding_confidence": self.document.confidence,
            "reader": READER,
        }

    def text(self, index: int) -> str:
        """Return the text of one chunk."""
        start, end = self._places[index]
        return self.document.text[start:end]

    def spans(self, found: Embedded, first: int = 0) -> list[dict[str, object]]:
        """Return what is said of the chunks from `first` on, whose vectors are `found`."""
        truncated = frozenset(found.truncated)
        return [
            {
                "page": self.document.page_at(start),
                "start": start,
                "end": end,
                "tokens": found.tokens[index],
                "truncated": index in truncated,
            }
            for index, (start, end) in enumerate(self._places[first : first + len(found.tokens)])
        ]

    def _left_out(self) -> list[Loss]:
        """Return what stands after the last chunk: pages of a PDF, else characters."""
        if self._is_all:
            return []
        text, starts = self.document.text, self.document.page_starts
        end = self._places[-1][1]
        if not starts:
            return [Loss(kind="limit", count=len(text) - end)]
        first = bisect_right(starts, end - 1)
        # The page on which the last chunk ends counts if more of its text follows.
        if not text[end : starts[first] if first < len(starts) else None].strip():
            first += 1
        known = {
            page for loss in self.document.losses if loss.kind == "limit" for page in loss.pages
        }
        pages = tuple(page for page in range(first, len(starts) + 1) if page not in known)
        return [Loss(kind="limit", count=len(pages), pages=pages)]


def sizes(service: Service, asked: FileOptions) -> tuple[int, int]:
    """Return the length and the overlap of chunks. Raises Problem 422 and 503."""
    engine = service.encoder.ready().engine
    return asked.sizes(max_content_tokens=engine.max_tokens - engine.special_tokens)


async def cut(service: Service, data: bytes, suffix: str, asked: FileOptions, *, gone: Gone) -> Cut:
    """Read the document in `data` and cut it as `asked`.

    Ends with what it does, the process that reads a PDF included, once `gone` is done.
    Raises Problem.
    """
    return await service.encoder.while_wanted(_cut(service, data, suffix, asked, gone), gone=gone)


async def _cut(service: Service, data: bytes, suffix: str, asked: FileOptions, gone: Gone) -> Cut:
    limits = service.settings.limits
    size, overlap = sizes(service, asked)
    document = await documents.read(
        data,
        suffix,
        max_chars=limits.max_document_chars,
        workers=service.workers,
        codec=asked.charset,
        password=None if asked.password is None else asked.password.get_secret_value(),
    )
    text = document.text
    if asked.unit == "tokens":
        starts, ends = await service.encoder.spans(text, gone=gone)
        places = chunks.token_chunks(text, starts, ends, size=size, overlap=overlap)
    else:
        places = chunks.char_chunks(text, size=size, overlap=overlap)
    kept, is_all = await asyncio.to_thread(
        chunks.take, places, max_chunks=asked.max_chunks, max_chars=limits.max_chunked_chars
    )
    notes: tuple[Note, ...] = ()
    if kept and not text.isascii():  # which every model knows
        unknown, total = await service.encoder.unknown(text[: kept[-1][1]], gone=gone)
        share = unknown / max(1, total)
        notes = merged([Note(kind="unknown-tokens", count=unknown, share=share)])
    return Cut(document, kept, is_all=is_all, notes=notes)
