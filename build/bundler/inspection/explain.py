"""Why a file is in a bundle, or why it is not."""

from __future__ import annotations

import posixpath
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.assembly import runtime
from bundler.assembly.exclusions import removing
from bundler.errors import UsageError
from bundler.inspection.inventory import Owned, Owner
from bundler.inspection.omissions import Omission
from bundler.targets import target_named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bundler.artifacts.store import Store
    from bundler.inspection.inventory import Inventory
    from bundler.inspection.omissions import Omissions
    from bundler.locks.runtime import RuntimeSpec
    from bundler.targets import Target

PYTHON = "python/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is known of one path: whose file it is, and what was left out of it, if anything."""

    path: str
    owned: Owned | None
    omission: Omission | None


def why(asked: str, bundle: Path, inventory: Inventory, left_out: Omissions) -> Answer:
    """Return what is known of the file that people call `asked`.

    It may be spelled from the bundle's root, from site-packages, from python/, or as a path of
    this machine. Raises UsageError where neither the bundle nor anything it was made from has it.
    """
    omitted = {omission.path: omission for omission in left_out.found}
    for path in _spellings(asked, bundle, inventory):
        owned, omission = inventory.files.get(path), omitted.get(path)
        if owned is not None or omission is not None:
            return Answer(path=path, owned=owned, omission=omission)
    missing = ", ".join((*left_out.absent, *left_out.foreign))
    raise UsageError(
        f"nothing is known of {asked}",
        why="it is neither in the bundle nor in what the bundle was made from"
        + (f", as far as is known without {missing}" if missing else ""),
        next_step="python3 build size shows what there is; python3 build fetch fills the store",
    )


def runtime_omissions(spec: RuntimeSpec, target: Target, store: Store) -> tuple[Omission, ...]:
    """Return what no bundle takes of the locked runtime; nothing where the store lacks it."""
    path = store.path(spec.artifact.digest)
    if path is None:
        return ()
    rules = runtime.rules_for(target)
    package = Owner(name="CPython", version=spec.version)
    found = []
    with tarfile.open(path) as archive:
        for member in archive:
            # The archive's own top folder is python/, as the bundle's is.
            name = member.name.removeprefix("./").removeprefix(PYTHON)
            rule = None if member.isdir() else removing(name, rules)
            if rule is not None:
                found.append(
                    Omission(path=f"{PYTHON}{name}", size=member.size, package=package, rule=rule)
                )
    return tuple(found)


def describe(answer: Answer) -> Iterator[str]:
    """Yield the lines that people read."""
    yield f"path       {answer.path}"
    owned, omission = answer.owned, answer.omission
    package = omission.package if omission else owned.package if owned else None
    if owned:
        yield f"component  {owned.component}"
    if package:
        yield f"package    {package.name} {package.version}"
    if owned:
        yield f"bytes      {owned.entry.size:,}"
    if omission is None:
        return
    if omission.rule is None:
        yield f"left out   {omission.size:,} bytes, as in every bundle:"
        yield "           scripts, headers, foreign bytecode and installers' notes are never kept,"
        yield "           licences with long paths are in NOTICES.txt"
        return
    word = "stripped" if owned else "removed"
    yield f"{word:9}  {omission.size:,} bytes, by the rule {omission.rule.name}"
    yield f"reason     {omission.rule.reason}"


def _spellings(asked: str, bundle: Path, inventory: Inventory) -> Iterator[str]:
    """Yield the paths in the bundle that `asked` may mean, the likeliest first."""
    plain = posixpath.normpath(asked.replace("\\", "/"))
    yield plain
    yield f"{target_named(inventory.manifest.target).site_packages}/{plain}"
    yield f"{PYTHON}{plain}"
    place, root = Path(asked).absolute(), bundle.absolute()
    if place.is_relative_to(root):
        yield place.relative_to(root).as_posix()
