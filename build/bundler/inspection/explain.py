"""Why a file is in a bundle, or why it is not."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.errors import UsageError
from bundler.targets import target_named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bundler.assembly.build_report import LeftOut, SourceReport
    from bundler.inspection.inventory import Inventory, Owned

PYTHON = "python/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is known of one path: whose file it is, and what was left out of it, if anything."""

    path: str
    owned: Owned | None
    source: SourceReport | None
    left_out: LeftOut | None


def why(asked: str, bundle: Path, inventory: Inventory) -> Answer:
    """Return what is known of the file that people call `asked`.

    It may be spelled from the bundle's root, from site-packages, from python/, or as a path of
    this machine. Raises UsageError where neither the bundle nor anything it was made from has it.
    """
    left_out = {one.path: (source, one) for source in inventory.sources for one in source.left_out}
    sources = {(source.package, source.version): source for source in inventory.sources}
    for path in _spellings(asked, bundle, inventory):
        owned = inventory.files.get(path)
        source, lacking = left_out.get(path, (None, None))
        if owned is not None and owned.package is not None and source is None:
            source = sources.get((owned.package.name, owned.package.version))
        if owned is not None or lacking is not None:
            return Answer(path=path, owned=owned, source=source, left_out=lacking)
    missing = ", ".join(inventory.unknown)
    raise UsageError(
        f"nothing is known of {asked}",
        why="it is neither in the bundle nor in what the bundle was made from"
        + (f", as far as is known without a build report of {missing}" if missing else ""),
        next_step="python3 build size shows what there is; python3 build assemble writes a report",
    )


def describe(answer: Answer) -> Iterator[str]:
    """Yield the lines that people read."""
    yield f"path       {answer.path}"
    owned, source, lacking = answer.owned, answer.source, answer.left_out
    if owned:
        yield f"component  {owned.component}"
    if source:
        yield f"package    {source.package} {source.version}"
    elif owned and owned.package:
        yield f"package    {owned.package.name} {owned.package.version}"
    if source and source.file.endswith((".whl", ".gz", ".zst")):
        yield f"from       {source.file}"
    if owned:
        yield f"bytes      {owned.entry.size:,}"
    if lacking is None:
        return
    if lacking.rule is None:
        yield f"left out   {lacking.size:,} bytes, as in every bundle:"
        yield "           scripts, headers, foreign bytecode and installers' notes are never kept,"
        yield "           licences with long paths are in NOTICES.txt"
        return
    word = "stripped" if owned else "removed"
    yield f"{word:9}  {lacking.size:,} bytes, by the rule {lacking.rule.name}"
    yield f"reason     {lacking.rule.reason}"


def _spellings(asked: str, bundle: Path, inventory: Inventory) -> Iterator[str]:
    """Yield the paths in the bundle that `asked` may mean, the likeliest first."""
    plain = posixpath.normpath(asked.replace("\\", "/"))
    yield plain
    yield f"{target_named(inventory.manifest.target).site_packages}/{plain}"
    yield f"{PYTHON}{plain}"
    place, root = Path(asked).absolute(), bundle.absolute()
    if place.is_relative_to(root):
        yield place.relative_to(root).as_posix()
