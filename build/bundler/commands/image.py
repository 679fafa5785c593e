"""Write a bundle as a container image: equal bundles on an equal base make equal images.

No engine and no registry is needed. The archive is an OCI layout that `docker load`, `podman load`
and `skopeo copy` take; several bundles make one image for several machines. With --tag it is also
loaded, if Docker or Podman runs here. Bundles: PATH, --target, or this machine's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.bundle import SBOM, read_bundle
from bundler.commands.options import NAME, REPEATABLE, add_store, base_at, bundles_at
from bundler.errors import UnreachableError, UnsupportedError, UsageError
from bundler.recipe import epoch_for, read_recipe
from bundler.targets import host_target, target_named
from sidecar.manifest import read

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.images.image import Image
    from bundler.project import Project

NO_BASE = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("path", type=Path, nargs="*", help="the bundle's folder; repeatable")
    add("--target", **NAME, **REPEATABLE, help="a platform; repeatable")
    add("--profile", **NAME, help="the profile of the bundles (safe; lean for linux-arm64)")
    add("--tag", **NAME, help="the image's name (sidecar:VERSION); load it")
    text = "a tar of the root file system below, or none (what ci/base made)"
    add("--base", metavar="FILE", help=text)
    add("--revision", metavar="TEXT", help="the commit, for the image's label")
    add("--output", type=Path, metavar="FILE", help="the archive (beside the first bundle)")
    add_store(parser, "where layers are kept")


def check(options: argparse.Namespace, project: Project) -> None:
    """Refuse what is no name of an image, bundles that are not there, and those of no image."""
    epoch_for(read_recipe(project.recipe))
    if options.tag is not None:
        full_name(options.tag)
    for name in options.target:
        if target_named(name).os != "linux":
            raise UnsupportedError(
                f"a bundle for {name} cannot become an image",
                why="containers run Linux",
                next_step="--target linux-x64",
            )
    _bundles(options, project)
    if options.base not in (None, NO_BASE) and not Path(options.base).is_file():
        raise UsageError(
            f"there is no base at {options.base}",
            why="--base takes a tar of a root file system",
            next_step="ci/base makes the default one",
        )


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Compose, write, load; print where the archive is, and say the image's digest."""
    from bundler.archive import name_of
    from bundler.artifacts.store import Store
    from bundler.images.image import compose, names_in_engine, write
    from bundler.images.layers import Layers

    started = time.monotonic()
    epoch = epoch_for(read_recipe(project.recipe))
    tag = full_name(options.tag) if options.tag else None
    bundles = _bundles(options, project)
    bases = [_base(options.base, bundle, project) for bundle in bundles]
    with (
        console.progress("image") as progress,
        Layers(Store(options.store or project.store), progress) as layers,
    ):
        images = [
            compose(bundle, layers, base=base, epoch=epoch, revision=options.revision)
            for bundle, base in zip(bundles, bases, strict=True)
        ]
    version = images[0].bundle.version
    own_name = name_of(*(image.bundle for image in images), suffix=".oci.tar")
    output = (options.output or bundles[0].parent / own_name).resolve()
    digest = write(images, output, name=tag or f"sidecar:{version}", epoch=epoch)
    _copy_sboms(bundles, images, output)
    for image in images:
        for layer in image.layers:
            console.say(f"{image.architecture} {layer.name:<9} {layer.digest.size:>11} bytes")
        for finding in image.bundle.unreleasable:
            console.say(f"not for release: {finding}")
    console.say(f"digest sha256:{digest.sha256}")
    console.say(f"size {output.stat().st_size} bytes, {time.monotonic() - started:.1f} s")
    if tag:
        _load(output, names_in_engine(images, tag), console)
    sys.stdout.write(f"{output}\n")
    return 0


def _bundles(options: argparse.Namespace, project: Project) -> list[Path]:
    """Return the bundles' folders. Raises UsageError and UnsupportedError, as `check` does."""
    targets = options.target
    if not (options.path or targets):
        targets = [host_target().name]
    folders = bundles_at(project, options.path, targets, options.profile)
    read = [read_bundle(folder, purpose="become an image") for folder in folders]
    names = [bundle.manifest.target for bundle in read]
    if len(set(names)) < len(names):
        raise UsageError(
            "two of the bundles are for the same machine",
            why=f"their targets are {', '.join(names)}",
            next_step="name each target once",
        )
    return folders


def _base(given: str | None, bundle: Path, project: Project) -> Path | None:
    """Return the tar below `bundle`, or None if it is to have none. Raises UnreachableError."""
    if given == NO_BASE:
        return None
    if given:
        return Path(given).resolve()
    return base_at(project, read(bundle), instead="; --base none leaves it out")


def _copy_sboms(bundles: list[Path], images: list[Image], output: Path) -> None:
    """Lay each bundle's bill of materials beside the archive, for who reads no layers."""
    for bundle, image in zip(bundles, images, strict=True):
        infix = f".{image.architecture}" if len(images) > 1 else ""
        if (bundle / SBOM).is_file():
            shutil.copyfile(bundle / SBOM, output.with_name(f"{output.name}{infix}.{SBOM}"))


def _load(output: Path, tags: list[str], console: Console) -> None:
    """Give the archive to the engine that runs here, and say how its images are run."""
    program = engine()
    if program is None:
        console.say(f"not loaded: no engine answers here; docker load --input {output}")
        return
    load(program, output)
    for tag in tags:
        # On loopback: the image has no token, so any client that reaches the port may use it.
        console.say(f"loaded: {Path(program).stem} run --rm -p 127.0.0.1:8421:8421 {tag}")


ENGINES = ("docker", "podman")
ANSWER_SECONDS = 20
# A name and a tag as the distribution specification spells them.
_WORD = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_NAME = re.compile(
    rf"(?:[a-zA-Z0-9.-]+(?::\d+)?/)?{_WORD}(?:/{_WORD})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
)


def full_name(name: str) -> str:
    """Return `name` with its tag, `latest` if it has none. Raises UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a name of an image",
            next_step="pass --tag NAME or NAME:TAG, lower case",
        )
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def engine() -> str | None:
    """Return the program of an engine that answers, or None."""
    for name in ENGINES:
        program = shutil.which(name)
        if program is None:
            continue
        try:
            done = subprocess.run(
                [program, "info"], capture_output=True, check=False, timeout=ANSWER_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return program
    return None


def load(program: str, archive: Path) -> None:
    """Give the engine `program` the image in `archive`. Raises UnreachableError."""
    done = subprocess.run(
        [program, "load", "--input", str(archive)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise UnreachableError(
            f"{program} did not take {archive.name}",
            why=done.stderr.strip() or f"it ended with {done.returncode}",
            next_step=f"{program} load --input {archive} shows it again; the archive is whole",
        )
