"""A page's characters, as a PDF has them, to the text that its reader sees: pure functions.

Only what stands for letters is rewritten: ², ½, № and full-width forms mean something as they are,
so this is no compatibility normalisation (NFKC) of everything.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field

# What PDFium writes for a hyphen at the end of a line, whose break it leaves out.
HYPHEN = "\x02"
REPLACEMENT = "\ufffd"
BULLET = "\u2022"
# The accents that some programs draw over a letter of their own, and the marks that combine.
ACCENTS = dict(
    zip(
        "`\u00b4^\u02c6~\u02dc\u00af\u02d8\u02d9\u00a8\u02da\u02dd\u02c7\u00b8\u02db",
        "\u0300\u0301\u0302\u0302\u0303\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327\u0328",
        strict=True,
    )
)
# Letters without the dot that an accent takes the place of.
_DOTLESS = {"\u0131": "i", "\u0237": "j"}
# Ligatures, and the forms that neighbours give a letter; not the phrases from U+FDF0 on.
_FORMS = "\ufb00-\ufb06\ufb13-\ufb17\ufb1d-\ufb4f\ufb50-\ufdcf\ufe70-\ufefc"
_MARKS = "\u0300-\u036f"
_SPACES = "\u00a0\u2000-\u200a\u202f\u205f"
# Soft hyphens, joints of width zero, and marks of direction, whose work is done.
_UNSEEN = "\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff"
# Controls but HYPHEN, line feed and tab; no characters; private use; and what was replaced already.
_UNKNOWN = (
    "\x00\x01\x03-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffd-\uffff"
    "\ue000-\uf8ff\U000f0000-\U0010ffff"
)
_REWRITTEN = re.compile(f"([{_FORMS}])|([^\\W\\d_][{_MARKS}]+)|([{_SPACES}])|[{_UNSEEN}]")
_UNKNOWNS = re.compile(f"[{_UNKNOWN}]+")
_BREAKS = re.compile("[\r\x0b\x0c\x85\u2028\u2029]")
_BLANKS = re.compile(" {1,8}\n")
_SPECIAL = re.compile(f"[\u2028\u2029{_FORMS}{_MARKS}{_SPACES}{_UNSEEN}{_UNKNOWN}]")
# Each way begins with a letter, which is looked for fast.
_DIVISION = re.compile(f"(?:{HYPHEN}[ \t]*\n?|-\n|\u2010\n)[ \t]*")
_FIRST = re.compile("[\\w'\u2019]*[^\\W_]")  # from its end on
_REST = re.compile("[^\\W_]\\w*")
# The most characters of a word that is put together.
_WORD = 80
# "pre- and postwar": the hyphen stands for the rest of a word.
_SUSPENDED = frozenset(
    ("and", "or", "to", "und", "oder", "bzw", "sowie", "bis", "et", "ou", "y", "o", "e", "en", "of")
)
_KEEPING = frozenset(("self", "quasi"))


@dataclass(slots=True, kw_only=True)
class Page:
    """A page's text, its losses and its notes, both counted by kind."""

    text: str = ""
    losses: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)


def normal(text: str, *, before: str = "") -> Page:
    """Return `text` as it is read. `before` is text that came earlier, which tells words apart.

    `text` has words divided at line ends by HYPHEN, or by a hyphen and a line feed.
    """
    text = text.replace("\r\n", "\n").rstrip(" ")
    if " \n" in text:
        text = _BLANKS.sub("\n", text)
    lost = symbols = 0
    if _SPECIAL.search(text):  # most pages have nothing of all that
        text = letters(_BREAKS.sub("\n", text))
        text, lost, symbols = known(text)
    text, hyphens = joined(text, before=before)
    losses, notes = Counter(encoding=lost), Counter(symbols=symbols, hyphens=hyphens)
    return Page(text=text, losses=+losses, notes=+notes)


def letters(text: str) -> str:
    """Return `text` with ligatures, forms and combined accents as letters, and nothing unseen."""
    return _REWRITTEN.sub(_rewritten, text)


def _rewritten(found: re.Match[str]) -> str:
    form, marked, space = found.groups()
    if form:
        # Marks alone are written with a space to stand on.
        return unicodedata.normalize("NFKC", form).lstrip(" ")
    if marked:
        return unicodedata.normalize("NFC", marked)
    return " " if space else ""


def known(text: str) -> tuple[str, int, int]:
    """Return `text` without characters that say nothing, how many were letters, how many symbols.

    Those in words or beside them are letters that nothing tells: U+FFFD stands for a row of them.
    One that stands alone is a symbol: a bullet at the start of a line, else U+FFFD, too.
    """
    lost = symbols = 0

    def replaced(found: re.Match[str]) -> str:
        nonlocal lost, symbols
        start, end = found.span()
        beside = text[start - 1 : start] + text[end : end + 1]
        if end - start > 1 or any(character.isalnum() for character in beside):
            lost += end - start
            return REPLACEMENT
        symbols += 1
        line = text[text.rfind("\n", 0, start) + 1 : start]
        return REPLACEMENT if line.strip() else BULLET

    return _UNKNOWNS.sub(replaced, text), lost, symbols


def joined(text: str, *, before: str = "") -> tuple[str, int]:
    """Return `text` with words whole that the end of a line divided, and how many.

    A hyphen that belongs to the word is kept: before a capital or a digit, after a single letter,
    or where the text has the word with it elsewhere, and never without.
    """
    out: list[str] = []
    last, at, count = "", 0, 0
    for found in _DIVISION.finditer(text):
        start, end = found.span()
        last = (last + text[at:start])[-_WORD:]
        first, rest = _FIRST.match(last[::-1]), _REST.match(text, end)
        if first is None or rest is None:
            joint = found[0].replace(HYPHEN, "-")
        elif rest[0] in _SUSPENDED:
            joint = "- "
        else:
            count += 1
            joint = "-" * _keeps(first[0][::-1], rest[0], (before, text))
        out += [text[at:start], joint]
        last += joint
        at = end
    return "".join([*out, text[at:]]), count


def _keeps(first: str, rest: str, texts: tuple[str, str]) -> bool:
    """Return whether a hyphen between `first` and `rest` is the word's own."""
    if not (rest[0].islower() and first[-1].islower()):
        is_shouted = first.isupper() and rest.isupper() and len(first) > 1
        is_other_script = not (rest[0].isupper() or rest[0].isdigit() or first[-1].isdigit())
        return not (is_shouted or is_other_script) or (first[-1].isupper() and rest[0].islower())
    if any(f"{first}-{rest}" in text for text in texts):
        return not any(first + rest in text for text in texts)
    return len(first) == 1 or first.lower() in _KEEPING


def accented(text: str, places: frozenset[int]) -> str:
    """Return `text` with the accents at `places`, in characters, upon the letters after them."""
    out: list[str] = []
    at = 0
    for place in sorted(places):
        letter = text[place + 1]
        marked = _DOTLESS.get(letter, letter) + ACCENTS[text[place]]
        out += [text[at:place], unicodedata.normalize("NFC", marked)]
        at = place + 2
    return "".join([*out, text[at:]])
