"""Run the static checks (format, lint, types, imports) and the unit tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("--fix", action="store_true", help="format and fix what can be fixed")


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Check; return 0 if all is well."""
    from bundler.checks.suite import static_checks, unit_tests  # noqa: PLC0415

    return static_checks(project, console, fix=options.fix) or unit_tests(project, console)
