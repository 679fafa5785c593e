"""Write a bundle as a container image: equal bundles on an equal base make equal images.

No engine and no registry is needed. The archive is an OCI layout that `docker load`, `podman load`
and `skopeo copy` take; several bundles make one image for several machines. With --tag it is also
loaded, if Docker or Podman runs here. Which bundles: PATH, --target, or this machine's.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.images.image import Image
    from bundler.project import Project

NO_BASE = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("path", type=Path, nargs="*", help="the bundle's folder; repeatable")
    parser.add_argument(
        "--target", metavar="NAME", action="append", default=[], help="a platform; repeatable"
    )
    parser.add_argument("--profile", metavar="NAME", help="which bundle of a target (safe)")
    parser.add_argument("--tag", metavar="NAME", help="the image's name (sidecar:VERSION); load it")
    parser.add_argument(
        "--base",
        metavar="FILE",
        help="a tar of the root file system below, or none (bundle/out/base-ARCH.tar)",
    )
    parser.add_argument("--revision", metavar="TEXT", help="the commit, for the image's label")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the archive (beside the first bundle)"
    )
    parser.add_argument(
        "--store", type=Path, metavar="FOLDER", help="where layers are kept (bundle/out/store)"
    )


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Compose, write, load; print where the archive is, and say the image's digest."""
    from bundler.artifacts.store import Store  # noqa: PLC0415 - needs the environment
    from bundler.images.engine import full_name  # noqa: PLC0415 - needs the environment
    from bundler.images.image import compose, write  # noqa: PLC0415 - needs the environment
    from bundler.images.layers import Layers  # noqa: PLC0415 - needs the environment
    from bundler.inputs import epoch_for  # noqa: PLC0415 - needs the environment
    from bundler.recipe import read_recipe  # noqa: PLC0415 - needs the environment

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
    output = (options.output or bundles[0].parent / _file_name(images)).resolve()
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
        _load(output, tag, console)
    sys.stdout.write(f"{output}\n")
    return 0


def _bundles(options: argparse.Namespace, project: Project) -> list[Path]:
    """Return the bundles' folders. Raises UsageError for one machine named twice."""
    from bundler.errors import UsageError, VerificationError  # noqa: PLC0415
    from bundler.profiles import DEFAULT, label  # noqa: PLC0415 - needs the environment
    from bundler.targets import host_target, target_named  # noqa: PLC0415 - needs the environment
    from sidecar.manifest import ManifestError, read  # noqa: PLC0415

    folders = [path.resolve() for path in options.path]
    profile = options.profile or DEFAULT
    targets = [target_named(name) for name in options.target]
    if not (folders or targets):
        targets = [host_target()]
    folders += [project.output(label(target.name, profile)) for target in targets]
    names = []
    for folder in folders:
        try:
            names.append(read(folder).target)
        except ManifestError as error:
            raise VerificationError(
                f"there is no bundle at {folder}",
                why=str(error),
                next_step=f"python3 build assemble --profile {profile}",
            ) from error
    if len(set(names)) < len(names):
        raise UsageError(
            "two of the bundles are for the same machine",
            why=f"their targets are {', '.join(names)}",
            next_step="name each target once",
        )
    return folders


def _base(given: str | None, bundle: Path, project: Project) -> Path | None:
    """Return the tar below `bundle`, or None if it is to have none. Raises UnreachableError."""
    from bundler.errors import UnreachableError  # noqa: PLC0415 - as the others
    from bundler.images.oci import ARCHITECTURES  # noqa: PLC0415 - needs the environment
    from sidecar.manifest import read  # noqa: PLC0415

    if given == NO_BASE:
        return None
    architecture = ARCHITECTURES.get(read(bundle).target.partition("-")[2], "ARCH")
    path = Path(given).resolve() if given else project.out / f"base-{architecture}.tar"
    if not path.is_file():
        raise UnreachableError(
            "there is no base for the image to stand on",
            why=f"nothing at {path}",
            next_step=f"ci/base {architecture} makes one; --base none leaves it out",
        )
    return path


def _file_name(images: list[Image]) -> str:
    from bundler.profiles import label  # noqa: PLC0415 - needs the environment

    bundle = images[0].bundle
    targets = "-".join(image.bundle.target for image in images)
    return f"sidecar-{bundle.version}-{label(targets, bundle.profile)}.oci.tar"


def _copy_sboms(bundles: list[Path], images: list[Image], output: Path) -> None:
    """Lay each bundle's bill of materials beside the archive, for who reads no layers."""
    from bundler.images.image import SBOM  # noqa: PLC0415 - needs the environment

    for bundle, image in zip(bundles, images, strict=True):
        infix = f".{image.architecture}" if len(images) > 1 else ""
        if (bundle / SBOM).is_file():
            shutil.copyfile(bundle / SBOM, output.with_name(f"{output.name}{infix}.{SBOM}"))


def _load(output: Path, tag: str, console: Console) -> None:
    from bundler.images.engine import engine, load  # noqa: PLC0415 - needs the environment

    program = engine()
    if program is None:
        console.say(f"not loaded: no engine answers here; docker load --input {output}")
        return
    load(program, output)
    console.say(f"loaded: docker run --rm -p 8421:8421 {tag}")
