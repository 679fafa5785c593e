"""Refresh one or more locks; review the change as a diff.

Each lock changes as a whole or not at all. --runtime needs no network; --wheels and --clients take
minutes; --models downloads what it locks and makes reference vectors with sentence-transformers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bundler.commands.options import NAME, REPEATABLE, add_store
from bundler.console import print_lines
from bundler.errors import UsageError
from bundler.project import parse_mirrors
from bundler.recipe import read_recipe

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from bundler.artifacts.resolver import Resolver
    from bundler.console import Console
    from bundler.locks.models import Int8
    from bundler.locks.wheels import WheelLock
    from bundler.project import Project
    from bundler.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--runtime", action="store_true", help="CPython, bundle/runtime.lock.toml")
    add("--wheels", action="store_true", help="every wheel, pdm.lock")
    text = "the clients of other services that the tests run, tests/smoke/clients; needs npm"
    add("--clients", action="store_true", help=text)
    text = "these models of the catalogue, or all, bundle/models.lock.toml"
    add("--models", **NAME, nargs="*", help=text)
    text = "another address for torch or hub; repeatable"
    add("--mirror", metavar="NAME=ADDRESS", **REPEATABLE, help=text)
    add_store(parser, "where downloads are kept")


def check(options: argparse.Namespace, project: Project) -> None:
    """Refuse to lock nothing, models that the catalogue does not have and mirrors of no source."""
    if not (options.runtime or options.wheels or options.clients or options.models is not None):
        raise UsageError(
            "there is nothing to lock",
            why="none of the locks was asked for",
            next_step="python3 build lock --runtime, --wheels, --clients or --models",
        )
    recipe = read_recipe(project.recipe)
    for name in options.models or ():
        recipe.model(name, option="--models")
    parse_mirrors(options.mirror, recipe.sources)


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Refresh what was asked for; print what changed."""
    if options.runtime:
        _lock_runtime(project)
    if options.wheels:
        _lock_wheels(options, project, console)
    if options.clients:
        _lock_clients(project, console)
    if options.models is not None:
        _lock_models(options, project, console)
    return 0


def _resolver(
    options: argparse.Namespace, project: Project, console: Console, recipe: Recipe
) -> Resolver:
    from bundler.artifacts.resolver import Resolver
    from bundler.artifacts.store import Store

    return Resolver(
        project=project,
        store=Store(options.store or project.store),
        console=console,
        addresses=recipe.sources,
        mirrors=parse_mirrors(options.mirror, recipe.sources),
        is_offline=False,
    )


def _lock_runtime(project: Project) -> None:
    from bundler.locks import runtime
    from bundler.targets import TARGETS

    path = project.runtime_lock
    before = runtime.read_lock(path) if path.exists() else {}
    after = runtime.refresh(TARGETS.values())
    runtime.write_lock(path, after)
    old = {name: f"{spec.version}+{spec.tag}" for name, spec in before.items()}
    new = {name: f"{spec.version}+{spec.tag}" for name, spec in after.items()}
    print_lines(f"runtime {line}" for line in differences(old, new))


def _lock_wheels(options: argparse.Namespace, project: Project, console: Console) -> None:
    from bundler.artifacts.sources import PDM_CONFIGURATION
    from bundler.atomic import replace_files
    from bundler.locking import wheel_lock
    from bundler.locks import wheels

    resolver = _resolver(options, project, console, read_recipe(project.recipe))
    settings_file = project.root / PDM_CONFIGURATION
    if settings_file.exists():
        settings = settings_file.read_text(encoding="utf-8")
    else:
        settings = wheel_lock.configuration(resolver.indexes, resolver.address("torch"))
        console.say(f"wheels: writing {PDM_CONFIGURATION}, which says where torch's CPU build is")
    text, counts = wheel_lock.refresh(
        project.root, settings, platforms=wheel_lock.PLATFORMS, say=console.say
    )
    old = _versions(wheels.read_lock(project.wheel_lock)) if project.wheel_lock.exists() else {}
    replace_files({settings_file: settings, project.wheel_lock: text})
    new = _versions(wheels.parse_lock(text))
    print_lines(f"wheel {line}" for line in differences(old, new))
    print_lines(f"target {name}: {count} wheels" for name, count in counts.items())


def _lock_clients(project: Project, console: Console) -> None:
    from bundler.atomic import replace_files
    from bundler.locking import client_lock

    files = client_lock.refresh(project.clients, say=console.say)
    old = client_lock.versions(project.clients)
    replace_files(files)
    new = client_lock.versions(project.clients)
    print_lines(f"client {line}" for line in differences(old, new))


def _lock_models(options: argparse.Namespace, project: Project, console: Console) -> None:
    from bundler.artifacts.sources import IndexSource
    from bundler.atomic import replace_files
    from bundler.golden import TEXTS, read_texts
    from bundler.locking.model_lock import Hub, Locker
    from bundler.locks.models import read_models, render_models

    recipe = read_recipe(project.recipe)
    asked = options.models or recipe.catalogue
    wanted = {model.name: model for model in (recipe.model(name) for name in asked)}
    before = read_models(project.model_lock, recipe)
    resolver = _resolver(options, project, console, recipe)
    hub = Hub(
        endpoint=resolver.hub,
        network=resolver.network,
        token=os.environ.get("HF_TOKEN"),
        named_by="--mirror hub"
        if "hub" in resolver.mirrors
        else "HF_ENDPOINT" * bool(os.environ.get("HF_ENDPOINT")),
    )
    with console.progress("lock") as progress:
        locker = Locker(
            recipe=recipe,
            store=resolver.store,
            network=resolver.network,
            wheels=IndexSource(resolver.indexes, resolver.network),
            hub=hub,
            texts=read_texts(project.golden / TEXTS),
            before=before,
            golden=project.golden,
            say=console.say,
            progress=progress,
        )
        locked = {name: locker.lock(model) for name, model in wanted.items()}
    after = {**before, **{name: entry.spec for name, entry in locked.items()}}
    # The lock holds the hashes of the golden files, so it comes last.
    texts = {project.golden / f"{name}.json": entry.golden for name, entry in locked.items()}
    replace_files({**texts, project.model_lock: render_models(after.values())})
    old = {name: spec.revision for name, spec in before.items()}
    new = {name: spec.revision for name, spec in after.items()}
    print_lines(f"model {line}" for line in differences(old, new))
    for name in locked:
        spec = after[name]
        size = sum(file.digest.size or 0 for file in spec.files)
        holds = f"{len(spec.files)} files, {size / 1e6:.0f} MB"
        does = f"{spec.dim} dimensions, {spec.max_tokens} tokens, {spec.pooling} pooling"
        print_lines([f"model {name}: {holds}, {does}, {_of_int8(spec.int8)}"])


def _of_int8(int8: Int8 | None) -> str:
    """Return in words what a model's int8 measured, and whether it has any."""
    if int8 is None:
        return "no int8: only the packed engine has it, and that cannot run this model"
    measured = f"int8 measured {int8.measured.worst} at worst and {int8.measured.mean} in the mean"
    if int8.least is None:
        return f"{measured}: too little, so it has none"
    return f"{measured}, at least {int8.least.worst} and {int8.least.mean}"


def _versions(lock: WheelLock) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for package in lock.packages:
        found.setdefault(package.name, set()).add(package.version)
    return {name: " and ".join(sorted(versions)) for name, versions in found.items()}


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return one line for each name that came, went or changed; one line if none did."""
    lines = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old is None:
            lines.append(f"{name}: {new}, new")
        elif new is None:
            lines.append(f"{name}: {old}, gone")
        elif old != new:
            lines.append(f"{name}: {old} -> {new}")
    return lines or ["unchanged"]
