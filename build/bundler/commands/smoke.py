"""Start a bundle in an empty environment, compare its vectors with the golden ones, stop it.

A second run is traced: it fails if a file that the diet removed is opened or imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bundler.commands.options import own_bundle

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="the bundle's folder")


def check(options: argparse.Namespace, project: Project) -> None:
    """Refuse a path where there is no bundle."""
    own_bundle(project, options.path)


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Smoke-test; say what was seen."""
    from bundler.recipe import read_recipe
    from bundler.smoke import smoke

    console.say("starting the bundle's service in an empty environment")
    seen = smoke(options.path.resolve(), read_recipe(project.recipe))
    models = ", ".join(seen.models)
    console.say(
        f"smoke: {seen.texts} golden texts of {models}, worst cosine {seen.worst:.7f}, "
        f"ready after {seen.ready_s:.1f} s, stopped with 0, not a byte changed"
    )
    for proved in seen.proved:
        console.say(
            f"traced: {proved.modules} modules and {proved.files} files, none of them "
            f"removed by the profile {seen.profile}"
        )
    return 0
