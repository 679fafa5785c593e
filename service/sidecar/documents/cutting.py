"""From a document's bytes to the chunks that are embedded, and what is said of each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sidecar.documents import chunks, documents
from sidecar.documents.documents import Document
from sidecar.scheduling.encoder import Embedded, Gone
from sidecar.service import Service
from sidecar.web.schemas import FileOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A document and the places of its chunks, in characters of its text.

    `is_all` is False if there would be more chunks than were asked for.
    """

    document: Document
    places: list[tuple[int, int]]
    is_all: bool

    @property
    def is_complete(self) -> bool:
        """Whether the chunks hold all of the document."""
        return self.document.is_complete and self.is_all

    def texts(self, first: int = 0, end: int | None = None) -> list[str]:
        """Return the texts of the chunks from `first` to before `end`."""
        return [self.document.text[a:b] for a, b in self.places[first:end]]

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
            for index, (start, end) in enumerate(self.places[first : first + len(found.tokens)])
        ]


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
        data, suffix, max_chars=limits.max_document_chars, workers=service.workers
    )
    text = document.text
    if asked.unit == "tokens":
        spans = await service.encoder.spans(text, gone=gone)
        places = chunks.token_chunks(text, spans, size=size, overlap=overlap)
    else:
        places = chunks.char_chunks(text, size=size, overlap=overlap)
    kept, is_all = await asyncio.to_thread(
        chunks.take, places, max_chunks=asked.max_chunks, max_chars=limits.max_chunked_chars
    )
    return Cut(document=document, places=kept, is_all=is_all)
