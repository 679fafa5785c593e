"""Under which licences a package comes, whether the recipe allows them, and NOTICES.txt.

The notices list what is in the bundle, under which licence, and the text of every licence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from license_expression import AND, OR, ExpressionError, Licensing  # type: ignore[import-untyped]
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.metadata import parse_email
from packaging.utils import canonicalize_name

from bundler.errors import PolicyError, UsageError
from bundler.recipe import misfit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bundler.digests import Artifact

PYTHON: Final = "Python-2.0"
WORD: Final = re.compile(r"[\w.+-]+")
TEXT_NAMES: Final = ("licen[cs]e*", "copying*", "copyright*", "notice*", "authors*")


@dataclass(frozen=True, slots=True, kw_only=True)
class LicensedPart:
    """Something in the bundle with a licence: a wheel, the runtime, a library in it, a model.

    `expression` is SPDX, empty if unknown; `declared` is what its metadata says, word for word.
    `texts` are licences and notices by their path in the metadata. `inside` is what a library
    without a version of its own was linked into; `copyright` its notice.
    """

    name: str
    version: str
    expression: str
    declared: str = ""
    texts: Mapping[str, bytes] = field(default_factory=dict)
    inside: str = ""
    copyright: str = ""

    @property
    def title(self) -> str:
        """Return what people read: its name, and which one it is."""
        return (
            f"{self.name}, inside {self.inside}" if self.inside else f"{self.name} {self.version}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LicensedWheel(LicensedPart):
    """A wheel: its locked file, and what PEP 770 lets it say of its inside."""

    artifact: Artifact
    sboms: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What the recipe says of one package: its true licence, further ones it may have, and why."""

    reason: str
    expression: str = ""
    allowed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class LicencePolicy:
    """Which SPDX licences may ship, how packages spell them, and the packages that are special.

    `refused` are globs over licences that nothing may demand, not even part of a package.
    """

    allowed: frozenset[str]
    refused: tuple[str, ...] = ()
    spellings: Mapping[str, str] = field(default_factory=dict)
    rulings: Mapping[str, Ruling] = field(default_factory=dict)


def from_recipe(table: Mapping[str, Any]) -> LicencePolicy:
    """Return the policy of the recipe's [licences] table. Raises UsageError."""
    rulings: dict[str, Ruling] = {}
    for one in table.get("package", ()):
        if not one.get("reason", "").strip():
            raise misfit("licences", f"the ruling on {one.get('name', 'a package')} has no reason")
        rulings[canonicalize_name(one.get("name", ""))] = Ruling(
            reason=one["reason"],
            expression=_canonical(one["expression"]) if "expression" in one else "",
            allowed=frozenset(map(_canonical, one.get("allow", ()))),
        )
    return LicencePolicy(
        allowed=frozenset(map(_canonical, table.get("allowed", ()))),
        refused=tuple(table.get("refused", ())),
        spellings={raw: _canonical(spdx) for raw, spdx in table.get("spellings", {}).items()},
        rulings=rulings,
    )


def read(
    dist_info: Mapping[str, bytes], policy: LicencePolicy, artifact: Artifact
) -> LicensedWheel:
    """Return the wheel with these files in its `.dist-info`, its texts and SBOMs with it.

    The licence is the policy's ruling, else License-Expression (PEP 639), else the older License
    field, else the classifiers, the last two by the policy's spellings.
    """
    raw, _ = parse_email(dist_info["METADATA"])
    name, version = raw.get("name", ""), raw.get("version", "")
    field_text = raw.get("license", "").strip()
    classifiers = [c for c in raw.get("classifiers", ()) if c.startswith("License ::")]
    declared = raw.get("license_expression", "") or field_text or "; ".join(classifiers)
    ruling = policy.rulings.get(canonicalize_name(name))
    if ruling is not None and ruling.expression:
        expression = ruling.expression
    else:
        spelled = [policy.spellings.get(classifier, "") for classifier in classifiers]
        expression = (
            spdx(raw.get("license_expression", ""))
            or policy.spellings.get(field_text, "")
            or spdx(field_text)
            or (" AND ".join(dict.fromkeys(spelled)) if spelled and all(spelled) else "")
        )
    return LicensedWheel(
        name=name,
        version=version,
        expression=expression,
        # Older packages put the whole text there; its first line is enough to name it.
        declared=declared.splitlines()[0].strip() if declared else "",
        texts=_texts(dist_info, "licenses", TEXT_NAMES),
        sboms=_texts(dist_info, "sboms", ()),
        artifact=artifact,
    )


def require_allowed(packages: Iterable[LicensedPart], policy: LicencePolicy) -> None:
    """Raise PolicyError, naming every package whose licence is unknown or not allowed."""
    faults = []
    for package in sorted(packages, key=lambda package: package.name.lower()):
        if not package.expression:
            said = f"its metadata says {package.declared!r}" if package.declared else "it says none"
            faults.append(f"{package.title}: the licence is unknown, {said}")
            continue
        ruling = policy.rulings.get(canonicalize_name(package.name))
        allowed = policy.allowed | (ruling.allowed if ruling else frozenset())
        denied = sorted(_denied(_parsed(package.expression), allowed.__contains__))
        if denied:
            faults.append(f"{package.title}: {', '.join(denied)} is not allowed")
    if faults:
        raise PolicyError(
            f"{len(faults)} licences are refused",
            why="\n".join(faults),
            next_step="take the package out, allow the licence in the recipe's [licences], or rule "
            "on the package in [[licences.package]] with a reason",
        )


def require_none_refused(parts: Iterable[tuple[str, str]], policy: LicencePolicy) -> None:
    """Raise PolicyError, naming every part (a name, an expression) whose licence is refused.

    An expression that is not SPDX's is refused for a word of it.
    """
    faults = []
    for name, expression in parts:
        denied = sorted(_demanded(expression, policy.refused))
        if denied:
            faults.append(f"{name}: {', '.join(denied)}")
    if faults:
        raise PolicyError(
            f"{len(faults)} licences are refused in every file",
            why="\n".join(faults),
            next_step="lock a build without that part; the recipe's [licences].refused lists them",
        )


def _demanded(expression: str, refused: tuple[str, ...]) -> set[str]:
    """Return the licences of `refused` that no choice of the expression avoids."""
    if not spdx(expression):
        return {word for word in WORD.findall(expression) if _matches(word, refused)}
    return _denied(_parsed(expression), lambda leaf: not _matches(leaf, refused))


def _matches(leaf: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(leaf.lower(), glob.lower()) for glob in globs)


@cache
def _parsed(expression: str) -> Any:  # noqa: ANN401 - boolean.py's nodes carry no types
    """Return the tree of an SPDX expression."""
    try:
        return Licensing().parse(expression)
    except ExpressionError as error:
        raise UsageError(
            f"{expression!r} is no licence expression",
            why=str(error),
            next_step="write it in SPDX's way, e.g. MIT OR Apache-2.0",
        ) from error


def _denied(node: Any, is_allowed: Callable[[str], bool]) -> set[str]:  # noqa: ANN401 - as above
    """Return the licences that `node` demands and that are not allowed: of OR the best choice."""
    if isinstance(node, AND):
        return set().union(*(_denied(part, is_allowed) for part in node.args))
    if isinstance(node, OR):
        return min((_denied(part, is_allowed) for part in node.args), key=len)
    leaf = str(node)
    return set() if is_allowed(leaf) else {leaf}


def spdx(text: str) -> str:
    """Return `text` as a canonical SPDX expression, or nothing if it is none."""
    try:
        return str(canonicalize_license_expression(text)) if text else ""
    except InvalidLicenseExpression:
        return ""


def _canonical(text: str) -> str:
    """Return `text`, or an exception of it such as `A WITH B`, in canonical form."""
    found = spdx(text)
    if not found:
        raise misfit("licences", f"{text!r} is no SPDX expression")
    return found


def _texts(dist_info: Mapping[str, bytes], folder: str, names: tuple[str, ...]) -> dict[str, bytes]:
    """Return the files below `folder`, and those beside METADATA that are named like `names`."""
    return {
        path: dist_info[path]
        for path in sorted(dist_info)
        if path.startswith(f"{folder}/") or ("/" not in path and _matches(path, names))
    }


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


def render_notices(packages: Iterable[LicensedPart]) -> bytes:
    """Return NOTICES.txt: UTF-8, LF, the same bytes for the same packages in any order.

    First each package with its licence and the numbers of its texts, then each text once, with
    the packages that brought it. Where a package brings no text, that is said.
    """
    listed = sorted(packages, key=lambda package: (package.name.lower(), package.version))
    users: dict[str, list[str]] = {}
    for package in listed:
        for path, data in package.texts.items():
            users.setdefault(plain_text(data), []).append(f"{package.title}: {path}")
    bodies = list(users)
    numbers = {body: number for number, body in enumerate(bodies, 1)}
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
    for package in listed:
        own = [f"    [{numbers[plain_text(data)]}] {path}" for path, data in package.texts.items()]
        licence = package.expression or f"unknown (declared: {package.declared or 'nothing'})"
        lines += [package.title, f"  Licence: {licence}"]
        lines += [f"  Copyright: {package.copyright}"] if package.copyright else []
        lines += ["  Texts:", *own] if own else [f"  Texts: {_instead(package, bodies)}"]
        lines.append("")
    lines += [RULE, "Part 2: licence texts", RULE]
    for body, names in users.items():
        brought = (f"  {name}" for name in names)
        lines += ["", RULE, f"[{numbers[body]}]", *brought, RULE, "", body]
    return ("\n".join(lines) + "\n").encode()


def plain_text(data: bytes) -> str:
    """Return a text as UTF-8 with LF and no white space at line ends, so equal texts compare so.

    Bytes that are no UTF-8 are read as Latin-1, which is what such old files are.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    unified = text.replace("\r\n", "\n").replace("\r", "\n")
    return "\n".join(line.rstrip() for line in unified.split("\n")).strip("\n")


def _instead(package: LicensedPart, bodies: Sequence[str]) -> str:
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
    """Return whether `body` is the licence `expression` and nothing else, for any holder."""
    has, lacks = TERMS.get(expression, ((), ""))
    text = " ".join(body.split()).lower()
    if not has or len(text) > LONGEST_TERMS:
        return False
    return all(phrase in text for phrase in has) and lacks not in text
