"""From a file's bytes to text."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from sidecar.documents import encodings
from sidecar.documents.losses import Document, Loss, Note, merged
from sidecar.documents.pdf_pool import PdfPool
from sidecar.problems import Problem

SUFFIXES = (".pdf", ".txt", ".md")
# What an upload may be declared as, and the suffix of such a file.
MEDIA_TYPES = {"application/pdf": ".pdf", "text/plain": ".txt", "text/markdown": ".md"}
PAGE_BREAK = "\n"
_INLINE_BYTES = 1 << 16


def suffix_of(path: str) -> str:
    """Return the suffix that decides how a file is read. Raises Problem 422 for any other."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise Problem(
            "file-kind",
            f"only {', '.join(SUFFIXES)} files are read",
            next_step="convert it to one of them",
        )
    return suffix


async def read(
    data: bytes,
    suffix: str,
    *,
    max_chars: int,
    pdf_pool: PdfPool,
    codec: str | None = None,
    password: str | None = None,
) -> Document:
    """Return the document in `data`, at most `max_chars` of it. Raises Problem as reading does.

    `codec` is what a text file is declared to be in, `password` what opens a PDF.
    """
    if suffix == ".pdf":
        found = await pdf_pool.read(data, password=password)
        return joined(found.pages, losses=found.losses, notes=found.notes)
    is_short = len(data) <= _INLINE_BYTES and codec in {None, "utf-8"}
    decoded = encodings.decode_clean(data) if is_short else None
    if decoded is None:
        decoded = await asyncio.to_thread(encodings.decode, data, codec=codec)
    lost = Loss(kind="limit", count=max(0, len(decoded.text) - max_chars))
    losses = merged([*decoded.losses, lost])
    return replace(decoded, text=decoded.text[:max_chars], losses=losses)


def joined(
    pages: Sequence[str], *, losses: tuple[Loss, ...] = (), notes: tuple[Note, ...] = ()
) -> Document:
    """Return the document that consists of `pages`."""
    starts = tuple(accumulate((len(page) + len(PAGE_BREAK) for page in pages[:-1]), initial=0))
    text = PAGE_BREAK.join(pages)
    return Document(text=text, page_starts=starts if pages else (), losses=losses, notes=notes)
