"""Under which licences a package comes, and whether the recipe allows them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from license_expression import (  # type: ignore[import-untyped]
    AND,
    OR,
    ExpressionError,
    Licensing,
)
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.metadata import parse_email
from packaging.utils import canonicalize_name

from bundler.errors import PolicyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

WORD: Final = re.compile(r"[\w.+-]+")
TEXT_NAMES: Final = ("licen[cs]e*", "copying*", "copyright*", "notice*", "authors*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file that a package brings along: its path inside the package's metadata, its bytes."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Something in the bundle with a licence: a wheel, the runtime, a library in it, a model.

    `expression` is SPDX, empty where nobody knows; `declared` is what its metadata says, word for
    word. `texts` are licences and notices, `sboms` what PEP 770 lets a wheel say of its inside.
    `inside` is what a library without a version of its own was linked into; `copyright` its notice.
    """

    name: str
    version: str
    expression: str
    declared: str = ""
    texts: tuple[Document, ...] = ()
    sboms: tuple[Document, ...] = ()
    inside: str = ""
    copyright: str = ""

    @property
    def title(self) -> str:
        """Return what people read: its name, and which one it is."""
        return (
            f"{self.name}, inside {self.inside}" if self.inside else f"{self.name} {self.version}"
        )


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
            raise _misfit(f"the ruling on {one.get('name', 'a package')} has no reason")
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


def read(dist_info: Mapping[str, bytes], policy: LicencePolicy) -> Package:
    """Return the package with these files in its `.dist-info`, its texts and SBOMs with it.

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
            _spdx(raw.get("license_expression", ""))
            or policy.spellings.get(field_text, "")
            or _spdx(field_text)
            or (" AND ".join(dict.fromkeys(spelled)) if spelled and all(spelled) else "")
        )
    return Package(
        name=name,
        version=version,
        expression=expression,
        # Older packages put the whole text there; its first line is enough to name it.
        declared=declared.splitlines()[0].strip() if declared else "",
        texts=tuple(_documents(dist_info, "licenses", TEXT_NAMES)),
        sboms=tuple(_documents(dist_info, "sboms", ())),
    )


def require_allowed(packages: Iterable[Package], policy: LicencePolicy) -> None:
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
            f"{len(faults)} licences are refused, whatever they are part of",
            why="\n".join(faults),
            next_step="lock a build without that part; the recipe's [licences].refused lists them",
        )


def _demanded(expression: str, refused: tuple[str, ...]) -> set[str]:
    """Return the licences of `refused` that no choice of the expression avoids."""
    if not _spdx(expression):
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


def _spdx(text: str) -> str:
    """Return `text` as a canonical SPDX expression, or nothing if it is none."""
    try:
        return str(canonicalize_license_expression(text)) if text else ""
    except InvalidLicenseExpression:
        return ""


def _canonical(text: str) -> str:
    """Return `text`, or an exception of it such as `A WITH B`, in canonical form."""
    found = _spdx(text)
    if not found:
        raise _misfit(f"{text!r} is no SPDX expression")
    return found


def _misfit(why: str) -> UsageError:
    return UsageError(
        "the recipe's [licences] cannot be used",
        why=why,
        next_step="correct it in bundle/recipe.toml; the identifiers are SPDX's",
    )


def _documents(
    dist_info: Mapping[str, bytes], folder: str, names: tuple[str, ...]
) -> Iterator[Document]:
    """Yield the files below `folder`, and those beside METADATA that are named like `names`."""
    for path in sorted(dist_info):
        is_beside = any(fnmatchcase(path.lower(), name) for name in names) and "/" not in path
        if is_beside or path.startswith(f"{folder}/"):
            yield Document(path=path, data=dist_info[path])
