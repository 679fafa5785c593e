"""What the audit takes for granted of each operating system, and what a person has excused.

All of it is data from the recipe; nothing about any one library is decided in code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from bundler.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SYSTEM_KEYS = frozenset(
    {
        *("floor", "system", "required", "runtime", "introduced", "versioned"),
        *("folder", "duplicate", "waiver"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DllFolder:
    """A folder that a package adds to Windows' search for the files that match `importers`."""

    importers: str
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Libraries of which one process should have one copy, and what happens with two."""

    name: str
    files: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forbidden:
    """A library that no file may hold, linked in or not: words of its data, and why it may not."""

    name: str
    markers: tuple[bytes, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """A finding that is known and accepted: where, about what, and why that is right.

    `path` is a glob over bundle paths (`*` passes slashes too), `subject` one over what a finding
    is about: an import, a search folder, a family, a number.
    """

    path: str
    subject: str
    reason: str

    def covers(self, path: str, subject: str) -> bool:
        """Return whether this waiver is about a finding on `path` about `subject`."""
        return fnmatchcase(path, self.path) and matches(subject, (self.subject,))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRules:
    """What one operating system offers, and what its audit must find or may pass.

    `system` libraries stand on every machine; `required` ones are allowed and reported, because a
    bare machine or image lacks them. `runtime` are those that CPython brings, for a tree that is
    audited without it; with it they must be found like any other. `floor` is the oldest system
    that the bundle promises to run on; `introduced` names system libraries that came with a later
    version than that; `versioned` libraries must be no older than the tools that built what
    imports them.
    """

    system: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ()
    floor: str = ""
    introduced: Mapping[str, str] = field(default_factory=dict)
    versioned: tuple[str, ...] = ()
    folders: tuple[DllFolder, ...] = ()
    families: tuple[Family, ...] = ()
    forbidden: tuple[Forbidden, ...] = ()
    waivers: tuple[Waiver, ...] = ()

    def is_system(self, name: str) -> bool:
        """Return whether every machine has the library `name`."""
        return matches(name, self.system)

    def is_required(self, name: str) -> bool:
        """Return whether `name` is left to the machine, which may lack it."""
        return matches(name, self.required)

    def is_of_runtime(self, name: str) -> bool:
        """Return whether CPython brings the library `name`."""
        return matches(name, self.runtime)


def matches(name: str, globs: Iterable[str]) -> bool:
    """Return whether `name` matches one of `globs`, case aside."""
    folded = name.lower()
    return any(fnmatchcase(folded, glob.lower()) for glob in globs)


def from_recipe(table: Mapping[str, Any], *, system: str, target: str) -> AuditRules:
    """Return the rules for one target from the recipe's [audit] table.

    `table["duplicate"]` and `table["forbidden"]` hold for all; `table[system]` (linux, mac, win)
    has the rest, where a waiver may name the `target` it is for. Raises UsageError for a key that
    means nothing, a part that is missing, or a waiver without a reason.
    """
    own: Mapping[str, Any] = table.get(system, {})
    unknown = sorted(set(own) - _SYSTEM_KEYS)
    if unknown:
        raise _misfit(system, f"{', '.join(unknown)} is unknown there")
    waivers = [w for w in own.get("waiver", ()) if w.get("target", target) == target]
    if any(not waiver.get("reason", "").strip() for waiver in waivers):
        raise _misfit(system, "a waiver has no reason")
    try:
        return AuditRules(
            system=tuple(own["system"]),
            required=tuple(own.get("required", ())),
            runtime=tuple(own.get("runtime", ())),
            floor=own["floor"],
            introduced={name.lower(): since for name, since in own.get("introduced", {}).items()},
            versioned=tuple(own.get("versioned", ())),
            folders=tuple(
                DllFolder(importers=one["for"], folder=one["folder"])
                for one in own.get("folder", ())
            ),
            families=tuple(
                Family(name=one["name"], files=tuple(one["files"]), why=one["why"])
                for one in _chain(table.get("duplicate", ()), own.get("duplicate", ()))
            ),
            forbidden=tuple(
                Forbidden(
                    name=one["name"],
                    markers=tuple(marker.encode() for marker in one["markers"]),
                    why=one["why"],
                )
                for one in table.get("forbidden", ())
            ),
            waivers=tuple(
                Waiver(path=one["path"], subject=one["subject"], reason=one["reason"])
                for one in waivers
            ),
        )
    except KeyError as error:
        raise _misfit(system, f"{error.args[0]!r} is missing") from error


def _chain(*parts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the tables of all parts in one list."""
    return [one for part in parts for one in part]


def _misfit(system: str, why: str) -> UsageError:
    """Return the error for a table that cannot be used."""
    return UsageError(
        f"the recipe's [audit.{system}] cannot be used",
        why=why,
        next_step="correct it in bundle/recipe.toml",
    )
