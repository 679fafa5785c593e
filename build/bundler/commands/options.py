"""Options that several commands share, spelled once, and what can be known of them at once.

What is checked here needs the standard library alone: it is checked before anything is installed,
fetched or announced.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundler.bundle import refuse_foreign, require_bundle
from bundler.errors import PolicyError, UnreachableError, unknown
from bundler.profiles import DEFAULT, WITH_SHELL, label, profile_named
from bundler.project import parse_mirrors
from bundler.recipe import PARTS, epoch_for, read_recipe
from bundler.targets import ARCHITECTURES, Target, host_target, refuse_foreign_host, target_named

if TYPE_CHECKING:
    from bundler.project import Project
    from bundler.recipe import Recipe
    from sidecar.manifest import Manifest

# What options have in common.
NAME: dict[str, Any] = {"metavar": "NAME"}
FOLDER: dict[str, Any] = {"metavar": "FOLDER"}
REPEATABLE: dict[str, Any] = {"action": "append", "default": []}


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides a plan, and where its artifacts come from."""
    add = parser.add_argument
    add("--target", **NAME, help="the target to assemble for (this machine's)")
    text = "a model of the catalogue to embed, the first is the default; repeatable"
    add("--model", **NAME, **REPEATABLE, help=text)
    add(
        "--profile",
        **NAME,
        help="the profile: none, safe, lean or mps (safe; lean for linux-arm64)",
    )
    text = (
        "source of CPython: the locked one; with auto, if that cannot be downloaded, a copy of "
        "this machine's, or Debian's for Linux on another processor (auto)"
    )
    add("--runtime", choices=("auto", "standalone", "host"), default="auto", help=text)
    parser.set_defaults(release=False, output=None)
    parts, text = lambda given: tuple(given.split(",")), "some of runtime,wheels,models,service"
    add("--only", metavar="PARTS", type=parts, help=text)
    add_fetch_options(parser)


def add_fetch_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides where artifacts come from."""
    add = parser.add_argument
    add("--offline", action="store_true", help="use only what is in the store")
    text = "another address for torch, runtime or hub; repeatable"
    add("--mirror", metavar="NAME=ADDRESS", **REPEATABLE, help=text)
    add_store(parser, "where downloads are kept")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add where the bundle goes, and what it is for."""
    add = parser.add_argument
    add("--release", action="store_true", help="refuse stand-ins and parts left out (exit 7)")
    add("--output", **FOLDER, type=Path, help="the bundle's folder (bundle/out/TARGET)")


def add_store(parser: argparse.ArgumentParser, what: str) -> None:
    """Add where the store is."""
    parser.add_argument("--store", **FOLDER, type=place, help=f"{what} (bundle/out/store)")


def place(text: str) -> Path:
    """Return where a folder is, or will be. Raises ArgumentTypeError for a file."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        message = f"{text} is a file, not a folder"
        raise argparse.ArgumentTypeError(message)
    return path


def folder(text: str) -> Path:
    """Return where a folder is. Raises ArgumentTypeError where there is none."""
    if not Path(text).is_dir():
        message = f"there is no folder {text}"
        raise argparse.ArgumentTypeError(message)
    return Path(text)


def file(text: str) -> Path:
    """Return where a file is. Raises ArgumentTypeError where there is none."""
    if not Path(text).is_file():
        message = f"there is no file {text}"
        raise argparse.ArgumentTypeError(message)
    return Path(text)


def check_plan(options: argparse.Namespace, project: Project) -> None:
    """Refuse what no plan can be made of, or no bundle be put to. Raises UsageError and kin."""
    recipe = read_recipe(project.recipe)
    epoch_for(recipe)
    target = target_of(options)
    check_names(options, project, recipe)
    for part in options.only or ():
        if part not in PARTS:
            raise unknown("part", part, PARTS, option="--only")
    if options.runtime == "host":
        refuse_foreign_host(target)
    stands_in = {
        "--runtime host": options.runtime == "host",
        "--only": options.only is not None and set(options.only) != set(PARTS),
    }
    for option in (option for option, is_given in stands_in.items() if is_given):
        if options.release:
            raise PolicyError(
                f"a release cannot be made with {option}",
                why="it has the locked CPython and every part",
                next_step=f"leave {option} out, or --release",
            )
    if options.output is not None:
        refuse_foreign(options.output.absolute())
    check_sources(options, recipe)


def check_names(options: argparse.Namespace, project: Project, recipe: Recipe) -> None:
    """Refuse names of a profile and of models that are not known, or not locked."""
    from bundler.locks.models import locked_model, read_models

    if options.profile is not None:
        profile_named(options.profile, recipe.sections.get("diet", {}))
    if options.model:
        locked = read_models(project.model_lock, recipe)
        for name in options.model:
            locked_model(name, locked, recipe)


def check_sources(options: argparse.Namespace, recipe: Recipe) -> None:
    """Refuse mirrors of no source. Raises UsageError."""
    parse_mirrors(options.mirror, recipe.sources)


def target_of(options: argparse.Namespace) -> Target:
    """Return the one target that `options` name, or this machine. Raises UnsupportedError."""
    return host_target() if options.target is None else target_named(options.target)


def bundles_at(
    project: Project, paths: list[Path], targets: list[str], profile: str | None
) -> list[Path]:
    """Return the folders of the bundles that are named, by path or as they are assembled here.

    Raises UsageError where there is none, UnsupportedError and UsageError for unknown names.
    """
    recipe = read_recipe(project.recipe)
    if profile is not None:
        profile_named(profile, recipe.sections.get("diet", {}))
    for path in paths:
        require_bundle(path)
    found = [path.resolve() for path in paths]
    for name in targets:
        own = profile or recipe.profile_for(target_named(name).name)
        found.append(project.output(label(name, own)))
        require_bundle(found[-1], make=assembling(name, own))
    return found


def own_bundle(project: Project, path: Path | None) -> Path:
    """Return the bundle at `path`, or this machine's. Raises UsageError where there is none."""
    return bundles_at(
        project, [] if path is None else [path], [host_target().name] if path is None else [], None
    )[0]


def base_at(project: Project, bundle: Manifest, *, instead: str = "") -> Path:
    """Return the tar that the image of a Linux bundle stands on. Raises UnreachableError."""
    architecture = ARCHITECTURES.get(bundle.target.partition("-")[2], "ARCH")
    infix, option = ("-shell", " --shell") if bundle.profile in WITH_SHELL else ("", "")
    path: Path = project.out / f"base{infix}-{architecture}.tar"
    if not path.is_file():
        raise UnreachableError(
            f"there is no base for the image of {bundle.target}",
            why=f"nothing at {path}",
            next_step=f"ci/base{option} {architecture} makes one{instead}",
        )
    return path


def assembling(target: str, profile: str) -> str:
    """Return the command that assembles such a bundle."""
    words = ["python3 build assemble"]
    if target != host_target().name:
        words.append(f"--target {target}")
    if profile != DEFAULT:
        words.append(f"--profile {profile}")
    return " ".join(words)
