"""From a document to the chunks that are embedded: where each begins and ends, in characters."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sidecar.documents import extraction
from sidecar.documents.losses import Document, Loss, Note, merged
from sidecar.documents.pdf_pool import PdfPool
from sidecar.problems import Problem
from sidecar.scheduling.encoder import Embedded, Encoder
from sidecar.scheduling.served import ServedModel
from sidecar.scheduling.tokenizing import DeferredTexts, Disconnected
from sidecar.settings import Limits

# Rises with every change that gives some document another text or other chunks, so that an index
# can read again what an older revision read. test_chunking.py holds it to what comes out.
READER = 1
# A token of text has four or five characters with the space; indented code has more.
USUAL_CHARS, CHARS_PER_TOKEN, LEAST_CHARS = 4, 16, 256
_INK = re.compile(r"\S")
Unit = Literal["chars", "tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunking:
    """How a document is read, and divided into chunks whose `size` and `overlap` are in `unit`.

    `codec` is what a text file is declared to be in, `password` what opens a PDF.
    """

    size: int
    overlap: int
    unit: Unit
    max_chunks: int
    codec: str | None = None
    password: str | None = field(default=None, repr=False)


def char_chunks(text: str, *, size: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of chunks of at most `size` characters that cover `text`.

    A chunk ends at white space if there is some in its last quarter. Neighbours share `overlap`
    characters, which is smaller than `size`; only white space may lie between two that do not.
    """
    start = 0
    while (ink := _INK.search(text, start)) is not None:
        end = min(start + size, len(text))
        if ink.start() >= end:  # a chunk of white space alone is none
            start = ink.start()
            continue
        if end < len(text):
            floor = start + max(overlap + 1, size - size // 4)
            end = next((at for at in range(end, floor, -1) if text[at - 1].isspace()), end)
        if ink.start() < end:
            yield start, end
        if end == len(text):
            return
        start = end - overlap


def token_chunks(
    text: str, starts: Sequence[int], ends: Sequence[int], *, size: int, overlap: int
) -> Iterator[tuple[int, int]]:
    """Yield start and end, in characters, of chunks of at most `size` tokens that cover `text`.

    `starts` and `ends` are the places of the text's tokens. A chunk ends before a word if one
    begins in its last quarter, and begins with one if it can: cut within a word, it would have
    other tokens, and perhaps more, than it was measured by. Neighbours share at most `overlap`
    tokens, which is smaller than `size`, and at least half as many.

    A chunk has at most `most_chars(size)` characters, too. A tokenizer takes a whole paragraph of
    a script that it does not know for one token: one that is longer than `size` usual tokens is
    divided, and shares its chunks with no other token.
    """
    longest, longest_token = most_chars(size), max(LEAST_CHARS, size * USUAL_CHARS)
    begins_word = bytes(
        text[start : start + 1].isspace() or text[start - 1 : start].isspace() for start in starts
    )
    is_long = bytes(end - start > longest_token for start, end in zip(starts, ends, strict=True))
    first = 0
    while first < len(starts):
        if is_long[first]:
            yield from _divided(text, starts[first], ends[first], longest=longest_token)
            first += 1
            continue
        last = min(first + size, len(starts))
        found = is_long.find(True, first, last)
        end = last if found < 0 else found
        while ends[end - 1] - starts[first] > longest:
            end -= 1
        if end < len(starts):
            floor = first + max(overlap + 1, size - size // 4)
            found = begins_word.rfind(True, floor + 1, end + 1)
            end = end if found < 0 else found
        yield starts[first], ends[end - 1]
        if end == len(starts):
            return
        back = end - min(overlap, end - first - 1)
        # What follows has something new.
        while back < end and (is_long[end] or ends[end] - starts[back] > longest):
            back += 1
        found = begins_word.find(True, back, min(back + overlap // 2, end) + 1)
        first = back if found < 0 else found


def most_chars(tokens: int) -> int:
    """Return the most characters of a chunk of so many tokens: four times what text has."""
    return max(LEAST_CHARS, tokens * CHARS_PER_TOKEN)


def _divided(text: str, start: int, end: int, *, longest: int) -> Iterator[tuple[int, int]]:
    """Yield pieces of the token from `start` to `end`, equally long but for what must not part."""
    slack = LEAST_CHARS // 4
    pieces = -(-(end - start) // (longest - slack))
    at = start
    for piece in range(1, pieces + 1):
        stop = start + (end - start) * piece // pieces
        least = max(at + 1, stop - slack)
        # A mark, as a vowel of Thai, stands with the letter before it.
        while piece < pieces and stop > least and unicodedata.category(text[stop])[0] == "M":
            stop -= 1
        yield at, stop
        at = stop


def take(
    places: Iterable[tuple[int, int]], *, max_chunks: int, max_chars: int
) -> tuple[list[tuple[int, int]], bool]:
    """Return the first `max_chunks` of `places`, and whether they are all of them.

    Raises Problem 422 if they hold more than `max_chars` together: an overlap close to the size
    of a chunk would make gigabytes of a small document.
    """
    taken: list[tuple[int, int]] = []
    room = max_chars
    for start, end in places:
        if len(taken) == max_chunks:
            return taken, False
        room -= end - start
        if room < 0:
            what = f"chunk_overlap: the chunks would hold more than {max_chars} characters together"
            step = "choose a smaller chunk_overlap or max_chunks"
            raise Problem("too-much-overlap", what, next_step=step)
        taken.append((start, end))
    return taken, True


class Chunks(DeferredTexts):
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
        self.places = places
        self._is_all = is_all
        self._notes = notes

    @property
    def losses(self) -> tuple[Loss, ...]:
        """Content of the document that the chunks lack."""
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
        start, end = self.places[index]
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
            for index, (start, end) in enumerate(self.places[first : first + len(found.tokens)])
        ]

    def _left_out(self) -> list[Loss]:
        """Return what stands after the last chunk: pages of a PDF, else characters."""
        if self._is_all:
            return []
        text, starts = self.document.text, self.document.page_starts
        end = self.places[-1][1]
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


async def read(  # noqa: PLR0913 - each is one part of the service
    data: bytes,
    suffix: str,
    wanted: Chunking,
    *,
    encoder: Encoder,
    model: ServedModel,
    pdf_pool: PdfPool,
    limits: Limits,
    disconnected: Disconnected,
) -> Chunks:
    """Read the document in `data` and divide it as `wanted`, by `model`. Raises Problem."""
    document = await extraction.read(
        data,
        suffix,
        max_chars=limits.max_document_chars,
        pdf_pool=pdf_pool,
        codec=wanted.codec,
        password=wanted.password,
    )
    text = document.text
    if wanted.unit == "tokens":
        starts, ends = await encoder.spans(text, model=model, disconnected=disconnected)
        places = token_chunks(text, starts, ends, size=wanted.size, overlap=wanted.overlap)
    else:
        places = char_chunks(text, size=wanted.size, overlap=wanted.overlap)
    kept, is_all = await asyncio.to_thread(
        take, places, max_chunks=wanted.max_chunks, max_chars=limits.max_chunked_chars
    )
    notes: tuple[Note, ...] = ()
    if kept and not text.isascii():  # which every model knows
        unknown, total = await encoder.unknown(
            text[: kept[-1][1]], model=model, disconnected=disconnected
        )
        share = unknown / max(1, total)
        notes = merged([Note(kind="unknown-tokens", count=unknown, share=share)])
    return Chunks(document, kept, is_all=is_all, notes=notes)
