"""Whether every native file of a tree will load on a bare machine, and how old that may be.

Reads the files, never loads them, so a tree for any target is audited on any machine.
"""

from __future__ import annotations

import mmap
import posixpath
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from bundler.assembly import binaries, linkage
from bundler.assembly.linkage import AuditRules, matches
from bundler.assembly.tree import files_of
from bundler.errors import PolicyError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bundler.assembly.binaries import Binary
    from bundler.assembly.linkage import Link, MinimumSystem
    from bundler.targets import Target

Severity = Literal["error", "warning"]
LEFT_TO_RUNTIME: Final = "left-to-runtime"
FORMATS: Final = {"linux": "elf", "mac": "macho", "win": "pe"}


UNRESOLVED: Final = (
    "add a package that ships it, drop the file with a diet rule, or, if every supported machine "
    "has it, allow it in the recipe's [audit]"
)
REMEDIES: Final = {
    "absolute-rpath": "take it out with patchelf or install_name_tool, or drop the file with a "
    "diet rule; a user who can write to that folder can inject code",
    "duplicate-library": "drop the package that brings the second, or keep both out of one process",
    "escaping-rpath": "take it out, or drop the file with a diet rule",
    "executable-stack": "clear the flag with patchelf --clear-execstack in a diet rule",
    "floor-too-low": "declare that floor in the recipe, or lock an older build; of a stand-in, "
    "assemble with the standalone runtime",
    "forbidden-library": "drop the file with a diet rule, or lock a build without that library",
    "foreign-format": "drop it with a diet rule",
    "idle-waiver": "remove the waiver from the recipe",
    LEFT_TO_RUNTIME: "assemble with the runtime; without it this cannot be checked",
    "older-runtime": "ship a newer one in its place, or lock an older build of the importer",
    "outside-import": UNRESOLVED,
    "text-relocations": "lock another build of it",
    "unreadable-binary": "fetch it again; if the locked file is damaged, drop it with a diet rule",
    "unresolved-import": UNRESOLVED,
    "unsigned-binary": "sign it (codesign -s - is enough outside a signed app)",
    "wrong-architecture": "lock the wheel for this target, or drop the file with a diet rule",
}


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something wrong with one file: a code to search for, what it is about, and what is wrong.

    A finding with `waived`, the reason from the recipe, does not fail.
    """

    code: str
    path: str
    subject: str
    what: str
    severity: Severity = "error"
    waived: str = ""

    @property
    def fails(self) -> bool:
        """Return whether this finding refuses the tree."""
        return self.severity == "error" and not self.waived


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What an audit found, in path order within each code, and the floor it computed."""

    target: str
    binaries: int
    findings: tuple[Finding, ...]
    floor: MinimumSystem

    @property
    def left_to_runtime(self) -> tuple[str, ...]:
        """Return the libraries that were taken to come with a runtime that was not audited."""
        found = {one.subject for one in self.findings if one.code == LEFT_TO_RUNTIME}
        return tuple(sorted(found))

    @property
    def failures(self) -> tuple[Finding, ...]:
        """Return the findings that refuse the tree."""
        return tuple(finding for finding in self.findings if finding.fails)


def audit(
    root: Path,
    target: Target,
    rules: AuditRules,
    *,
    floor_is_enforced: bool = True,
    lacks_runtime: bool = False,
) -> AuditReport:
    """Return what is wrong with the native files below `root`, a bundle made for `target`.

    `floor_is_enforced=False`, for the host's runtime as a stand-in, turns a floor above the
    declared one from an error into a warning. `lacks_runtime`, for a bundle without CPython, takes
    the libraries that it brings for granted, and warns of each.
    """
    architecture = target.name.rpartition("-")[2]
    if not lacks_runtime:
        rules = replace(rules, runtime=())
    tree: dict[str, Binary] = {}
    findings: list[Finding] = []
    for path in sorted(files_of(root)):
        try:
            binary = binaries.read(root / path, architecture=architecture)
        except VerificationError as error:
            subject = posixpath.basename(path)
            findings.append(Finding("unreadable-binary", path, subject, error.what))
            continue
        if binary is not None:
            tree[path] = binary
            findings += _forbidden(root, path, rules)
    foreign = list(_foreign(tree, FORMATS[target.os], architecture))
    outside = {finding.path for finding in foreign}
    native = {path: binary for path, binary in tree.items() if path not in outside}
    links = linkage.links(native, program=target.executable, architecture=architecture, rules=rules)
    computed = linkage.minimum_system(native, links, system=target.os, introduced=rules.introduced)
    findings += foreign
    findings += _unresolved(links)
    for path, binary in native.items():
        findings += _hazards(path, binary, target)
    findings += _outdated(native, links, rules)
    findings += _duplicates(native, rules)
    findings += _too_low(computed, rules, enforced=floor_is_enforced)
    return AuditReport(
        target=target.name,
        binaries=len(tree),
        findings=tuple(sorted(set(_waive(findings, rules)))),
        floor=computed,
    )


def require_clean(report: AuditReport) -> None:
    """Raise PolicyError if a finding of `report` fails it, telling the same of many files once."""
    if not report.failures:
        return
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in report.failures:
        groups.setdefault((finding.code, finding.subject), []).append(finding)
    lines = []
    for first, *others in groups.values():
        more = len({finding.path for finding in others} - {first.path})
        others_said = f" (and {more} more files)" if more else ""
        lines.append(f"error [{first.code}] {first.path}{others_said}: {first.what}")
        lines.append(f"  remedy: {REMEDIES[first.code]}")
    raise PolicyError(
        f"the binary audit of {report.target} found {len(report.failures)} failures",
        why="\n".join(lines),
        next_step="apply the remedies, or excuse one in the recipe with "
        f"[[audit.{report.target.partition('-')[0]}.waiver]] and its reason",
    )


def _forbidden(root: Path, path: str, rules: AuditRules) -> Iterator[Finding]:
    """Yield the forbidden libraries whose words the file holds."""
    if not rules.forbidden:
        return
    with (
        (root / path).open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        for library in rules.forbidden:
            found = [word for word in library.markers if data.find(word.encode()) != -1]
            if found:
                what = f"holds {library.name} (it says {found[0]!r}); {library.why}"
                yield Finding("forbidden-library", path, library.name, what)


def _foreign(tree: Mapping[str, Binary], expected: str, architecture: str) -> Iterator[Finding]:
    """Yield the binaries that this target cannot load at all."""
    for path, binary in tree.items():
        if binary.format != expected:
            # Launchers for other systems ship as package data; they weigh, they do not break.
            what = f"is a {binary.format} file in a bundle of {expected} files"
            yield Finding("foreign-format", path, binary.format, what, "warning")
        elif architecture not in binary.architectures:
            others = ", ".join(binary.architectures)
            what = f"is built for {others}, the target is {architecture}"
            yield Finding("wrong-architecture", path, others, what)


def _unresolved(links: list[Link]) -> Iterator[Finding]:
    """Yield the imports that nothing answers."""
    for link in links:
        name = link.wanted.name
        if link.provider == "runtime":
            what = f"imports {name}, presumably of the runtime, which is left out"
            yield Finding(LEFT_TO_RUNTIME, link.importer, name, what, "warning")
        if link.provider != "nothing":
            continue
        if name.startswith("/"):
            code, why = "outside-import", "names a place on the machine that built it"
        else:
            code = "unresolved-import"
            why = "is neither in the bundle where the loader looks nor part of the system"
        through = "" if link.root == link.importer else f" when {link.root} is loaded"
        severity: Severity = "warning" if link.wanted.optional else "error"
        what = f"imports {name}, which {why}{through}"
        yield Finding(code, link.importer, name, what, severity)


def _hazards(path: str, binary: Binary, target: Target) -> Iterator[Finding]:
    """Yield what is wrong with one file by itself."""
    if binary.has_executable_stack:
        what = "asks for executable stacks, which hardened kernels refuse"
        yield Finding("executable-stack", path, "PT_GNU_STACK", what)
    if binary.has_text_relocations:
        what = "writes into its own code as it is loaded, which hardened kernels refuse"
        yield Finding("text-relocations", path, "DT_TEXTREL", what)
    for rpath in binary.rpaths:
        if not rpath.startswith(("$ORIGIN", "${ORIGIN}", "@loader_path", "@executable_path")):
            what = f"searches {rpath}, a folder of the machine that built it"
            severity: Severity = "error" if _searches(binary) else "warning"
            yield Finding("absolute-rpath", path, rpath, what, severity)
        elif _leaves(path, rpath, target):
            what = f"searches {rpath}, which is outside the bundle"
            yield Finding("escaping-rpath", path, rpath, what)
    if binary.format == "macho" and binary.kind != "object" and not binary.is_signed:
        what = "has no signature, not even an ad-hoc one, and Apple silicon kills it"
        yield Finding("unsigned-binary", path, "code signature", what)


def _searches(binary: Binary) -> bool:
    """Return whether the loader uses the search folders: in Mach-O only for @rpath names."""
    return binary.format != "macho" or any(i.name.startswith("@rpath/") for i in binary.imports)


def _leaves(path: str, rpath: str, target: Target) -> bool:
    """Return whether a relative search folder lies outside the bundle."""
    mark, _, rest = rpath.partition("/")
    origin = target.executable if mark == "@executable_path" else path
    return posixpath.normpath(f"{posixpath.dirname(origin)}/{rest}").startswith("..")


def _outdated(
    tree: Mapping[str, Binary], links: list[Link], rules: AuditRules
) -> Iterator[Finding]:
    """Yield the imports answered by a runtime library older than the importer's tools.

    Microsoft keeps its C++ runtime compatible in one direction only: a newer one serves older code.
    """
    for link in links:
        if not link.found or not matches(link.wanted.name, rules.versioned):
            continue
        built, given = tree[link.importer].toolset, tree[link.found].version
        if given and linkage.version_key(given) < linkage.version_key(built):
            what = f"was built with {built} and gets {link.found}, which is {given}"
            # Wheels ship so themselves, and most of them work.
            yield Finding("older-runtime", link.importer, link.wanted.name, what, "warning")


def _duplicates(tree: Mapping[str, Binary], rules: AuditRules) -> Iterator[Finding]:
    """Yield one finding for each further copy of a library of which there should be one."""
    for family in rules.families:
        copies = [path for path in tree if matches(posixpath.basename(path), family.files)]
        what = f"{len(copies)} copies of {family.name}: {', '.join(copies)}; {family.why}"
        for path in copies[1:]:
            yield Finding("duplicate-library", path, family.name, what)


def _too_low(computed: MinimumSystem, rules: AuditRules, *, enforced: bool) -> Iterator[Finding]:
    """Yield the finding for a declared floor below the computed one."""
    promised, needed = linkage.version_key(rules.floor), linkage.version_key(computed.version)
    if promised and promised < needed:
        what = (
            f"needs {computed.system} {computed.version} ({computed.because}); "
            f"the recipe promises {rules.floor}"
        )
        severity: Severity = "error" if enforced else "warning"
        yield Finding("floor-too-low", computed.forced_by, computed.version, what, severity)


def _waive(findings: list[Finding], rules: AuditRules) -> Iterator[Finding]:
    """Yield the findings, excused where a waiver covers them, and the waivers that cover none."""
    idle = set(rules.waivers)
    for finding in findings:
        covering = [w for w in rules.waivers if w.covers(finding.path, finding.subject)]
        idle.difference_update(covering)
        yield replace(finding, waived=covering[0].reason) if covering else finding
    for waiver in sorted(idle, key=lambda waiver: (waiver.path, waiver.subject)):
        what = f"the waiver has no effect for {waiver.subject}"
        yield Finding("idle-waiver", waiver.path, waiver.subject, what, "warning")
