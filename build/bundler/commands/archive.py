"""Pack a bundle into one file, NAME-VERSION-TARGET.tar.zst: equal bundles make equal archives.

The bundle is verified first. `verify` takes the archive, too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.commands.options import own_bundle
from bundler.recipe import epoch_for, read_recipe

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("path", type=Path, help="the bundle's folder")
    add("--output", type=Path, metavar="FILE", help="the archive (beside the bundle)")


def check(options: argparse.Namespace, project: Project) -> None:
    """Refuse a path where there is no bundle."""
    epoch_for(read_recipe(project.recipe))
    own_bundle(project, options.path)


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Pack; print where the archive is, and say its digest and size."""
    from bundler.archive import pack_verified

    epoch = epoch_for(read_recipe(project.recipe))
    output: Path | None = options.output
    with console.progress("pack") as progress:
        parcel = pack_verified(
            options.path.resolve(),
            output.resolve() if output else None,
            epoch=epoch,
            progress=progress,
        )
    console.say(f"sha256 {parcel.digest.sha256}")
    console.say(f"size {parcel.digest.size} bytes")
    for finding in parcel.manifest.unreleasable:
        console.say(f"not for release: {finding}")
    sys.stdout.write(f"{parcel.path}\n")
    return 0
