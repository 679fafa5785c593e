"""Assemble the bundle for this machine, verify it, and serve it from its own interpreter.

Stays in the foreground; Ctrl-C or SIGTERM stop the service. Everything is reused the next time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bundler.commands.assemble import tell
from bundler.commands.options import add_output_options, add_plan_options, check_plan, target_of
from bundler.errors import UsageError
from bundler.launch import check_free, check_options
from bundler.recipe import PARTS
from bundler.targets import host_target
from sidecar.arguments import number

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_plan_options(parser)
    add_output_options(parser)
    add = parser.add_argument
    add("--port", type=number(0, 65_535), default=8421, help="the port on 127.0.0.1 (8421)")
    text = "options for the service itself, after --: -- --allow-dir FOLDER"
    add("service", nargs="*", metavar="-- OPTION", help=text)


def check(options: argparse.Namespace, project: Project) -> None:
    """Refuse what cannot be assembled or served here, and what the service does not take."""
    check_plan(options, project)
    target = target_of(options).name
    if target != host_target().name:
        raise UsageError(
            f"a bundle for {target} cannot be served on this machine",
            why=f"this is {host_target().name}",
            next_step=f"leave --target out, or python3 build assemble --target {target}",
        )
    missing = [part for part in PARTS if part not in (options.only or PARTS)]
    if missing:
        raise UsageError(
            f"a bundle without {', '.join(missing)} cannot be served",
            why="--only leaves that out",
            next_step="leave --only out",
        )
    check_options(project.service, options.service)
    check_free(options.port)


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Assemble, verify, serve; return the service's exit code."""
    from bundler.build_context import BuildContext, BuildOptions
    from bundler.launch import serve

    started = time.monotonic()
    context = BuildContext.gather(BuildOptions.of(options), project, console)
    tell(context.assemble(), time.monotonic() - started, console)
    return serve(context.output, options.port, options.service, console)
