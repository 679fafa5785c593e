"""Explain why a file is in a bundle or not: its component and package, or the diet rule.

The path may be relative to the bundle or to site-packages, or one of this machine.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.commands.options import add_store, own_bundle

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("file", help="such as torch/test/test_api")
    parser.add_argument(
        "--bundle", type=Path, metavar="PATH", help="the bundle (this machine's in bundle/out)"
    )
    add_store(parser, "where the wheels are")


def check(options: argparse.Namespace, project: Project) -> None:
    """Refuse a path where there is no bundle."""
    own_bundle(project, options.bundle)


def run(options: argparse.Namespace, project: Project, console: Console) -> int:  # noqa: ARG001
    """Look it up; print what is known. Raises UsageError where nothing is."""
    from bundler.artifacts.store import Store
    from bundler.inspection.explain import describe, runtime_omissions, why
    from bundler.inspection.inventory import take_stock
    from bundler.inspection.omissions import omissions
    from bundler.locks import runtime
    from bundler.locks.wheels import read_lock
    from bundler.recipe import read_recipe
    from bundler.targets import host_target, target_named

    bundle: Path = options.bundle or project.output(host_target().name)
    store = Store(options.store or project.store)
    inventory = take_stock(bundle)
    left_out = omissions(
        read_recipe(project.recipe), read_lock(project.wheel_lock), store, inventory
    )
    target = target_named(inventory.manifest.target)
    spec = runtime.read_lock(project.runtime_lock).get(target.name)
    if inventory.manifest.runtime.source == "standalone" and spec is not None:
        more = runtime_omissions(spec, target, store)
        left_out = replace(left_out, found=(*left_out.found, *more))
    answer = why(options.file, bundle, inventory, left_out)
    sys.stdout.write("".join(f"{line}\n" for line in describe(answer)))
    return 0
