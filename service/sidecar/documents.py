"""From a file's bytes to text, and from text to chunks."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import math
import re
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from sidecar import worker
from sidecar.problems import Problem
from sidecar.settings import Limits

SUFFIXES = (".pdf", ".txt", ".md")
PAGE_BREAK = "\n"
_INK = re.compile(r"\S")
_ERRORS = {
    "not-pdf": "the file is not a PDF",
    "encrypted": "the PDF is encrypted",
    "no-pages": "the PDF has no pages",
    "unreadable": "the PDF cannot be read",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text; `page_starts` are the offsets at which its pages begin, empty if it has none.

    `is_complete` is False if a limit left some of it out.
    """

    text: str
    page_starts: tuple[int, ...] = ()
    is_complete: bool = True

    def page_at(self, offset: int) -> int | None:
        """Return the page, from 1, that the character at `offset` is on."""
        return bisect_right(self.page_starts, offset) or None


def _unreadable(kind: str, what: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, kind, what)


def suffix_of(path: str) -> str:
    """Return the suffix that decides how a file is read. Raises Problem 422 for any other."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        what = f"only {', '.join(SUFFIXES)} files are read"
        raise _unreadable("file-kind", what)
    return suffix


async def read(data: bytes, suffix: str, *, limits: Limits) -> Document:
    """Return the document in `data`. Raises Problem 422 if it cannot be read within `limits`."""
    if suffix == ".pdf":
        return await read_pdf(data, limits=limits)
    text = decode(data)
    return Document(
        text=text[: limits.max_document_chars],
        is_complete=len(text) <= limits.max_document_chars,
    )


def decode(data: bytes) -> str:
    """Return the text in `data`: UTF-8, UTF-16 with its mark, or else Windows' Western one.

    Raises Problem 422 for bytes that are no text.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if b"\0" in data:
            message = "the file is not text"
            raise _unreadable("not-text", message) from None
        return data.decode("cp1252", "replace")


async def read_pdf(data: bytes, *, limits: Limits) -> Document:
    """Return the text of a PDF, read by a process of its own that is killed when time is up.

    Twelve kilobytes of PDF can cost a minute of CPU, and no option of a parser prevents it.
    Raises Problem 422.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-B",
        worker.__file__,
        str(limits.max_pages),
        str(limits.max_document_chars),
        str(math.ceil(limits.document_timeout_s)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(limits.document_timeout_s):
            output, _ = await process.communicate(data)
    except TimeoutError as error:
        what = f"the PDF could not be read within {limits.document_timeout_s:g} seconds"
        raise _unreadable("document-timeout", what) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return _document(output)


def _document(output: bytes) -> Document:
    try:
        answer = json.loads(output)
    except ValueError as error:  # killed by a limit, or crashed
        what = "the PDF could not be read: its reader ended early"
        raise _unreadable("document-crash", what) from error
    if "error" in answer:
        kind = str(answer["error"])
        raise _unreadable(f"document-{kind}", _ERRORS.get(kind, _ERRORS["unreadable"]))
    starts: list[int] = []
    offset = 0
    for page in answer["pages"]:
        starts.append(offset)
        offset += len(page) + len(PAGE_BREAK)
    return Document(
        text=PAGE_BREAK.join(answer["pages"]),
        page_starts=tuple(starts),
        is_complete=bool(answer["complete"]),
    )


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
    spans: Sequence[tuple[int, int]], *, size: int, overlap: int
) -> Iterator[tuple[int, int]]:
    """Yield start and end, in characters, of chunks of at most `size` tokens.

    `spans` are the places of a text's tokens; neighbours share `overlap` of them.
    """
    for first in range(0, len(spans), size - overlap):
        last = min(first + size, len(spans)) - 1
        yield spans[first][0], spans[last][1]
        if last == len(spans) - 1:
            return


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
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too-much-overlap", what, next_step=step)
        taken.append((start, end))
    return taken, True
