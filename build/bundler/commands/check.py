"""Run the static checks (format, lint, types, imports) and the unit tests that a change needs.

The change is the difference from the main branch, working tree included.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fix", action="store_true", help="format, and apply automatic fixes")
    parser.add_argument("--all", action="store_true", help="run every unit test")


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Check; return 0 if all is well."""
    from bundler import environment
    from bundler.checks import static_checks, unit_tests

    version = ".".join(map(str, sys.version_info[:3]))
    console.say(
        f"environment: CPython {version} in {environment.folder(project).relative_to(project.root)}"
    )
    return static_checks(project, console, fix=options.fix) or unit_tests(
        project, console, everything=options.all
    )
