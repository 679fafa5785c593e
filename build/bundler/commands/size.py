"""Show the size of a bundle by component and by package, and what the diet left out.

What was left out is in the build report beside the bundle.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.commands.options import add_store, own_bundle
from bundler.console import print_json, print_lines

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("path", type=Path, nargs="?", help="the bundle's folder (this machine's in bundle/out)")
    add("--json", action="store_true", help="everything, every package included")
    text = "the savings of each rule, to be pasted into the recipe"
    add("--saves", action="store_true", help=text)
    add("--picture", type=Path, metavar="FILE.svg", help="also draw it as bars")
    add_store(parser, "asked for before bundles had reports; not used")


def check(options: argparse.Namespace, project: Project) -> None:
    """Refuse a path where there is no bundle."""
    own_bundle(project, options.path)


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Weigh; print the table."""
    from bundler.atomic import replace_files
    from bundler.inspection.inventory import take_stock
    from bundler.inspection.sizes import SAVES_COMMAND, draw, saves_entries, stale, table, weigh
    from bundler.recipe import read_recipe

    recipe = read_recipe(project.recipe)
    sizes = weigh(take_stock(own_bundle(project, options.path)))
    if unknown := sizes.components_without_report:
        console.say(f"savings are not known, for want of a report: {', '.join(unknown)}")
    elif not options.saves:
        command = f"{SAVES_COMMAND} {options.path}" if options.path else SAVES_COMMAND
        for figure in stale(recipe, sizes):
            console.say(f"stale in bundle/recipe.toml: {figure}; {command} prints the right ones")
    if options.picture:
        replace_files({options.picture: draw(sizes)})
    if options.saves:
        print_lines(saves_entries(recipe, sizes))
    elif options.json:
        print_json(asdict(sizes))
    else:
        print_lines(table(sizes))
    return 0
