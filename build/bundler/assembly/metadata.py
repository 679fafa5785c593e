"""The bundle's own papers: its manifest, its bill of materials, its notices."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from bundler.assembly import licences
from bundler.assembly.components import GOLDEN
from bundler.bundle import NOTICES, SBOM
from bundler.digests import Artifact, Digest
from bundler.locks.runtime import RuntimeSpec
from bundler.plan import HostRuntime
from bundler.profiles import UNSLIMMED
from bundler.targets import target_named
from sidecar.manifest import Component, FileEntry, Manifest, Model, Runtime

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bundler.assembly import sbom
    from bundler.assembly.components import FetchedInputs
    from bundler.assembly.licences import LicencePolicy
    from bundler.console import Progress
    from bundler.plan import BundlePlan
    from bundler.targets import Target

# The parts that the papers speak of; our own service is not among them.
DESCRIBED = ("python", "heavy", "packages", "models")
PYTHON_LICENCE = "Python-2.0"


def read_wheels(plan: BundlePlan, fetched: FetchedInputs) -> tuple[sbom.WheelPart, ...]:
    """Return what the wheels say of themselves, before anything is built from them.

    Raises PolicyError if a licence in the bundle is unknown or refused.
    """
    from bundler.assembly import sbom  # noqa: PLC0415 - cyclonedx is slow to import, and seldom needed

    policy = licences.from_recipe(fetched.policy.get("licences", {}))
    parts = tuple(
        sbom.WheelPart(
            package=_read_metadata(fetched.files[wheel.sha256], policy),
            artifact=Artifact(name=wheel.filename, digest=Digest(sha256=wheel.sha256)),
        )
        for wheel in plan.wheels
    )
    packages = _packages(plan, fetched, parts)
    licences.require_allowed(packages, policy)
    licences.require_none_refused([(one.title, one.expression) for one in packages], policy)
    return parts


def write_documents(
    plan: BundlePlan, fetched: FetchedInputs, wheels: Sequence[sbom.WheelPart], stage: Path
) -> tuple[FileEntry, ...]:
    """Write SBOM and notices into `stage`, and return their entries.

    Both follow from the parts they describe, so a change of the service leaves them as they are.
    Raises PolicyError if something inside a wheel has a licence that is refused.
    """
    from bundler.assembly import sbom  # noqa: PLC0415 - as above

    bill = _sbom(plan, fetched, wheels)
    policy = licences.from_recipe(fetched.policy.get("licences", {}))
    licences.require_none_refused(sbom.licences_in(bill), policy)
    entries = []
    for name, data in (
        (NOTICES, licences.render_notices(_packages(plan, fetched, wheels, stage))),
        (SBOM, bill),
    ):
        (stage / name).write_bytes(data)
        digest = Digest.of_bytes(data)
        entries.append(FileEntry(path=name, mode=0o644, size=len(data), sha256=digest.sha256))
    return tuple(entries)


def _packages(
    plan: BundlePlan,
    fetched: FetchedInputs,
    wheels: Iterable[sbom.WheelPart],
    stage: Path | None = None,
) -> list[licences.LicensedPart]:
    """Return everything with a licence; the runtime's text is read from `stage`, if given."""
    packages = [part.package for part in wheels]
    packages += [
        licences.LicensedPart(
            name=model.repository, version=model.revision, expression=model.license
        )
        for model in plan.models
    ]
    if plan.runtime is not None:
        text = _runtime_licence(stage, target_named(plan.target)) if stage else None
        packages.append(
            licences.LicensedPart(
                name="CPython",
                version=plan.runtime.version,
                expression=PYTHON_LICENCE,
                texts=(
                    (licences.LicenceText(path="LICENSE.txt", data=text.read_bytes()),)
                    if text
                    else ()
                ),
            )
        )
    return packages + _libraries(plan, fetched)


def _libraries(plan: BundlePlan, fetched: FetchedInputs) -> list[licences.LicensedPart]:
    """Return what the recipe says is linked into CPython for this target, in order of name."""
    if plan.runtime is None:
        return []
    table = fetched.policy.get("runtime", {}).get("libraries", {})
    target = target_named(plan.target)
    return [
        licences.LicensedPart(
            name=name,
            version="",
            expression=entry["expression"],
            inside=f"CPython {plan.runtime.version}",
            copyright=entry.get("copyright", ""),
        )
        for name, entry in sorted(table.items())
        if {target.name, target.os} & set(entry.get("targets", (target.os,)))
    ]


def _runtime_licence(stage: Path, target: Target) -> Path | None:
    """Return where CPython's licence lies: beside python.exe, or in the standard library."""
    places = (stage / folder / "LICENSE.txt" for folder in (target.stdlib, "python"))
    return next((place for place in places if place.is_file()), None)


def _read_metadata(wheel: Path, policy: LicencePolicy) -> licences.LicensedPart:
    """Return what a wheel says of itself and its licences."""
    with zipfile.ZipFile(wheel) as archive:
        parts = ((info, *info.filename.partition(".dist-info/")) for info in archive.infolist())
        files = {
            path: archive.read(info)
            for info, folder, _, path in parts
            if path and not info.is_dir() and "/" not in folder
        }
    return licences.read(files, policy)


def _sbom(plan: BundlePlan, fetched: FetchedInputs, wheels: Iterable[sbom.WheelPart]) -> bytes:
    from bundler.assembly import sbom  # noqa: PLC0415 - as above

    standalone = plan.runtime if isinstance(plan.runtime, RuntimeSpec) else None
    return sbom.render(
        plan_id=described_inputs(plan),
        target=plan.target,
        version=plan.version,
        epoch=plan.epoch,
        runtime=sbom.RuntimePart(
            version=plan.runtime.version,
            tag=standalone.tag if standalone else "",
            source=plan.runtime_source,
            expression=PYTHON_LICENCE,
            artifact=standalone.artifact if standalone else None,
            libraries=tuple(
                sbom.InnerLibrary(
                    name=library.name,
                    expression=library.expression,
                    copyright=library.copyright,
                )
                for library in _libraries(plan, fetched)
            ),
        )
        if plan.runtime
        else None,
        wheels=wheels,
        models=[
            sbom.ModelPart(
                repository=model.repository,
                revision=model.revision,
                expression=model.license,
                files=tuple(Artifact(name=file.path, digest=file.digest) for file in model.files),
                carrier=model.wheel,
            )
            for model in plan.models
        ],
    )


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
    from bundler.assembly import audit, audit_policy  # noqa: PLC0415

    target = target_named(plan.target)
    table = fetched.policy.get("audit", {})
    rules = audit_policy.from_recipe(table, system=target.os, target=target.name)
    is_enforced = not isinstance(plan.runtime, HostRuntime)
    report = audit.audit(
        stage,
        target,
        rules,
        floor_is_enforced=is_enforced,
        lacks_runtime=plan.runtime is None,
    )
    if report.left_to_runtime:
        names = ", ".join(report.left_to_runtime)
        progress.note("audit", f"presumably of the runtime, which is left out: {names}")
    if plan.profile != UNSLIMMED:
        audit.require_clean(report)
    elif report.failures:
        progress.note("audit", f"{len(report.failures)} findings, kept: {UNSLIMMED} is not shipped")
    return report.floor.as_mapping()
