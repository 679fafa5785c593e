"""Whether every native file of a tree will load on a bare machine, and how old that may be.

Reads the files, never loads them, so a tree for any target is audited on any machine.
"""

from __future__ import annotations

import mmap
import os
import posixpath
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from bundler.assembly import binaries, linkage
from bundler.assembly.audit_policy import AuditRules, matches
from bundler.errors import PolicyError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bundler.assembly.binaries import Binary
    from bundler.assembly.linkage import Link, MinimumSystem
    from bundler.targets import Target

__all__ = ["AuditReport", "AuditRules", "Finding", "audit", "require_clean"]

Severity = Literal["error", "warning"]
LEFT_TO_RUNTIME: Final = "left-to-runtime"
FORMATS: Final = {"linux": "elf", "mac": "macho", "win": "pe"}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """Something wrong with one file: a code to search for, what it is about, and its remedy.

    A finding with `waived`, the reason from the recipe, is told and does not fail.
    """

    code: str
    path: str
    subject: str
    what: str
    remedy: str
    severity: Severity = "error"
    waived: str = ""

    @property
    def fails(self) -> bool:
        """Return whether this finding refuses the tree."""
        return self.severity == "error" and not self.waived

    def render(self, *, more: int = 0) -> str:
        """Return the finding as people read it; `more` files have the same trouble."""
        head = "waived" if self.waived else self.severity
        others = f" (and {more} more files)" if more else ""
        lines = [f"{head} [{self.code}] {self.path}{others}: {self.what}"]
        lines.append(f"  because: {self.waived}" if self.waived else f"  remedy: {self.remedy}")
        return "\n".join(lines)


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

    def render(self) -> str:
        """Return the report as people read it: the floor, then each finding."""
        count = f"{self.binaries} binaries, {len(self.failures)} failures"
        return "\n".join((f"{self.target}: {count}", self.floor.render(), *_told(self.findings)))


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
    for path in _files(root):
        try:
            binary = binaries.read(root / path, architecture=architecture)
        except VerificationError as error:
            findings.append(_unreadable(path, error))
            continue
        if binary is not None:
            tree[path] = binary
            findings += _forbidden(root, path, rules)
    foreign = list(_foreign(tree, FORMATS[target.os], architecture))
    outside = {finding.path for finding in foreign}
    native = {path: binary for path, binary in tree.items() if path not in outside}
    links = list(
        linkage.links(native, program=target.executable, architecture=architecture, rules=rules)
    )
    computed = linkage.minimum_system(native, links, system=target.os, introduced=rules.introduced)
    findings += foreign
    findings += _unresolved(links, target)
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
    """Raise PolicyError if a finding of `report` fails it."""
    failures = report.failures
    if not failures:
        return
    raise PolicyError(
        f"the binary audit of {report.target} found {len(failures)} failures",
        why="\n".join(_told(failures)),
        next_step="apply the remedies, or excuse one in the recipe with "
        f"[[audit.{report.target.partition('-')[0]}.waiver]] and its reason",
    )


def _told(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield each trouble once, failures first, with the first file that has it and a count."""
    groups: dict[tuple[str, str, str, str], list[Finding]] = {}
    for finding in sorted(findings, key=lambda finding: not finding.fails):
        key = (finding.code, finding.subject, finding.severity, finding.waived)
        groups.setdefault(key, []).append(finding)
    for group in groups.values():
        yield group[0].render(more=len({finding.path for finding in group}) - 1)


def _files(root: Path) -> Iterator[str]:
    """Yield the regular files below `root` as POSIX paths, sorted."""
    found = []
    for parent, _, names in os.walk(root):
        here = Path(parent)
        found += [
            (here / name).relative_to(root).as_posix()
            for name in names
            if (here / name).is_file() and not (here / name).is_symlink()
        ]
    yield from sorted(found)


def _unreadable(path: str, error: VerificationError) -> Finding:
    return Finding(
        code="unreadable-binary",
        path=path,
        subject=posixpath.basename(path),
        what=error.what,
        remedy=error.next_step,
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
            found = [marker for marker in library.markers if data.find(marker) != -1]
            if found:
                yield Finding(
                    code="forbidden-library",
                    path=path,
                    subject=library.name,
                    what=f"holds {library.name} (it says {found[0].decode()!r}); {library.why}",
                    remedy="drop the file with a diet rule, or lock a build without that library",
                )


def _foreign(tree: Mapping[str, Binary], expected: str, architecture: str) -> Iterator[Finding]:
    """Yield the binaries that this target cannot load at all."""
    for path, binary in tree.items():
        if binary.format != expected:
            # Launchers for other systems ship as package data; they weigh, they do not break.
            yield Finding(
                code="foreign-format",
                path=path,
                subject=binary.format,
                what=f"is a {binary.format} file in a bundle of {expected} files",
                remedy="drop it with a diet rule",
                severity="warning",
            )
        elif architecture not in binary.architectures:
            others = ", ".join(binary.architectures)
            yield Finding(
                code="wrong-architecture",
                path=path,
                subject=others,
                what=f"is built for {others}, the target is {architecture}",
                remedy="lock the wheel for this target, or drop the file with a diet rule",
            )


def _unresolved(links: list[Link], target: Target) -> Iterator[Finding]:
    """Yield the imports that nothing answers."""
    for link in links:
        name = link.wanted.name
        if link.provider == "runtime":
            yield Finding(
                code=LEFT_TO_RUNTIME,
                path=link.importer,
                subject=name,
                what=f"imports {name}, presumably of the runtime, which is left out",
                remedy="assemble with the runtime; without it this cannot be checked",
                severity="warning",
            )
        if link.provider != "nothing":
            continue
        through = "" if link.root == link.importer else f" when {link.root} is loaded"
        is_outside = name.startswith("/")
        what = f"imports {name}, which " + (
            "names a place on the machine that built it"
            if is_outside
            else "is neither in the bundle where the loader looks nor part of the system"
        )
        yield Finding(
            code="outside-import" if is_outside else "unresolved-import",
            path=link.importer,
            subject=name,
            what=what + through,
            remedy="add a package that ships it, drop the file with a diet rule, or, if every "
            f"supported machine has it, allow it in [audit.{target.os}]",
            severity="warning" if link.wanted.optional else "error",
        )


def _hazards(path: str, binary: Binary, target: Target) -> Iterator[Finding]:
    """Yield what is wrong with one file by itself."""
    if binary.has_executable_stack:
        yield Finding(
            code="executable-stack",
            path=path,
            subject="PT_GNU_STACK",
            what="asks for executable stacks, which hardened kernels refuse",
            remedy="clear the flag with patchelf --clear-execstack in a diet rule",
        )
    if binary.has_text_relocations:
        yield Finding(
            code="text-relocations",
            path=path,
            subject="DT_TEXTREL",
            what="writes into its own code as it is loaded, which hardened kernels refuse",
            remedy="lock another build of it",
        )
    for rpath in binary.rpaths:
        if not rpath.startswith(("$ORIGIN", "${ORIGIN}", "@loader_path", "@executable_path")):
            yield Finding(
                code="absolute-rpath",
                path=path,
                subject=rpath,
                what=f"searches {rpath}, a folder of the machine that built it",
                remedy="take it out with patchelf or install_name_tool, or drop the file with a "
                "diet rule; a user who can write to that folder can inject code",
                severity="error" if _searches(binary) else "warning",
            )
        elif _leaves(path, rpath, target):
            yield Finding(
                code="escaping-rpath",
                path=path,
                subject=rpath,
                what=f"searches {rpath}, which is outside the bundle",
                remedy="take it out, or drop the file with a diet rule",
            )
    if binary.format == "macho" and binary.kind != "object" and not binary.is_signed:
        yield Finding(
            code="unsigned-binary",
            path=path,
            subject="code signature",
            what="has no signature, not even an ad-hoc one, and Apple silicon kills it",
            remedy="sign it (codesign -s - is enough outside a signed app)",
        )


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
            yield Finding(
                code="older-runtime",
                path=link.importer,
                subject=link.wanted.name,
                what=f"was built with {built} and gets {link.found}, which is {given}",
                remedy="ship a newer one in its place, or lock an older build of the importer",
                # Wheels ship so themselves, and most of them work.
                severity="warning",
            )


def _duplicates(tree: Mapping[str, Binary], rules: AuditRules) -> Iterator[Finding]:
    """Yield one finding for each further copy of a library of which there should be one."""
    for family in rules.families:
        copies = [path for path in tree if matches(posixpath.basename(path), family.files)]
        for path in copies[1:]:
            yield Finding(
                code="duplicate-library",
                path=path,
                subject=family.name,
                what=f"{len(copies)} copies of {family.name}: {', '.join(copies)}; {family.why}",
                remedy="drop the package that brings the second, or keep both out of one process",
            )


def _too_low(computed: MinimumSystem, rules: AuditRules, *, enforced: bool) -> Iterator[Finding]:
    """Yield the finding for a declared floor below the computed one."""
    if not rules.floor or not computed.version:
        return
    if linkage.version_key(rules.floor) >= linkage.version_key(computed.version):
        return
    yield Finding(
        code="floor-too-low",
        path=computed.forced_by,
        subject=computed.version,
        what=f"needs {computed.system} {computed.version} ({computed.because}); "
        f"the recipe promises {rules.floor}",
        remedy=f'declare floor = "{computed.version}" in the recipe, or lock an older build'
        if enforced
        else "assemble with the standalone runtime; the host's own is newer than the promise",
        severity="error" if enforced else "warning",
    )


def _waive(findings: list[Finding], rules: AuditRules) -> Iterator[Finding]:
    """Yield the findings, excused where a waiver covers them, and the waivers that cover none."""
    idle = set(rules.waivers)
    for finding in findings:
        covering = [w for w in rules.waivers if w.covers(finding.path, finding.subject)]
        idle.difference_update(covering)
        yield replace(finding, waived=covering[0].reason) if covering else finding
    for waiver in sorted(idle, key=lambda waiver: (waiver.path, waiver.subject)):
        yield Finding(
            code="idle-waiver",
            path=waiver.path,
            subject=waiver.subject,
            what=f"the waiver has no effect for {waiver.subject}",
            remedy="remove the waiver from the recipe",
            severity="warning",
        )
