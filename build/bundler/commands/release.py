"""Make a release: archives, the image, provenance and checksums, each checked after it was written.

Missing and outdated bundles are assembled. A dry run marks stand-ins and continues without missing
parts; a real one refuses both. The same sources give the same SHA256SUMS.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.commands.options import (
    FOLDER,
    NAME,
    REPEATABLE,
    add_fetch_options,
    base_at,
    check_names,
    check_sources,
    place,
)
from bundler.errors import UsageError
from bundler.recipe import epoch_for, read_recipe
from bundler.release import verify_sidecar
from bundler.targets import TARGETS, target_named
from sidecar.arguments import number

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from bundler.bundle import ListedBundle
    from bundler.console import Console
    from bundler.project import Project

MB = 10**6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--dry-run", action="store_true", help="mark stand-ins, and continue")
    add("--target", **NAME, **REPEATABLE, help="a platform; repeatable (all)")
    text = "a model to embed; repeatable (the recipe's release_model)"
    add("--model", **NAME, **REPEATABLE, help=text)
    add("--profile", **NAME, help="the profile: safe, lean or mps (safe; lean for linux-arm64)")
    add("--version-tag", metavar="vVERSION", help="refuse to make another version")
    text = "cut larger archives into parts .001, .002"
    add("--split-mb", type=number(1, 10**6), metavar="N", help=text)
    add("--source", metavar="URI", help="the repository, for the provenance statement")
    add("--builder", metavar="URI", help="id of the builder, for the provenance statement")
    add("--output", **FOLDER, type=place, help="the folder to write (bundle/out/release)")
    add_fetch_options(parser)
    parser.set_defaults(runtime="auto", only=None)


def check(options: argparse.Namespace, project: Project) -> None:
    """Refuse unknown names, another version than asked for, and a folder that is not ours."""
    recipe = read_recipe(project.recipe)
    epoch_for(recipe)
    for name in options.target:
        target_named(name)
    check_names(options, project, recipe)
    check_sources(options, recipe)
    version, output = project.version, _output(options, project)
    if options.version_tag not in (None, f"v{version}"):
        raise UsageError(
            f"the tag {options.version_tag} is not this version",
            why=f"service/sidecar/__init__.py says {version}",
            next_step=f"tag v{version}, or change the version in the sources",
        )
    if output.exists() and (foreign := _foreign(output)):
        raise UsageError(
            "the output folder holds something that is not a release",
            why=f"no release in {output} names {foreign}; nothing was deleted",
            next_step="name an empty or a new folder with --output",
        )


def _foreign(output: Path) -> str:
    """Return the name of the first file in the folder that is of no release, or nothing.

    Other things that people download come with a SHA256SUMS, too: a release's names its verifier.
    """
    listed: set[str] = set()
    with suppress(OSError, UnicodeDecodeError):
        lines = (output / verify_sidecar.SUMS).read_text(encoding="utf-8").splitlines()
        listed = {found[2] for line in lines if (found := verify_sidecar.SUM.fullmatch(line))}
    is_release = Path(verify_sidecar.__file__).name in listed
    own = {*listed, verify_sidecar.SUMS} if is_release else set()
    return min((path.name for path in output.iterdir() if path.name not in own), default="")


def _output(options: argparse.Namespace, project: Project) -> Path:
    given: Path | None = options.output
    return (given or project.out / "release").resolve()


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Make it; print where it is."""
    from bundler.artifacts.store import Store
    from bundler.atomic import publish, stage_beside
    from bundler.build_context import BuildOptions
    from bundler.locks.models import read_models
    from bundler.release import contents

    started = time.monotonic()
    recipe, is_dry = read_recipe(project.recipe), options.dry_run
    options.release = not is_dry
    output = _output(options, project)
    commit, findings = contents.read_checkout(project.root)
    locked = read_models(project.model_lock, recipe)
    models, stand_ins = contents.models_of(recipe, locked, options.model, is_dry=is_dry)
    findings += stand_ins
    _mark(findings, console, is_dry=is_dry)
    own = replace(BuildOptions.of(options), target=None, output=None, models=models)
    targets = tuple(dict.fromkeys(options.target)) or tuple(TARGETS)
    present, missing = contents.assembled(targets, own, project, console)
    found = [
        f"{one.manifest.target}: {reason}"
        for one in present
        for reason in one.manifest.unreleasable
    ]
    _mark(found, console, is_dry=is_dry)
    if not present:
        raise next(iter(missing.values()))
    bases = _bases(present, project, console, is_dry=is_dry)
    edition = contents.ReleaseContents(
        bundles=present,
        bases=bases,
        epoch=epoch_for(recipe),
        asked={
            "targets": list(targets),
            "models": list(models),
            "profile": options.profile,
            "version": options.version_tag,
            "splitMb": options.split_mb,
            "isDryRun": is_dry,
        },
        found={
            "plans": {one.manifest.target: one.manifest.plan for one in present},
            "profiles": {one.manifest.target: one.manifest.profile for one in present},
            "missing": sorted(missing),
            "notForRelease": [*findings, *found],
        },
        inputs=_inputs(project, bases),
        commit=commit,
        source=options.source,
        builder=options.builder or contents.LOCAL_BUILDER,
        part_bytes=options.split_mb * MB if options.split_mb else None,
    )
    store = Store(options.store or project.store)
    with stage_beside(output) as stage, console.progress("release") as progress:
        contents.write_release(edition, stage, store, progress)
        sizes = {path.name: path.stat().st_size for path in sorted(stage.iterdir())}
        publish(stage, output)
    for name, size in sizes.items():
        console.say(f"{size:>12}  {name}")
    for target, error in missing.items():
        console.say(f"missing: {target}: {error.what}")
    console.say(f"{len(sizes)} files, every one checked, {time.monotonic() - started:.1f} s")
    sys.stdout.write(f"{output}\n")
    return 0


def _mark(findings: list[str], console: Console, *, is_dry: bool) -> None:
    """Say what must not be released. Raises PolicyError unless this is a dry run."""
    from bundler.errors import PolicyError

    for finding in findings:
        console.say(f"not for release: {finding}")
    if findings and not is_dry:
        raise PolicyError(
            "this cannot be released",
            why="; ".join(findings),
            next_step="fix that, or make the rest with --dry-run",
        )


def _bases(
    bundles: Iterable[ListedBundle], project: Project, console: Console, *, is_dry: bool
) -> dict[str, Path]:
    """Return what each image stands on, by target. Raises UnreachableError unless it is dry."""
    from bundler.errors import UnreachableError

    found = {}
    for bundle in bundles:
        target = bundle.manifest.target
        if not target.startswith("linux-"):
            continue
        try:
            found[target] = base_at(project, bundle.manifest)
        except UnreachableError as error:
            if not is_dry:
                raise
            console.say(f"missing image for {target}: {error.what}; {error.next_step}")
    return found


def _inputs(project: Project, bases: dict[str, Path]) -> dict[str, str]:
    """Return the sha256 of everything that decides what is inside, by name."""
    from bundler.digests import Digest

    folder = project.recipe.parent
    paths = [project.wheel_lock, project.recipe, *sorted(folder.glob("*.lock.toml"))]
    named = {path.relative_to(project.root).as_posix(): path for path in paths}
    named |= {path.name: path for path in bases.values()}
    return {name: Digest.of_file(path).sha256 for name, path in named.items()}
