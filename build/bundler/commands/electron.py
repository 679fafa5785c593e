"""Write the files with which electron-builder packs, signs and checks bundles in an Electron app.

These are a part of its configuration, hooks that verify the copy, lists and entitlements for
signing, and an estimate of the installer. Bundles: --bundle, --target, or all in bundle/out.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.bundle import read_bundle
from bundler.commands.options import FOLDER, NAME, REPEATABLE, assembling, bundles_at, folder, place
from bundler.errors import UsageError
from bundler.profiles import DEFAULT, label
from bundler.targets import TARGETS, host_target
from sidecar.manifest import MANIFEST

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = "the folder to write, inside the app's folder: build/sidecar"
    add("--output", **FOLDER, type=place, required=True, help=text)
    text = "a bundle, named by its target; repeatable"
    add("--bundle", **FOLDER, **REPEATABLE, type=Path, help=text)
    add("--target", **NAME, **REPEATABLE, help="a platform; repeatable")
    add("--profile", **NAME, help="the profile of the bundles (safe)")
    text = "the app's folder (the nearest above --output with a package.json)"
    add("--app", **FOLDER, type=folder, help=text)
    text = (
        "another folder of the bundles at packaging time, relative to the app's folder; "
        "${env.NAME} is replaced then"
    )
    add("--from", **FOLDER, dest="source", help=text)


def check(options: argparse.Namespace, project: Project) -> None:
    """Refuse bundles that are not there."""
    _roots(options, project)


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Write; say what was found, and print where it is."""
    from bundler.electron.integration import compose, payload_findings, place, write

    output: Path = options.output.resolve()
    bundles = [read_bundle(root) for root in _roots(options, project)]
    where = place(bundles, _app(options.app, output), output, source=options.source)
    templates = project.root / "bundle" / "electron" / "builder"
    integration = compose(bundles, where, templates)
    write(integration, output)
    for one in integration.payloads:
        whole = one.whole
        console.say(
            f"{one.target}: {whole.files} files, {whole.size / 1e6:.0f} MB, "
            f"about {whole.packed / 1e6:.0f} MB packed"
        )
        for finding in payload_findings(one):
            console.say(finding)
    for bundle in bundles:
        for reason in bundle.manifest.unreleasable:
            console.say(f"not for release: {bundle.manifest.target}: {reason}")
    console.say(f"add to electron-builder.yml: extends: {where.integration}/electron-builder.yml")
    sys.stdout.write(f"{output}\n")
    return 0


def _app(given: Path | None, output: Path) -> Path:
    """Return the app's folder: the one given, or the nearest above that has a package.json."""
    if given is not None:
        return given.resolve()
    found = (folder for folder in output.parents if (folder / "package.json").is_file())
    return next(found, output.parent)


def _roots(options: argparse.Namespace, project: Project) -> list[Path]:
    """Return the bundles' folders. Raises UsageError where there is none."""
    roots = bundles_at(project, options.bundle, options.target, options.profile)
    if roots:
        return roots
    profile = options.profile or DEFAULT
    known = [project.output(label(name, profile)) for name in TARGETS]
    roots = [root for root in known if (root / MANIFEST).is_file()]
    if not roots:
        raise UsageError(
            "there is no bundle",
            why=f"{project.out} has none of the profile {profile}",
            next_step=f"{assembling(host_target().name, profile)}, or name one with --bundle",
        )
    return roots
