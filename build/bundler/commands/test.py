"""Run everything: the static checks and every test, starting whatever they need.

Paths and options after -- go to pytest: python3 build test -- tests/faults -k store
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("pytest", nargs="*", metavar="-- OPTION", help="options for pytest")


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Test; return 0 if all is well."""
    from bundler.suite import all_tests, some_tests, static_checks  # noqa: PLC0415

    if options.pytest:
        return some_tests(project, console, options.pytest)
    return static_checks(project, console) or all_tests(project, console)
