"""Show how many bytes an update from one bundle to another moves, for the bundle and the image.

A and B are folders, archives (.tar.zst, .zip) or image archives (.oci.tar). For folders of Linux
bundles both are shown; compressed layers are kept in the store.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bundler.commands.options import add_store, bundles_at
from bundler.console import print_json, print_lines
from bundler.recipe import epoch_for, read_recipe

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from bundler.console import Console
    from bundler.project import Project
    from bundler.release.update import Moved


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", type=Path, metavar="A", help="the old bundle or image")
    parser.add_argument("after", type=Path, metavar="B", help="the new bundle or image")
    parser.add_argument("--json", action="store_true", help="as JSON, with every part")
    add_store(parser, "where layers are kept")


def check(options: argparse.Namespace, project: Project) -> None:
    """Refuse a path where there is neither a bundle nor a file."""
    epoch_for(read_recipe(project.recipe))
    folders = [path for path in (options.before, options.after) if not path.is_file()]
    bundles_at(project, folders, [], None)


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Measure; print it."""
    from bundler.release import update

    found = _measured(options, project, console)
    if options.json:
        print_json({title: moved and update.document(moved) for title, moved in found.items()})
        return 0
    for title, moved in found.items():
        if moved is not None:
            print_lines(update.lines(title, moved))
    return 0


def _measured(
    options: argparse.Namespace, project: Project, console: Console
) -> dict[str, Sequence[Moved] | None]:
    """Return what moves for a bundle, and for an image; None where that cannot be known."""
    from bundler.artifacts.store import Store
    from bundler.errors import UsageError
    from bundler.images.layers import Layers
    from bundler.release import update

    places: tuple[Path, Path] = (options.before, options.after)
    images = [update.is_image(place) for place in places]
    if all(images):
        return {"bundle": None, "image": update.archive_update(*places)}
    if any(images):
        raise UsageError(
            "an image cannot be compared with a bundle",
            why="one updates by layers, the other by files",
            next_step="name two images, or two bundles",
        )
    before, after = (update.Held.read(place) for place in places)
    bundle = update.bundle_update(before, after)
    layered = None
    if all(place.is_dir() for place in places) and after.manifest.target.startswith("linux-"):
        with (
            console.progress("layer") as progress,
            Layers(Store(options.store or project.store), progress) as layers,
        ):
            layered = update.image_update(
                before, after, layers, epoch=epoch_for(read_recipe(project.recipe))
            )
    else:
        console.say("image: not known; name two folders of a Linux bundle, or two .oci.tar")
    return {"bundle": bundle, "image": layered}
