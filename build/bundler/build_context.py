"""Everything a command gathers from disk and network around the pure plan."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from bundler.artifacts import debian
from bundler.artifacts.fetch import OUT_OF_REACH
from bundler.artifacts.resolver import Resolver
from bundler.artifacts.store import Store
from bundler.assembly import bytecode, host_python, tree
from bundler.assembly.assemble import Assembled, assemble
from bundler.assembly.components import FetchedInputs
from bundler.bootstrap.connection import out_of_reach
from bundler.bundle import refuse_foreign
from bundler.digests import Digest
from bundler.errors import (
    IntegrityError,
    PolicyError,
    UnreachableError,
    UnsupportedError,
    UsageError,
)
from bundler.locks.models import read_models
from bundler.locks.runtime import RuntimeSpec
from bundler.locks.runtime import read_lock as read_runtimes
from bundler.locks.wheels import read_lock as read_wheels
from bundler.locks.wheels import require_current
from bundler.plan import COMPONENTS, BundlePlan, Locks, Sources, plan
from bundler.profiles import label
from bundler.project import parse_mirrors
from bundler.recipe import PARTS, Recipe, epoch_for, read_recipe
from bundler.targets import (
    ARCHITECTURES,
    Target,
    host_target,
    refuse_foreign_host,
    serves,
    target_named,
)
from sidecar.manifest import ManifestError, canonical, read

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection
    from pathlib import Path

    from bundler.assembly.bytecode import Compiler
    from bundler.console import Console
    from bundler.plan import HostRuntime
    from bundler.project import Project

# The service's modules that say what a model's graph holds.
FORWARD = frozenset({"architecture.py", "layout.py", "quantized.py", "weights.py"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What a bundle is asked for, and where its inputs may come from.

    What is None follows from the recipe, this machine and the checkout.
    """

    target: str | None = None
    models: tuple[str, ...] = ()
    profile: str | None = None
    runtime: str = "auto"
    parts: tuple[str, ...] = PARTS
    is_release: bool = False
    output: Path | None = None
    is_offline: bool = False
    mirrors: tuple[str, ...] = ()
    store: Path | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> BuildOptions:
        """Return what the command line of a plan says."""
        return cls(
            target=options.target,
            models=tuple(options.model),
            profile=options.profile,
            runtime=options.runtime,
            parts=options.only or PARTS,
            is_release=options.release,
            output=options.output,
            is_offline=options.offline,
            mirrors=tuple(options.mirror),
            store=options.store,
        )


@dataclass(frozen=True, kw_only=True)
class BuildContext:
    """The recipe, the locks, our own sources and the options of one command, read once."""

    options: BuildOptions
    project: Project
    console: Console
    recipe: Recipe
    locks: Locks
    sources: Sources
    target: Target
    resolver: Resolver
    epoch: int

    @classmethod
    def gather(cls, options: BuildOptions, project: Project, console: Console) -> BuildContext:
        """Read what the plan will be made from. Raises UsageError and UnsupportedError."""
        recipe = read_recipe(project.recipe)
        wheels = read_wheels(project.wheel_lock)
        require_current(wheels, project.root / "pyproject.toml")
        target = target_named(options.target) if options.target else host_target()
        assembly = tree.digest_of(tree.source_files(project.assembly))
        packed = project.service / "sidecar/engines/packed"
        context = cls(
            options=options,
            project=project,
            console=console,
            recipe=recipe,
            locks=Locks(
                runtimes=read_runtimes(project.runtime_lock),
                wheels=wheels,
                models=read_models(project.model_lock, recipe),
            ),
            sources=Sources(
                service=tree.digest_of(tree.source_files(project.service)),
                version=project.version,
                forward=tree.digest_of({n: packed / n for n in FORWARD if (packed / n).is_file()}),
                # The code that assembles, and the layout it is told to follow.
                builder=Digest.of_bytes(canonical([assembly.sha256, *target.layout])),
            ),
            target=target,
            resolver=Resolver(
                project=project,
                store=Store(options.store or project.store),
                console=console,
                addresses=recipe.sources,
                mirrors=parse_mirrors(options.mirrors, recipe.sources),
                is_offline=options.is_offline,
            ),
            epoch=epoch_for(recipe),
        )
        context._announce_profile()
        return context

    def _announce_profile(self) -> None:
        """Say that the target has a profile of its own, if it was not asked for by name."""
        if self.options.profile or self.profile == self.recipe.default_profile:
            return
        reasons = self.recipe.targets[self.target.name].without.items()
        why = "; ".join(f"it lacks the group {group}: {reason}" for group, reason in reasons)
        self.console.say(
            f"NOTICE: {self.target.name} gets the profile {self.profile}\n"
            f"  why: {why or 'the recipe says so'}"
        )

    @property
    def output(self) -> Path:
        """Where the bundle goes."""
        own = self.project.output(label(self.target.name, self.profile))
        return (self.options.output or own).resolve()

    @property
    def profile(self) -> str:
        """The profile asked for, or the target's own."""
        return self.options.profile or self.recipe.profile_for(self.target.name)

    def plan_only(self) -> BundlePlan:
        """Return the plan without touching the network: `auto` shows what the store allows."""
        host = None
        if self.options.runtime == "host":
            host = self._installed(may_fetch=False)
        elif self.options.runtime == "auto" and not self._has_runtime() and self._may_stand_in:
            # Of another machine's there may be none here yet.
            with contextlib.suppress(UnreachableError):
                host = self._installed(may_fetch=False)
        return self._plan(host, self._compiler)

    def plan(self) -> BundlePlan:
        """Return the plan; with `--runtime auto`, after finding out whether CPython can be had.

        The stand-in is announced loudly here and recorded in the manifest as not for release.
        """
        # What cannot be planned is refused before anything is fetched.
        if self._wants_runtime and self.options.runtime == "host":
            refuse_foreign_host(self.target)
        parts = tuple(part for part in self.options.parts if part != "runtime")
        self._plan(None, bytecode.own_compiler(), parts=parts)
        # First the runtime: once this machine's is in the store, it compiles, too.
        host = self._host
        return self._plan(host, self._compiler)

    def _plan(
        self, host: HostRuntime | None, compiler: Compiler, parts: tuple[str, ...] | None = None
    ) -> BundlePlan:
        return plan(
            self.recipe,
            self.locks,
            self.target,
            self.sources,
            host=host,
            compiler=compiler.version,
            models=self.options.models,
            profile=self.profile,
            parts=self.options.parts if parts is None else parts,
            epoch=self.epoch,
        )

    @property
    def _wants_runtime(self) -> bool:
        return "runtime" in (self.options.parts)

    def _spec(self) -> RuntimeSpec | None:
        return self.locks.runtimes.get(self.target.name)

    def _has_runtime(self) -> bool:
        spec = self._spec()
        return spec is not None and self.resolver.store.path(spec.artifact.digest) is not None

    @cached_property
    def _host(self) -> HostRuntime | None:
        """The stand-in for the locked runtime, or None. Looked for, and announced, once."""
        spec = self._spec()
        if self._wants_runtime and self.options.runtime == "host":
            return self._stand_in("--runtime host was given")
        if spec is None or not (self._wants_runtime and serves(self.target)):
            return None
        if self.options.runtime == "standalone" or self._has_runtime():
            # Offline, what is missing is named together with all else that is.
            if self._has_runtime() or not self.resolver.is_offline:
                self.resolver.fetch([self.resolver.runtime(spec)])
            return None
        return self._fetched_or_host(spec)

    def _fetched_or_host(self, spec: RuntimeSpec) -> HostRuntime | None:
        """Fetch the locked runtime and return None; where it cannot be had, return a stand-in.

        A machine without a network is not kept waiting, nor is one whose bundle has a stand-in and
        would be the same again. Any other waits as for every download.
        """
        request = self.resolver.runtime(spec)
        if self._may_stand_in and not self.resolver.is_offline:
            inquiry = self.resolver.ask(request)
            stands = self._stands_already()
            answer = inquiry.answer()
            if not answer.is_connected or (stands and answer.refusal):
                return self._stand_in_for(
                    out_of_reach(request.artifact.name, answer.refusal, OUT_OF_REACH)
                )
            if stands:
                self.console.say(
                    f"CPython {spec.version} can be downloaded now and replaces the stand-in"
                )
        try:
            self.resolver.fetch([request])
        except UnreachableError as error:
            return self._stand_in_for(error)
        return None

    @cached_property
    def _compiler(self) -> Compiler:
        """What compiles: the CPython locked for this machine where the store has it and it runs.

        Looked for once, so that a plan and its assembly agree.
        """
        try:
            here = host_target()
            spec = self.locks.runtimes[here.name]
            archive = self.resolver.store.verified(spec.artifact.digest, spec.artifact.name)
        except (UnsupportedError, KeyError, UnreachableError):
            return bytecode.own_compiler()
        except IntegrityError as error:
            return self._own_compiler(error.what)
        folder = self.project.out / "compiler"
        try:
            return bytecode.locked_compiler(spec, archive, here, folder)
        except UsageError as error:
            return self._own_compiler(f"{error.what}: {error.why}")

    def _own_compiler(self, reason: str) -> Compiler:
        compiler = bytecode.own_compiler()
        self.console.say(
            f"NOTICE: bytecode is compiled by this builder's own CPython {compiler.version}\n"
            f"  why: {reason}\n"
            "  so: another builder may give other bytes; the plan names the version"
        )
        return compiler

    @cached_property
    def _probed(self) -> HostRuntime:
        return host_python.probe()

    def _installed(self, *, may_fetch: bool) -> HostRuntime:
        """Return the CPython that can stand in for the locked one. Raises UnreachableError.

        It is this machine's; for another that runs Linux it is Debian's, fetched if `may_fetch`.
        """
        if self.target.triple == host_target().triple:
            return self._probed
        packages = debian.python(ARCHITECTURES[self.target.name.partition("-")[2]])
        folder = self.project.out / "cache" / "debian"
        root = debian.unpacked(packages, folder) if may_fetch else debian.held(packages, folder)
        if root is None:
            raise UnreachableError(
                f"there is no CPython for {self.target.name} here",
                why="Debian's packages of it have not been fetched",
                next_step=f"python3 build fetch --target {self.target.name}",
            )
        return host_python.probe_root(root.path, root.versions[packages.names[0]])

    @property
    def _may_stand_in(self) -> bool:
        """Whether a CPython that was installed would do at all."""
        return sys.platform == "linux" and serves(self.target) and not self.options.is_release

    def _stands_already(self) -> bool:
        """Return whether the output is already the bundle that a stand-in would give."""
        try:
            present = read(self.output)
            if present.runtime.source == "standalone":
                return False
            host = self._installed(may_fetch=False)
            return present.plan == self._plan(host, bytecode.own_compiler()).id
        except (ManifestError, UnreachableError):
            return False

    def _stand_in_for(self, missing: UnreachableError) -> HostRuntime:
        """Return the stand-in for what is missing. Raises what `_stand_in` does.

        Where there is none, the error is the one that makes it needed, with the reason added.
        """
        try:
            return self._stand_in(f"{missing.what} ({missing.why})")
        except UnreachableError as error:
            raise UnreachableError(
                missing.what,
                why=f"{missing.why}; {error.what}: {error.why}",
                next_step=missing.next_step,
            ) from error

    def _stand_in(self, reason: str) -> HostRuntime:
        """Return the stand-in, and say that it is used, and for which reason.

        Raises PolicyError for a release, UnreachableError where there is none.
        """
        if self.options.is_release:
            raise PolicyError(
                "a release needs the locked CPython",
                why=reason,
                next_step=self._way_to_the_runtime(),
            )
        host = self._installed(may_fetch=not self.resolver.is_offline)
        whose = "a copy of this machine's" if host.root is None else "Debian's"
        where = "here and where" if host.root is None else "where"
        self.console.say(
            f"NOTICE: the bundle gets {whose} CPython {host.version}\n"
            f"  why: {reason}\n"
            f"  so: it runs {where} the C library is as new or newer; the manifest marks\n"
            "  it as not for release. Each run tries the locked one again and uses it as soon\n"
            "  as it can; --runtime standalone accepts nothing else."
        )
        return host

    def _way_to_the_runtime(self) -> str:
        """Return what brings the locked CPython, of what is not in use already."""
        if self.options.runtime == "host":
            return "leave --runtime out"
        if self.resolver.is_offline:
            return "leave --offline out, where the runtime's release can be reached"
        if "runtime" in self.resolver.mirrors:
            return "check --mirror runtime, or leave it out where the release can be reached"
        return "run where the runtime's release can be reached, or pass --mirror runtime=ADDRESS"

    def fetch(self, planned: BundlePlan, components: Collection[str] = COMPONENTS) -> FetchedInputs:
        """Bring what `components` of the plan are made of onto this disk, verified.

        Raises UnreachableError, IntegrityError and DiskError.
        """
        wheels = [wheel for wheel in planned.wheels if wheel.component in components]
        requests = [self.resolver.wheel(wheel) for wheel in wheels]
        if isinstance(planned.runtime, RuntimeSpec) and "python" in components:
            requests.append(self.resolver.runtime(planned.runtime))
        for model in planned.models if "models" in components else ():
            requests += self.resolver.model(model)
        return FetchedInputs(
            files=self.resolver.fetch(requests),
            service=self.project.service,
            golden=self.project.golden,
            policy=self.recipe.sections,
            compiler=self._compiler.executable,
        )

    def assemble(self) -> Assembled:
        """Plan, fetch what is needed and assemble into `output`, with progress."""
        refuse_foreign(self.output)
        planned = self.plan()
        if self.options.is_release:
            refuse_unreleasable(planned)
        with self.console.progress("assemble") as progress:
            return assemble(planned, lambda made: self.fetch(planned, made), self.output, progress)


def refuse_unreleasable(planned: BundlePlan) -> None:
    """Raise PolicyError if a bundle of this plan must not be released."""
    if planned.unreleasable:
        raise PolicyError(
            "this bundle is not for release",
            why="; ".join(planned.unreleasable),
            next_step="assemble without --release, or where everything can be reached",
        )
