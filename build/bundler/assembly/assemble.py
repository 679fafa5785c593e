"""From a plan and its fetched inputs to a bundle: stage, merge, seal, publish.

What is unchanged since the last bundle is taken over by hard link after its bytes were checked, so
a change costs what it touches. Nothing here decides: the plan did.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.assembly import path_rules
from bundler.assembly.build_report import ComponentReport, read_report, report_path, write_report
from bundler.assembly.components import build_component, paths_of
from bundler.assembly.metadata import (
    DESCRIBED,
    audited,
    describe,
    described_inputs,
    read_wheels,
    write_documents,
)
from bundler.assembly.path_rules import check_collisions, check_paths
from bundler.assembly.tree import entries_of
from bundler.atomic import (
    FOLDER,
    PLAIN,
    disk_error,
    keeps_modes,
    publish,
    reach,
    rename,
    replace,
    set_date,
    set_mode,
    stage_beside,
    sweep,
)
from bundler.bundle import read_bundle, refuse_foreign
from bundler.digests import Digest
from bundler.errors import UsageError, VerificationError
from bundler.targets import target_named
from sidecar.manifest import (
    MANIFEST,
    MANIFESTS,
    Component,
    Manifest,
    damages,
    encode,
    encode_entries,
    strays,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from bundler.assembly.components import FetchedInputs
    from bundler.console import Progress
    from bundler.plan import BundlePlan
    from sidecar.manifest import FileEntry


# What a disk, or the rights on it, can do to us.
REFUSALS = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EPERM", "EROFS", "EBUSY", "EIO")
    if hasattr(errno, name)
)
# The components that hold native code.
NATIVE = {"python", "heavy", "packages"}
Fetch = Callable[[tuple[str, ...]], "FetchedInputs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """A finished bundle: its manifest, and the components that were made anew."""

    manifest: Manifest
    made: tuple[str, ...]


def assemble(plan: BundlePlan, fetch: Fetch, destination: Path, progress: Progress) -> Assembled:
    """Make `destination` the bundle of `plan`, and return its manifest.

    `fetch` is called for the artifacts of the components that must be made, or not at all. The
    bundle appears by a rename once it is whole, so that a reader sees the old one, none, or the
    new one. A machine that loses power may leave files short; every reuse checks their hashes, so
    the next run replaces them. If another run publishes while this one takes files over, this one
    begins again. Raises UsageError where `destination` holds something else, DiskError, and what
    `fetch` raises.
    """
    try:
        sweep(destination)
        refuse_foreign(destination)
        while True:
            with contextlib.suppress(_SupersededError):
                return _assemble(plan, fetch, destination, progress)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise disk_error(error, destination.parent, purpose=f"the bundle {destination}") from error


class _SupersededError(Exception):
    """The bundle whose files were to be taken over is no longer at its place."""


def _assemble(plan: BundlePlan, fetch: Fetch, destination: Path, progress: Progress) -> Assembled:
    """Make the bundle, once. Raises _SupersededError."""
    old = _reusable(destination, progress)
    if old is not None and old.manifest.plan == plan.id and old.is_whole:
        return Assembled(manifest=old.manifest, made=())
    sound = old.sound if old else {}
    inputs = {name: plan.inputs(name) for name in plan.components}
    kept = {name: sound[one] for name in inputs if (one := (name, inputs[name])) in sound}
    made = tuple(name for name in plan.components if name not in kept)
    papers_hold = old is not None and _papers_hold(old, plan)
    fetched = fetch(made if papers_hold else tuple(sorted({*made, *DESCRIBED})))
    wheels = () if papers_hold else read_wheels(plan, fetched)
    with stage_beside(destination) as stage:
        reach("assemble.staged")
        if winreg := path_rules.windows_registry():
            deepest = stage.with_name(f"{stage.name}.0")
            path_rules.require_room(deepest, paths_of(made, plan, fetched), winreg)
        reports = {
            name: report
            for name, report in read_report(destination).items()
            if name in kept and report.inputs == inputs[name]
        }
        components: list[Component] = []
        paths: list[str] = []
        for number, name in enumerate(plan.components):
            entries = kept.get(name)
            if entries is not None:
                _link(destination, stage, entries, plan.epoch)
            else:
                work = stage.with_name(f"{stage.name}.{number}")
                work.mkdir()
                built = build_component(name, plan, fetched, work, progress)
                reports[name] = ComponentReport(inputs=inputs[name], sources=built.sources)
                check_paths(work, plan.path_budget)
                entries = entries_of(work, built.modes)
                reach("assemble.component")
                for entry, target in _places(stage, entries):
                    rename(work / entry.path, target)
                shutil.rmtree(work, ignore_errors=True)
            components.append(_list(stage, name, inputs[name], entries))
            paths += [entry.path for entry in entries]
        check_collisions(paths)
        reach("assemble.merged")
        if old is not None and papers_hold:
            documents = old.manifest.documents
            _link(old.root, stage, documents, plan.epoch)
        else:
            documents = write_documents(plan, fetched, wheels, stage)
        held = old.manifest.floor if old and not NATIVE & set(made) else {}
        floor = held or audited(plan, fetched, stage, progress)
        manifest = describe(plan, components, documents, floor=floor)
        (stage / MANIFEST).write_bytes(encode(manifest))
        _settle(stage, manifest, plan.epoch)
        reach("assemble.manifest")
        if old is not None and not old.is_there():
            raise _SupersededError
        _publish(stage, destination, {n: reports[n] for n in plan.components if n in reports})
    _note_modes(plan, destination, progress)
    return Assembled(manifest=manifest, made=made)


def _publish(stage: Path, destination: Path, reports: Mapping[str, ComponentReport]) -> None:
    """Put the stage in its place, and the report beside it.

    The report comes first: a kill between the two leaves one whose parts may be about other inputs
    than the bundle's, which readers pass over and the next run replaces.
    """
    report = stage.with_name(f"{stage.name}.report") / report_path(destination).name
    write_report(report, reports)
    replace(report, report_path(destination))
    publish(stage, destination)


def _note_modes(plan: BundlePlan, destination: Path, progress: Progress) -> None:
    """Tell of a file system that keeps no executable bits, where they are wanted."""
    if keeps_modes(destination.parent) is False and target_named(plan.target).os != "win":
        progress.note(
            "modes",
            f"{destination.parent} keeps no executable bits; archives and images have them, but "
            "the bundle may not start from there",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Old:
    """The bundle that is there already.

    `sound` has the files of the components that are still what they were, by name and inputs.
    """

    root: Path
    identity: tuple[int, int]
    manifest: Manifest
    sound: Mapping[tuple[str, str], tuple[FileEntry, ...]]
    is_whole: bool

    def is_there(self) -> bool:
        """Return whether this very bundle is still at its place."""
        try:
            return _identity(self.root) == self.identity
        except FileNotFoundError:
            return False


def _reusable(destination: Path, progress: Progress) -> _Old | None:
    try:
        identity = _identity(destination)
        bundle = read_bundle(destination)
    except (VerificationError, FileNotFoundError):
        return None
    manifest = bundle.manifest
    total = sum(component.size for component in manifest.components)
    progress.start("the present bundle", total)
    has_modes = keeps_modes(destination.parent) is not False
    sound = {}
    for component in manifest.components:
        entries = bundle.lists[component.name]
        found = damages(
            destination,
            entries,
            with_modes=has_modes,
            on_bytes=lambda size: progress.advance("the present bundle", size),
        )
        if next(found, None) is None:
            sound[component.name, component.inputs] = entries
    progress.finish("the present bundle")
    is_whole = (
        len(sound) == len(bundle.lists)
        and next(damages(destination, manifest.documents), None) is None
        and next(strays(destination, bundle.everything), None) is None
    )
    return _Old(
        root=destination, identity=identity, manifest=manifest, sound=sound, is_whole=is_whole
    )


def _identity(root: Path) -> tuple[int, int]:
    """Return what tells a bundle from one that takes its place. Raises FileNotFoundError."""
    status = (root / MANIFEST).stat()
    return status.st_ino, status.st_ctime_ns


def _link(source: Path, stage: Path, entries: Iterable[FileEntry], epoch: int) -> None:
    """Take files over by hard link, or by copy where the file system has none.

    Raises _SupersededError where one is gone, UsageError where its place is taken.
    """
    for entry, target in _places(stage, entries):
        try:
            try:
                os.link(source / entry.path, target)
            except OSError:
                shutil.copyfile(source / entry.path, target)
                set_mode(target, entry.mode)
                set_date(target, epoch)
        except FileNotFoundError as error:
            raise _SupersededError from error


def _places(stage: Path, entries: Iterable[FileEntry]) -> Iterator[tuple[FileEntry, Path]]:
    """Yield each entry with its place in the stage, in a folder that is there.

    Two components never own one path. Raises UsageError.
    """
    made: set[Path] = set()
    for entry in entries:
        target = stage / entry.path
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        if target.exists():
            raise UsageError(
                f"two components bring {entry.path}",
                why="a path belongs to one component, or updates and layers would overwrite it",
            )
        yield entry, target


def _list(stage: Path, name: str, inputs: str, entries: tuple[FileEntry, ...]) -> Component:
    """Write the component's list of files, and return what the manifest says of it."""
    data = encode_entries(entries)
    path = stage / MANIFESTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return Component(
        name=name,
        digest=Digest.of_bytes(data).sha256,
        inputs=inputs,
        files=len(entries),
        size=sum(entry.size for entry in entries),
    )


def _settle(stage: Path, manifest: Manifest, epoch: int) -> None:
    """Give the folders, the lists and the documents the modes and dates that a bundle has."""
    names = [MANIFEST, *(f"{MANIFESTS}/{component.name}.json" for component in manifest.components)]
    for name in names + [document.path for document in manifest.documents]:
        set_mode(stage / name, PLAIN)
        set_date(stage / name, epoch)
    for parent, _, _ in os.walk(stage, topdown=False):
        set_mode(parent, FOLDER)
        set_date(parent, epoch)


def _papers_hold(old: _Old, plan: BundlePlan) -> bool:
    """Return whether the old bundle's documents are whole and what `plan` would write."""
    return (
        bool(old.manifest.documents)
        and old.manifest.papers == described_inputs(plan)
        and next(damages(old.root, old.manifest.documents), None) is None
    )
