"""The bundle's own papers: its manifest, its bill of materials, its notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from installer.exceptions import InstallerError

from bundler.assembly import licences
from bundler.assembly.components import GOLDEN
from bundler.assembly.licences import LicensedPart
from bundler.assembly.wheel_installer import opened
from bundler.atomic import PLAIN
from bundler.bundle import NOTICES, SBOM
from bundler.digests import Artifact, Digest
from bundler.plan import HostRuntime
from bundler.profiles import UNSLIMMED
from bundler.targets import target_named
from sidecar.manifest import Component, FileEntry, Manifest, Model, Runtime

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bundler.assembly.components import FetchedInputs
    from bundler.assembly.licences import LicensedWheel
    from bundler.console import Progress
    from bundler.plan import BundlePlan

# The parts that the papers speak of; our own service is not among them.
DESCRIBED = ("python", "heavy", "packages", "models")


def read_wheels(plan: BundlePlan, fetched: FetchedInputs) -> tuple[LicensedWheel, ...]:
    """Return what the wheels say of themselves, before anything is built from them.

    Raises PolicyError if a licence in the bundle is unknown or refused, and as `opened` does.
    """
    policy = licences.from_recipe(fetched.policy.get("licences", {}))
    wheels = tuple(
        licences.read(
            _dist_info(fetched.files[wheel.sha256], wheel.filename),
            policy,
            Artifact(name=wheel.filename, digest=Digest(sha256=wheel.sha256)),
        )
        for wheel in plan.wheels
    )
    packages = _packages(plan, fetched, wheels)
    licences.require_allowed(packages, policy)
    licences.require_none_refused([(one.title, one.expression) for one in packages], policy)
    return wheels


def write_documents(
    plan: BundlePlan, fetched: FetchedInputs, wheels: Sequence[LicensedWheel], stage: Path
) -> tuple[FileEntry, ...]:
    """Write SBOM and notices into `stage`, and return their entries.

    Both follow from the parts they describe, so a change of the service leaves them as they are.
    Raises PolicyError if something inside a wheel has a licence that is refused.
    """
    from bundler.assembly import sbom  # noqa: PLC0415 - cyclonedx is slow to import, and seldom needed

    bill = sbom.render(plan, described_inputs(plan), wheels, _libraries(plan, fetched))
    policy = licences.from_recipe(fetched.policy.get("licences", {}))
    licences.require_none_refused(sbom.licences_in(bill), policy)
    packages = _packages(plan, fetched, wheels, stage)
    entries = []
    for name, data in ((NOTICES, licences.render_notices(packages)), (SBOM, bill)):
        (stage / name).write_bytes(data)
        digest = Digest.of_bytes(data)
        entries.append(FileEntry(path=name, mode=PLAIN, size=len(data), sha256=digest.sha256))
    return tuple(entries)


def _packages(
    plan: BundlePlan,
    fetched: FetchedInputs,
    wheels: Iterable[LicensedPart],
    stage: Path | None = None,
) -> list[LicensedPart]:
    """Return everything with a licence; the runtime's text is read from `stage`, if given."""
    packages = [
        *wheels,
        *(
            LicensedPart(name=model.repository, version=model.revision, expression=model.license)
            for model in plan.models
        ),
    ]
    if plan.runtime is not None:
        # CPython's licence lies beside python.exe, or in the standard library.
        folders = (stage / target_named(plan.target).stdlib, stage / "python") if stage else ()
        places = (folder / "LICENSE.txt" for folder in folders)
        text = next((place for place in places if place.is_file()), None)
        packages.append(
            LicensedPart(
                name="CPython",
                version=plan.runtime.version,
                expression=licences.PYTHON,
                texts={"LICENSE.txt": text.read_bytes()} if text else {},
            )
        )
    return packages + _libraries(plan, fetched)


def _libraries(plan: BundlePlan, fetched: FetchedInputs) -> list[LicensedPart]:
    """Return what the recipe says is linked into CPython for this target, in order of name."""
    if plan.runtime is None:
        return []
    table = fetched.policy.get("runtime", {}).get("libraries", {})
    target = target_named(plan.target)
    return [
        LicensedPart(
            name=name,
            version="",
            expression=entry["expression"],
            inside=f"CPython {plan.runtime.version}",
            copyright=entry.get("copyright", ""),
        )
        for name, entry in sorted(table.items())
        if {target.name, target.os} & set(entry.get("targets", (target.os,)))
    ]


def _dist_info(wheel: Path, name: str) -> dict[str, bytes]:
    """Return the files in a wheel's .dist-info, by their path in it. Raises as `opened` does."""
    with opened(wheel, name) as archive:
        parts = ((info, *info.filename.partition(".dist-info/")) for info in archive.infolist())
        found = {
            path: archive.read(info)
            for info, folder, _, path in parts
            if path and not info.is_dir() and "/" not in folder
        }
        if "METADATA" not in found:
            raise InstallerError("it has no METADATA")
    return found


def described_inputs(plan: BundlePlan) -> str:
    """Return one sha256 of all that the papers depend on."""
    inputs = [plan.inputs(name) for name in DESCRIBED if name in plan.components]
    return Digest.of_bytes("\0".join([plan.version, plan.policy, *inputs]).encode()).sha256


def describe(
    plan: BundlePlan,
    components: Sequence[Component],
    documents: tuple[FileEntry, ...],
    *,
    floor: Mapping[str, str],
) -> Manifest:
    """Return the manifest of a bundle of `plan`."""
    target = target_named(plan.target)
    return Manifest(
        plan=plan.id,
        papers=described_inputs(plan),
        target=plan.target,
        version=plan.version,
        profile=plan.profile,
        runtime=Runtime(
            version=plan.runtime.version if plan.runtime else "",
            source=plan.runtime_source,
            executable=target.executable,
        ),
        default_model=plan.default_model,
        models=tuple(
            Model(
                name=model.name,
                repository=model.repository,
                revision=model.revision,
                dim=model.dim,
                max_tokens=model.max_tokens,
                pooling=model.pooling,
                snapshot=model.snapshot,
                golden=f"{GOLDEN}/{model.name}.json",
                least_int8=model.least_int8.worst if model.least_int8 else None,
                aliases=model.aliases,
                least_dim=model.least_dim,
            )
            for model in plan.models
        ),
        components=tuple(components),
        documents=documents,
        floor=floor,
        unreleasable=plan.unreleasable,
    )


def audited(
    plan: BundlePlan, fetched: FetchedInputs, stage: Path, progress: Progress
) -> Mapping[str, str]:
    """Audit the staged native code; return the floor. Raises PolicyError on a finding.

    The unslimmed profile, which cannot be released, keeps what is found, and `progress` is told.
    Without a runtime in the plan its libraries are taken for granted, and `progress` told so.
    """
    # lief takes over a second to import, and most runs change nothing native.
    from bundler.assembly import audit, linkage  # noqa: PLC0415

    target = target_named(plan.target)
    table = fetched.policy.get("audit", {})
    rules = linkage.from_recipe(table, system=target.os, target=target.name)
    is_enforced = not isinstance(plan.runtime, HostRuntime)
    report = audit.audit(
        stage, target, rules, floor_is_enforced=is_enforced, lacks_runtime=plan.runtime is None
    )
    if report.left_to_runtime:
        names = ", ".join(report.left_to_runtime)
        progress.note("audit", f"presumably of the runtime, which is left out: {names}")
    if plan.profile != UNSLIMMED:
        audit.require_clean(report)
    elif report.failures:
        progress.note("audit", f"{len(report.failures)} findings, kept: {UNSLIMMED} is not shipped")
    return report.floor.as_mapping()
