"""NOTICES.txt: what is in the bundle, under which licence, and the text of every licence."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bundler.papers.licences import Document, Package

RULE: Final = "-" * 78
# A licence without a holder's name in it reads the same in every package.
COMMON: Final = {"Apache-2.0": ("apache license", "version 2.0, january 2004")}
# The others differ in the holder's name alone: phrases that each has, and one that it has not.
BSD: Final = "redistribution and use in source and binary forms"
ENDORSEMENT: Final = "neither the name"
TERMS: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "MIT": (("permission is hereby granted, free of charge",), "except as contained in this"),
    "BSD-2-Clause": ((BSD,), ENDORSEMENT),
    "BSD-3-Clause": ((BSD, ENDORSEMENT), "4. "),
}
SINGLE: Final = re.compile(r"(?!LicenseRef)[\w.+-]+")
# A longer text holds more than the one licence.
LONGEST_TERMS: Final = 1_800


def render(packages: Iterable[Package]) -> bytes:
    """Return NOTICES.txt: UTF-8, LF, the same bytes for the same packages in any order.

    First each package with its licence and the numbers of its texts, then each text once, with
    the packages that brought it. Where a package brings no text, that is said.
    """
    listed = sorted(packages, key=lambda package: (package.name.lower(), package.version))
    numbers: dict[str, int] = {}
    bodies: list[str] = []
    users: list[list[str]] = []
    marks: list[list[str]] = []
    for package in listed:
        own = []
        for document in package.texts:
            body = text_of(document)
            key = hashlib.sha256(body.encode()).hexdigest()
            if key not in numbers:
                numbers[key] = len(bodies) + 1
                bodies.append(body)
                users.append([])
            number = numbers[key]
            users[number - 1].append(f"{package.title}: {document.path}")
            own.append(f"    [{number}] {document.path}")
        marks.append(own)
    lines = [
        "NOTICES",
        "",
        f"This bundle contains {len(listed)} packages, which come under the licences below.",
        f"Part 1 lists the packages, part 2 the {len(bodies)} licence texts they bring.",
        "",
        RULE,
        "Part 1: packages",
        RULE,
        "",
    ]
    for package, own in zip(listed, marks, strict=True):
        licence = package.expression or f"unknown (declared: {package.declared or 'nothing'})"
        lines += [package.title, f"  Licence: {licence}"]
        lines += [f"  Copyright: {package.copyright}"] if package.copyright else []
        lines += ["  Texts:", *own] if own else [f"  Texts: {_instead(package, bodies)}"]
        lines.append("")
    lines += [RULE, "Part 2: licence texts", RULE]
    for number, (body, names) in enumerate(zip(bodies, users, strict=True), 1):
        lines += [
            "",
            RULE,
            f"[{number}]",
            *(f"  {name}" for name in names),
            RULE,
            "",
            body,
        ]
    return ("\n".join(lines) + "\n").encode()


def text_of(document: Document) -> str:
    """Return a text as UTF-8 with LF and no white space at line ends, so equal texts compare so.

    Bytes that are no UTF-8 are read as Latin-1, which is what such old files are.
    """
    try:
        text = document.data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = document.data.decode("latin-1")
    unified = text.replace("\r\n", "\n").replace("\r", "\n")
    return "\n".join(line.rstrip() for line in unified.split("\n")).strip("\n")


def _instead(package: Package, bodies: Sequence[str]) -> str:
    """Return what stands for the texts of a package that brings none."""
    expression = package.expression
    for number, body in enumerate(bodies, 1):
        start = " ".join(body[:400].split()).lower()
        if all(part in start for part in COMMON.get(expression, ("\0",))):
            return f"the package brings none; {expression} is [{number}]"
    for number, body in enumerate(bodies, 1):
        if package.copyright and _is_terms(body, expression):
            return f"the package brings none; its terms are those of [{number}]"
    if package.inside and SINGLE.fullmatch(expression):
        return f"the package brings none; https://spdx.org/licenses/{expression}.html has it"
    return "the package brings none"


def _is_terms(body: str, expression: str) -> bool:
    """Return whether `body` is the licence `expression` and nothing else, whoever holds it."""
    has, lacks = TERMS.get(expression, ((), ""))
    text = " ".join(body.split()).lower()
    if not has or len(text) > LONGEST_TERMS:
        return False
    return all(phrase in text for phrase in has) and lacks not in text
