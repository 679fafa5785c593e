"""Explain why a file is in a bundle or not: its component and package, or the diet rule.

The path may be relative to the bundle or to site-packages, or one of this machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bundler.commands.options import add_store, own_bundle
from bundler.console import print_lines

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", help="such as torch/test/test_api")
    add("--bundle", type=Path, metavar="PATH", help="the bundle (this machine's in bundle/out)")
    add_store(parser, "asked for before bundles had reports; not used")


def check(options: argparse.Namespace, project: Project) -> None:
    """Refuse a path where there is no bundle."""
    own_bundle(project, options.bundle)


def run(options: argparse.Namespace, project: Project, console: Console) -> int:  # noqa: ARG001
    """Look it up; print what is known. Raises UsageError where nothing is."""
    from bundler.inspection.inventory import take_stock, why

    bundle = own_bundle(project, options.bundle)
    print_lines(why(options.file, bundle, take_stock(bundle)))
    return 0
