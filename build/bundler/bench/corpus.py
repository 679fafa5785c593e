"""Real text to measure with, found on this machine and never kept in the repository.

Half is Python's own documentation topics, which every CPython of a version has alike; the rest is
what Debian's packages bring under /usr/share/doc, where there is such a folder. Which paragraphs
are taken follows from their text alone, so the same sources give the same corpus, and `digest`
tells whether two runs had the same one.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

PYTHON = "Python's documentation topics (pydoc_data.topics)"
DEBIAN = "documentation of Debian's packages (/usr/share/doc)"
NAMED = re.compile(r"(\.(txt|md|rst)|README|NEWS|FAQ)[^/]*$")
LARGEST_FILE = 200_000
SHORTEST, LONGEST, FEWEST_WORDS = 40, 1_500, 6
PROSE = 0.8  # of the characters are letters and spaces: no tables, no code
UNDERLINE = re.compile(r"^([*=\-~^\"])\1{2,}$")
BINS = (8, 16, 32, 48, 64, 96, 128, 192, 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """A text, and the title of the section it stands under where that is known."""

    text: str
    source: str
    title: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The texts of a run, in mixed order, and where they are from."""

    paragraphs: tuple[Paragraph, ...]

    @property
    def texts(self) -> list[str]:
        """The texts alone."""
        return [paragraph.text for paragraph in self.paragraphs]

    @property
    def digest(self) -> str:
        """The sha256 of all texts in order."""
        return hashlib.sha256("\0".join(self.texts).encode()).hexdigest()

    def sources(self) -> dict[str, int]:
        """Return how many texts are from each source."""
        names = [paragraph.source for paragraph in self.paragraphs]
        return {name: names.count(name) for name in sorted(set(names))}


def gather(count: int, *, topics: Iterable[str], folder: Path | None) -> Corpus:
    """Return up to `count` distinct paragraphs of `topics` and of the files below `folder`.

    At most half are of `topics`, unless `folder` has too few. The order is that of the texts'
    digests: as good as lots, and the same everywhere.
    """
    first = _chosen(paragraph for topic in topics for paragraph in titled(topic))
    rest = _chosen(_files(folder)) if folder is not None and folder.is_dir() else []
    known = {paragraph.text for paragraph in first}
    rest = [paragraph for paragraph in rest if paragraph.text not in known]
    share = max(count // 2, count - len(rest))
    taken = [*first[:share], *rest[: count - len(first[:share])]]
    return Corpus(paragraphs=tuple(sorted(taken, key=_rank)))


def titled(text: str) -> Iterator[Paragraph]:
    """Yield the paragraphs of one documentation topic, each under the last underlined title."""
    title = None
    for block in _blocks(text):
        lines = block.splitlines()
        if len(lines) == 2 and UNDERLINE.match(lines[1].strip()):  # noqa: PLR2004 - a line and its rule
            title = lines[0].strip().replace('"', "")
        elif (found := " ".join(block.split())) and is_prose(found):
            yield Paragraph(text=found, source=PYTHON, title=title)


def is_prose(text: str) -> bool:
    """Return whether `text` is a sentence or a few, rather than code, a table or a heading."""
    if not SHORTEST <= len(text) <= LONGEST or len(text.split()) < FEWEST_WORDS:
        return False
    return sum(c.isalpha() or c == " " for c in text) / len(text) > PROSE


def histogram(lengths: Sequence[int]) -> list[tuple[str, int]]:
    """Return how many texts have up to so many tokens, bin by bin."""
    rows, low = [], 0
    for high in (*BINS, max([BINS[-1], *lengths])):
        found = sum(low < length <= high for length in lengths)
        if high > low:
            rows.append((f"{low + 1}-{high}", found))
        low = high
    return rows


def _files(folder: Path) -> Iterator[Paragraph]:
    for path in sorted(folder.rglob("*")):
        if not NAMED.search(path.name) or path.is_symlink() or not path.is_file():
            continue
        try:
            data = path.read_bytes() if path.stat().st_size <= LARGEST_FILE else b""
            text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        except (OSError, EOFError, ValueError):
            continue  # not readable, not whole, or not UTF-8
        for block in _blocks(text):
            if is_prose(found := " ".join(block.split())):
                yield Paragraph(text=found, source=DEBIAN)


def _blocks(text: str) -> list[str]:
    return re.split(r"\n[ \t]*\n", text.strip("\n"))


def _chosen(paragraphs: Iterable[Paragraph]) -> list[Paragraph]:
    """Return each text once, by rank; the first that has it gives its title."""
    distinct: dict[str, Paragraph] = {}
    for paragraph in paragraphs:
        distinct.setdefault(paragraph.text, paragraph)
    return sorted(distinct.values(), key=_rank)


def _rank(paragraph: Paragraph) -> bytes:
    return hashlib.sha256(paragraph.text.encode()).digest()
