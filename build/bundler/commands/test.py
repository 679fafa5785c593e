"""Run the static checks and the tests with the services that they need; show the durations.

Tests at full size (a whole release, every foreign bundle, the bench) run with --full only. Paths
and options after -- go to pytest: python3 build test -- tests/faults -k store
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundler.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = (
        "run the full-size tests too: all of them, or after the others those whose sources "
        "changed since the newest commit that is older than a day"
    )
    add("--full", nargs="?", const="all", choices=("all", "changed"), help=text)
    text = "with --full changed, begin no full-size tests later than this"
    add("--begin-within", type=float, metavar="MINUTES", help=text)
    add("pytest", nargs="*", metavar="-- OPTION", help="options for pytest")


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Test; return 0 if all is well."""
    from bundler.checks import Suite, some_tests

    if options.begin_within is not None and options.full != "changed":
        raise UsageError("--begin-within needs --full changed")
    if options.pytest:
        if options.full:
            raise UsageError(
                "--full and options for pytest exclude each other",
                next_step="python3 build test -- -m full PATH",
            )
        return some_tests(project, console, options.pytest)
    return Suite(project=project, console=console).run(
        full=options.full is not None,
        changed=options.full == "changed",
        within_min=options.begin_within,
    )
