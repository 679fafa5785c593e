"""Assemble a bundle: download missing inputs, fill a stage, check it, rename it.

Unchanged components of the existing bundle are reused after their hashes were checked.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from bundler.commands.options import add_output_options, add_plan_options, check_plan

if TYPE_CHECKING:
    import argparse

    from bundler.assembly.assemble import Assembled
    from bundler.console import Console
    from bundler.project import Project


check = check_plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_plan_options(parser)
    add_output_options(parser)


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Assemble; print where the bundle is."""
    from bundler.build_context import BuildContext, BuildOptions

    started = time.monotonic()
    context = BuildContext.gather(BuildOptions.of(options), project, console)
    assembled = context.assemble()
    tell(assembled, time.monotonic() - started, console)
    sys.stdout.write(f"{context.output}\n")
    return 0


def tell(assembled: Assembled, seconds: float, console: Console) -> None:
    """Say what was made anew, and why the bundle must not be released, if so."""
    what = ", ".join(assembled.made) or "nothing"
    console.say(f"assembled: {what} rebuilt, {seconds:.1f} s")
    for finding in assembled.manifest.unreleasable:
        console.say(f"not for release: {finding}")
