"""The bundles that a release holds: one for each target that can be had here."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.errors import BundlerError, PolicyError, UnreachableError, UnsupportedError
from bundler.inputs import Inputs
from bundler.locks.runtime import RuntimeSpec
from bundler.targets import TARGETS, host_target, target_named

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bundler.console import Console
    from bundler.project import Project
    from bundler.recipe import Recipe
    from sidecar.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a release is to hold; a dry one takes stand-ins, and goes on without what is missing."""

    targets: tuple[str, ...]
    models: tuple[str, ...]
    profile: str | None
    is_dry: bool
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A whole bundle: where it lies, and its manifest."""

    root: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundles:
    """The bundles, in the order of their targets, and why others are not among them."""

    present: tuple[Bundle, ...]
    missing: Mapping[str, BundlerError]

    @property
    def findings(self) -> tuple[str, ...]:
        """Why the bundles must not be released, if so."""
        return tuple(
            f"{bundle.manifest.target}: {reason}"
            for bundle in self.present
            for reason in bundle.manifest.unreleasable
        )


def wanted(options: argparse.Namespace, recipe: Recipe, locked: frozenset[str]) -> Wanted:
    """Return what `options` ask for: every target, and the model that the recipe releases.

    In a dry run the recipe's default model stands in for one that is not `locked`. Raises
    UsageError, PolicyError.
    """
    targets = tuple(target_named(name).name for name in options.target) or tuple(TARGETS)
    models: tuple[str, ...] = tuple(options.model)
    findings: tuple[str, ...] = ()
    if not models:
        models = (recipe.release_model,)
        if recipe.release_model not in locked:
            text = f"the model {recipe.release_model}, which a release carries, is not locked"
            if not options.dry_run:
                raise PolicyError(
                    text,
                    why="bundle/models.lock.toml has no entry for it",
                    next_step=f"python3 build lock --models {recipe.release_model}, or --model",
                )
            models = (recipe.default_model,)
            findings = (f"{text}; {recipe.default_model} stands in",)
    return Wanted(
        targets=tuple(dict.fromkeys(targets)),
        models=models,
        profile=options.profile,
        is_dry=options.dry_run,
        findings=findings,
    )


def assembled(
    wish: Wanted, options: argparse.Namespace, project: Project, console: Console
) -> Bundles:
    """Assemble each target into its own folder; a present bundle of the same plan is reused.

    Raises what assembling raises; in a dry run a target that cannot be had here, since a lock or
    the network lacks something, is missing instead.
    """
    present, missing = [], {}
    for name in wish.targets:
        console.say(f"bundle {name}")
        try:
            present.append(_bundle(name, wish, options, project, console))
        except (UnreachableError, UnsupportedError) as error:
            if not wish.is_dry:
                raise
            missing[name] = error
            console.say(f"missing {name}: {error.what}" + (f"; {error.why}" if error.why else ""))
    return Bundles(present=tuple(present), missing=missing)


def _bundle(
    name: str, wish: Wanted, options: argparse.Namespace, project: Project, console: Console
) -> Bundle:
    inputs = Inputs.gather(
        argparse.Namespace(
            target=name,
            model=list(wish.models),
            profile=wish.profile,
            runtime="auto",
            only=None,
            release=not wish.is_dry,
            output=None,
            offline=options.offline,
            mirror=options.mirror,
            store=options.store,
        ),
        project,
        console,
    )
    if name != host_target().name:
        # Its wheels are hundreds of megabytes: first that which is the likeliest to be missing.
        runtime = inputs.plan().runtime
        if isinstance(runtime, RuntimeSpec):
            request = inputs.supply.runtime(runtime)
            if wish.is_dry:
                inputs.supply.require_connection(request)
            inputs.supply.fetch([request])
    return Bundle(root=inputs.output, manifest=inputs.assemble().manifest)
