"""Download what a plan names into the store, checking every byte against its lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundler.commands.options import FOLDER, add_plan_options, check_plan, place

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.project import Project


check = check_plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_plan_options(parser)
    text = "also lay the wheels out by name, for pip's --find-links on a machine without network"
    parser.add_argument("--links", **FOLDER, type=place, help=text)


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Fetch, and say how much there is."""
    from bundler.artifacts.store import lay
    from bundler.build_context import BuildContext, BuildOptions

    context = BuildContext.gather(BuildOptions.of(options), project, console)
    plan = context.plan()
    fetched = context.fetch(plan)
    if options.links:
        for wheel in plan.wheels:
            lay(fetched.files[wheel.sha256], options.links / wheel.filename)
    size = sum(path.stat().st_size for path in fetched.files.values())
    console.say(f"store: {len(fetched.files)} files, {size / 1e6:.0f} MB, every hash checked")
    return 0
