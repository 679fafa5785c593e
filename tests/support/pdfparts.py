"""All that a worker says of a PDF, read within this process."""

from __future__ import annotations

import json
from typing import Any

from sidecar.documents import pdfium, worker
from sidecar.documents.losses import merged
from sidecar.documents.pdf_process import Part, PdfText, understood

WORDS = frozenset(("not-pdf", "encrypted", "password", "no-pages", "unreadable", "too-complex"))
pdfium.start()


def said(data: bytes, *, max_pages: int = 9, room: int = 9_999, **options: Any) -> Part | str:
    """Return its messages as one part, or the word for what is wrong; each must be as agreed."""
    found: list[Part] = []
    for message in worker.parts(data, max_pages=max_pages, room=room, **options):
        body = json.dumps(message, ensure_ascii=False).encode()  # no half of a pair
        if "error" in message:
            assert not found
            assert message["error"] in WORDS
            return str(message["error"])
        one = understood(body)
        assert isinstance(one, Part), body
        found.append(one)
    assert [one.more for one in found] == [True] * (len(found) - 1) + [False]
    pages = [page for one in found for page in one.pages]
    assert len(pages) <= max_pages
    assert sum(map(len, pages)) <= room
    return Part(
        pages=pages,
        losses=merged(loss for one in found for loss in one.losses),
        notes=merged(note for one in found for note in one.notes),
        of=found[-1].of,
    )


def read(data: bytes, **options: Any) -> PdfText:
    """Return what was read of a PDF, which must be readable."""
    found = said(data, **options)
    assert isinstance(found, Part), found
    return PdfText(pages=found.pages, losses=found.losses, notes=found.notes)
