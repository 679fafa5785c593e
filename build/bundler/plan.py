"""The decision about every input of one bundle, made from data alone.

Planning touches neither disk nor network; assembling decides nothing. The canonical JSON of a plan
is its identity and the review document: two plans compare with a text diff.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from bundler.errors import UnsupportedError, unknown
from bundler.locks.models import ModelSpec, locked_model
from bundler.profiles import (
    UNSLIMMED,
    DietRule,
    Profile,
    parse_rules,
    profile_named,
    rules_for,
    wheels_of,
)
from bundler.recipe import PARTS, Recipe, TargetRules
from sidecar.manifest import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from bundler.digests import Digest
    from bundler.locks.runtime import RuntimeSpec
    from bundler.locks.wheels import WheelLock
    from bundler.targets import Target

SCHEMA = 1
# Why a bundle with one of these must not be released.
STAND_INS = {
    "host": "the runtime is a copy of the building machine's CPython",
    "debian": "the runtime is made of Debian's packages",
}
COMPONENTS = ("python", "heavy", "packages", "models", "service")


@dataclass(frozen=True, slots=True, kw_only=True)
class Locks:
    """The three locks, read."""

    runtimes: Mapping[str, RuntimeSpec]
    wheels: WheelLock
    models: Mapping[str, ModelSpec]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What identifies our own code: the service that ships, its version, and the builder.

    `forward` is the part of the service that models are given a graph of.
    """

    service: Digest
    forward: Digest
    version: str
    builder: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRuntime:
    """A host's CPython: its version, its program, and one digest of all that would be copied.

    `root` is the root file system of Debian's packages that it lies in; None on this host itself.
    """

    version: str
    executable: Path
    digest: Digest
    root: Path | None = None

    @property
    def source(self) -> Literal["host", "debian"]:
        """Where it comes from, as the manifest says it."""
        return "debian" if self.root else "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWheel:
    """A wheel, and the component it lands in."""

    package: str
    version: str
    filename: str
    sha256: str
    component: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundlePlan:
    """Every input of one bundle. Equal plans assemble to equal bytes.

    `parts` are the parts asked for; a plan with fewer than all of them is not a whole bundle.
    """

    target: str
    version: str
    service: str
    builder: str
    policy: str
    epoch: int
    path_budget: int
    compiler: str
    profile: str
    weights: str
    forward: str
    parts: tuple[str, ...]
    runtime: RuntimeSpec | HostRuntime | None
    wheels: tuple[PlannedWheel, ...]
    rules: tuple[DietRule, ...]
    models: tuple[ModelSpec, ...]
    default_model: str | None
    schema: int = SCHEMA

    @property
    def id(self) -> str:
        """The sha256 of the plan's canonical JSON."""
        return hashlib.sha256(canonical(self.document())).hexdigest()

    def document(self) -> dict[str, Any]:
        """Return the plan as plain data, for people and for its identity.

        The path of a stand-in's program says nothing of its content, so it is left out.
        """
        document = asdict(self)
        if isinstance(self.runtime, HostRuntime):
            document["runtime"] = {
                "source": self.runtime_source,
                "version": self.runtime.version,
                "sha256": self.runtime.digest.sha256,
            }
        elif self.runtime is not None:
            document["runtime"] = {
                "source": self.runtime_source,
                "version": self.runtime.version,
                "tag": self.runtime.tag,
                "triple": self.runtime.triple,
                "flavour": self.runtime.flavour,
                "name": self.runtime.artifact.name,
                "sha256": self.runtime.artifact.digest.sha256,
            }
        return document

    @property
    def runtime_source(self) -> str:
        """How the runtime is had, as the manifest says it."""
        return self.runtime.source if self.runtime else "none"

    def inputs(self, component: str) -> str:
        """Return the sha256 of the part of the plan that decides `component`."""
        document = self.document()
        fragment: dict[str, Any] = {
            key: document[key]
            for key in ("schema", "target", "builder", "compiler", "epoch", "path_budget")
        }
        match component:
            case "python":
                fragment["runtime"] = document["runtime"]
                fragment["rules"] = [r for r in document["rules"] if r["package"] == "python"]
            case "heavy" | "packages":
                wheels = [w for w in document["wheels"] if w["component"] == component]
                names = {wheel["package"] for wheel in wheels}
                fragment["wheels"] = wheels
                fragment["rules"] = [r for r in document["rules"] if r["package"] in names]
            case "models":
                fragment |= {key: document[key] for key in ("models", "weights", "forward")}
            case "service":
                fragment["service"] = document["service"]
            case _:
                message = f"no component {component!r}"
                raise ValueError(message)
        return hashlib.sha256(canonical(fragment)).hexdigest()

    @property
    def unreleasable(self) -> tuple[str, ...]:
        """Why a bundle of this plan must not be released; empty if it may."""
        reasons = []
        if isinstance(self.runtime, HostRuntime):
            reasons.append(STAND_INS[self.runtime.source])
        if self.profile == UNSLIMMED:
            reasons.append(f"the profile {UNSLIMMED} is for comparisons only")
        if left_out := [part for part in PARTS if part not in self.parts]:
            reasons.append(f"parts were left out: {', '.join(left_out)}")
        return tuple(reasons)

    @property
    def components(self) -> tuple[str, ...]:
        """The components this plan fills, in the order in which they ship."""
        present = {
            "python": "runtime" in self.parts,
            "heavy": any(wheel.component == "heavy" for wheel in self.wheels),
            "packages": any(wheel.component == "packages" for wheel in self.wheels),
            "models": bool(self.models),
            "service": "service" in self.parts,
        }
        return tuple(name for name in COMPONENTS if present[name])


def plan(  # noqa: PLR0913 - each argument is one input of a pure function
    recipe: Recipe,
    locks: Locks,
    target: Target,
    sources: Sources,
    *,
    compiler: str,
    host: HostRuntime | None = None,
    models: Iterable[str] = (),
    profile: str | None = None,
    parts: Iterable[str] = PARTS,
    epoch: int | None = None,
) -> BundlePlan:
    """Choose every input of one bundle. Pure: same arguments, same plan, no disk, no network.

    `host` replaces the locked runtime by a stand-in; `compiler` is the version of the CPython that
    compiles the bytecode, which its bytes may depend on. `models` defaults to the recipe's default.
    Raises UsageError, UnsupportedError and PolicyError, naming the part at fault.
    """
    wanted = frozenset(parts)
    for part in sorted(wanted - set(PARTS)):
        raise unknown("part", part, PARTS, option="--only")
    diet = recipe.sections.get("diet", {})
    chosen = profile_named(profile or recipe.profile_for(target.name), diet)
    wheels = _wheels(recipe, locks, target, chosen) if "wheels" in wanted else ()
    names = frozenset(wheel.package for wheel in wheels) | {"python"}
    specs = _models(recipe, locks, models) if "models" in wanted else ()
    # The rules on licences, native code and inner libraries.
    policy = {name: recipe.sections.get(name, {}) for name in ("audit", "licences", "runtime")}
    return BundlePlan(
        target=target.name,
        version=sources.version,
        service=sources.service.sha256,
        builder=sources.builder.sha256,
        policy=hashlib.sha256(canonical(policy)).hexdigest(),
        epoch=recipe.epoch if epoch is None else epoch,
        path_budget=recipe.path_budget,
        compiler=compiler,
        profile=chosen.name,
        weights=chosen.weights,
        forward=sources.forward.sha256,
        parts=tuple(part for part in PARTS if part in wanted),
        runtime=_runtime(locks, target, host) if "runtime" in wanted else None,
        wheels=wheels,
        rules=rules_for(parse_rules(diet), profile=chosen.name, target=target, packages=names),
        models=specs,
        default_model=specs[0].name if specs else None,
    )


def _runtime(locks: Locks, target: Target, host: HostRuntime | None) -> RuntimeSpec | HostRuntime:
    if host is not None:
        return host
    if target.name not in locks.runtimes:
        raise UnsupportedError(
            f"CPython is not locked for {target.name}",
            why="bundle/runtime.lock.toml has no entry for it",
            next_step="python3 build lock --runtime",
        )
    return locks.runtimes[target.name]


def _wheels(
    recipe: Recipe, locks: Locks, target: Target, profile: Profile
) -> tuple[PlannedWheel, ...]:
    require_profile(recipe, target, profile)
    return tuple(
        PlannedWheel(
            package=wheel.package,
            version=wheel.version,
            filename=wheel.artifact.name,
            sha256=wheel.artifact.digest.sha256,
            component=recipe.component(wheel.package),
        )
        for wheel in wheels_of(locks.wheels, target, profile)
    )


def require_profile(recipe: Recipe, target: Target, profile: Profile) -> None:
    """Raise UnsupportedError if `profile` is for others than `target`, or needs what it lacks."""
    if profile.targets and target.name not in profile.targets:
        own = recipe.profile_for(target.name)
        raise UnsupportedError(
            f"the profile {profile.name} is not for {target.name}",
            why=f"it is for {', '.join(profile.targets)}",
            next_step=f"python3 build assemble --target {target.name} --profile {own}",
        )
    for group, reason in recipe.targets.get(target.name, TargetRules()).without.items():
        if group in profile.groups:
            own = recipe.profile_for(target.name)
            raise UnsupportedError(
                f"the group {group} of pdm.lock is not locked for {target.name}",
                why=f"{reason}; the profile {profile.name} needs it",
                next_step=f"python3 build assemble --target {target.name} --profile {own}",
            )


def _models(recipe: Recipe, locks: Locks, names: Iterable[str]) -> tuple[ModelSpec, ...]:
    """Return the locked models asked for, the default first, each once, files in path order."""
    asked = tuple(dict.fromkeys(names)) or (recipe.default_model,)
    specs = [locked_model(name, locks.models, recipe) for name in asked]
    return tuple(
        replace(spec, files=tuple(sorted(spec.files, key=lambda file: file.path)))
        for spec in {spec.name: spec for spec in specs}.values()
    )
