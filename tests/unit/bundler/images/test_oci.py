from __future__ import annotations

import json
from pathlib import Path

from bundler.digests import Digest
from bundler.images import oci
from bundler.images.layers import Layer

EPOCH = 1_700_000_000
PROCESS = oci.ImageProcess(
    arguments=("/python", "-I"),
    health=("/python", "-c", "check"),
    port=8421,
    user="65532:65532",
    folder="/opt/sidecar",
    labels={"a": "b"},
)


def layer(name: str) -> Layer:
    return Layer(
        name=name,
        digest=Digest.of_bytes(name.encode()),
        diff_id=Digest.of_bytes(name.encode() * 2).sha256,
        path=Path(name),
    )


def made(architecture: str = "amd64") -> oci.ImageDocument:
    return oci.config(PROCESS, [layer("one")], architecture=architecture, epoch=EPOCH)


def test_a_moment_is_universal_time_whatever_the_machines_zone() -> None:
    assert oci.moment(EPOCH) == "2023-11-14T22:13:20Z"


def test_the_configuration_says_what_runs_and_as_whom() -> None:
    document = json.loads(made().data)
    assert (document["os"], document["architecture"]) == ("linux", "amd64")
    assert document["created"] == document["history"][0]["created"] == "2023-11-14T22:13:20Z"
    assert document["config"]["Entrypoint"] == ["/python", "-I"]
    assert document["config"]["User"] == "65532:65532"
    assert document["config"]["ExposedPorts"] == {"8421/tcp": {}}
    assert document["config"]["StopSignal"] == "SIGTERM"
    assert document["config"]["Labels"] == {"a": "b"}
    assert "Env" not in document["config"]


def test_health_is_asked_for_in_nanoseconds_and_without_a_shell() -> None:
    health = json.loads(made().data)["config"]["Healthcheck"]
    assert health["Test"] == ["CMD", "/python", "-c", "check"]
    assert health["Timeout"] == oci.TIMEOUT_S * 10**9 < health["Interval"]


def test_the_configuration_names_tars_and_the_manifest_names_what_is_compressed() -> None:
    layers = [layer("one"), layer("two")]
    configuration = oci.config(PROCESS, layers, architecture="arm64", epoch=EPOCH)
    document = json.loads(configuration.data)
    assert document["rootfs"]["diff_ids"] == [f"sha256:{one.diff_id}" for one in layers]
    assert len(document["history"]) == len(layers)
    manifest = json.loads(oci.manifest(configuration, layers).data)
    assert [one["digest"] for one in manifest["layers"]] == [
        f"sha256:{one.digest.sha256}" for one in layers
    ]
    assert manifest["config"]["digest"] == f"sha256:{configuration.digest.sha256}"
    assert manifest["config"]["size"] == len(configuration.data)


def test_an_index_tells_machines_apart() -> None:
    manifests = [(name, oci.manifest(made(name), [layer("one")])) for name in ("amd64", "arm64")]
    document = json.loads(oci.index(manifests).data)
    assert [one["platform"]["architecture"] for one in document["manifests"]] == ["amd64", "arm64"]
    assert len({one["digest"] for one in document["manifests"]}) == 2


def test_the_name_of_an_image_is_no_part_of_its_digest() -> None:
    top = oci.manifest(made(), [layer("one")])
    first, second = (json.loads(oci.layout_index(top, name=name)) for name in ("a:1", "b:2"))
    assert first != second
    assert first["manifests"][0]["digest"] == second["manifests"][0]["digest"]


def test_docker_reads_the_same_blobs() -> None:
    (entry,) = json.loads(oci.docker_index([("a:1", made(), [layer("one")])]))
    assert entry["Config"] == oci.blob(made().digest)
    assert entry["Layers"] == [oci.blob(layer("one").digest)]
    assert entry["RepoTags"] == ["a:1"]
