"""Assemble the bundle for this machine, verify it, and serve it from its own interpreter.

Stays in the foreground; Ctrl-C or SIGTERM stop the service. Everything is reused the next time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bundler.commands.assemble import tell
from bundler.commands.options import add_fetch_options, add_output_options, add_plan_options

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    add_plan_options(parser)
    add_fetch_options(parser)
    add_output_options(parser)
    parser.add_argument("--port", type=int, default=8421, help="the port on 127.0.0.1 (8421)")
    parser.add_argument(
        "service",
        nargs="*",
        metavar="-- OPTION",
        help="options for the service itself, after --: -- --allow-dir FOLDER",
    )


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Assemble, verify, serve; return the service's exit code."""
    from bundler.inputs import Inputs  # noqa: PLC0415 - needs the environment
    from bundler.serve import check_free, serve  # noqa: PLC0415 - needs the environment

    check_free(options.port)
    started = time.monotonic()
    inputs = Inputs.gather(options, project, console)
    tell(inputs.assemble(), time.monotonic() - started, console)
    return serve(inputs.output, options.port, options.service, console)
