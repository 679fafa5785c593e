"""Show how two bundles differ: their plans, and the files of each component."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bundler.commands.options import bundles_at
from bundler.console import print_json, print_lines

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", type=Path, metavar="A", help="a bundle's folder")
    parser.add_argument("after", type=Path, metavar="B", help="another one")
    parser.add_argument("--json", action="store_true", help="everything, every path included")
    parser.add_argument("--names", action="store_true", help="list every path that differs")


def check(options: argparse.Namespace, project: Project) -> None:
    """Refuse a path where there is no bundle."""
    bundles_at(project, [options.before, options.after], [], None)


def run(options: argparse.Namespace, project: Project, console: Console) -> int:  # noqa: ARG001
    """Compare; print the differences. A difference is no failure."""
    from bundler.inspection.inventory import compare, lines, take_stock

    difference = compare(take_stock(options.before), take_stock(options.after))
    if options.json:
        print_json(difference.document())
    else:
        print_lines(lines(difference, with_names=options.names))
    return 0
