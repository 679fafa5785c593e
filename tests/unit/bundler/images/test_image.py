from __future__ import annotations

import gzip
import io
import json
import os
import shlex
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler.artifacts.store import Store
from bundler.console import Progress
from bundler.digests import Digest
from bundler.errors import PolicyError, UnsupportedError, VerificationError
from bundler.images.image import (
    HEALTH,
    INTERVAL_S,
    RETRIES,
    START_PERIOD_S,
    TIMEOUT_S,
    Image,
    blob,
    compose,
    moment,
    names_in_engine,
    write,
)
from bundler.images.layers import PLACE, PROGRAMS, Layers
from sidecar.manifest import decode, encode
from tests.support.miniature import EPOCH, Miniature
from tests.support.tinybase import tiny_base

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    made = Miniature.make(tmp_path_factory.mktemp("image") / "project")
    made.assemble(made.project.output("linux-x64"))
    return made


@pytest.fixture(scope="module")
def bundle(miniature: Miniature) -> Path:
    return miniature.project.output("linux-x64")


@pytest.fixture(scope="module")
def base(miniature: Miniature) -> Path:
    path = miniature.project.out / "base-amd64.tar"
    return tiny_base(path, more=("libstdc++.so.6", "libgcc_s.so.1"))


def composed(bundle: Path, store: Path, base: Path | None, **options: Any) -> Image:
    with Layers(Store(store), Progress()) as layers:
        return compose(bundle, layers, base=base, **{"epoch": EPOCH, **options})


def contents(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}  # type: ignore[union-attr]


def test_layers_go_from_what_changes_least_to_what_changes_most(
    bundle: Path, base: Path, tmp_path: Path
) -> None:
    image = composed(bundle, tmp_path, base)
    names = [layer.name for layer in image.layers]
    assert names == ["base", "python", "heavy", "packages", "models", "service", "top"]


def test_the_layers_together_are_the_bundle_and_nothing_else(bundle: Path, tmp_path: Path) -> None:
    found: dict[str, tuple[bytes, int]] = {}
    for layer in composed(bundle, tmp_path, None).layers:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer.path.read_bytes()))) as tar:
            for one in tar:
                if one.isfile():
                    assert one.name not in found
                    found[one.name] = (tar.extractfile(one).read(), one.mode)  # type: ignore[union-attr]
    listed = {
        f"{PLACE}/{path.relative_to(bundle).as_posix()}": (
            path.read_bytes(),
            0o755 if path.stat().st_mode & 0o100 else 0o644,
        )
        for path in bundle.rglob("*")
        if path.is_file()
    }
    assert found == listed


def test_a_changed_service_changes_two_layers(tmp_path: Path, base: Path) -> None:
    project = Miniature.make(tmp_path / "project")
    images = []
    for text in ("def main() -> int:\n    return 0\n", "def main() -> int:\n    return 1\n"):
        project.write_service("sidecar/cli.py", text)
        project.assemble(tmp_path / "bundle")
        images.append(composed(tmp_path / "bundle", tmp_path / "store", base))
    pairs = zip(images[0].layers, images[1].layers, strict=True)
    assert [old.name for old, new in pairs if old != new] == ["service", "top"]


def test_the_same_bundle_makes_the_same_archive_three_times_of_three(
    bundle: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = []
    circumstances = [("022", "UTC", "."), ("077", "Pacific/Kiritimati", "/"), ("002", "", "..")]
    for number, (mask, zone, folder) in enumerate(circumstances):
        place = tmp_path / f"{number} é"
        copy = shutil.copytree(bundle, place / "bundle", copy_function=shutil.copyfile)
        monkeypatch.setenv("TZ", zone)
        with monkeypatch.context() as here:
            here.chdir(folder)
            before = os.umask(int(mask, 8))
            try:
                image = composed(copy, place / "store", base)
                digest = write([image], place / "i.tar", name="sidecar:1", epoch=EPOCH)
            finally:
                os.umask(before)
        assert digest == image.manifest.digest
        archives.append(Digest.of_file(place / "i.tar"))
    assert archives[0] == archives[1] == archives[2]


def test_every_blob_of_an_archive_is_what_its_name_says(
    bundle: Path, base: Path, tmp_path: Path
) -> None:
    image = composed(bundle, tmp_path / "store", base)
    write([image], tmp_path / "i.tar", name="sidecar:1", epoch=EPOCH)
    files = contents(tmp_path / "i.tar")
    blobs = {name: data for name, data in files.items() if name.startswith("blobs/")}
    assert {blob(Digest.of_bytes(data)) for data in blobs.values()} == set(blobs)
    (top,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(blobs["blobs/sha256/" + top["digest"].removeprefix("sha256:")])
    named = [manifest["config"], *manifest["layers"]]
    assert [one["size"] for one in named] == [
        len(blobs["blobs/sha256/" + one["digest"].removeprefix("sha256:")]) for one in named
    ]
    (docker,) = json.loads(files["manifest.json"])
    assert {docker["Config"], *docker["Layers"]} < set(blobs)
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}


def test_the_configuration_says_what_runs_and_as_whom(bundle: Path, tmp_path: Path) -> None:
    document = json.loads(composed(bundle, tmp_path, None).config.data)
    assert (document["os"], document["architecture"]) == ("linux", "amd64")
    assert document["created"] == document["history"][0]["created"] == moment(EPOCH)
    assert document["config"]["Entrypoint"][0] == f"/{PLACE}/python/bin/python3.11"
    assert document["config"]["Entrypoint"][-1] == "--allow-remote"
    assert "Cmd" not in document["config"]
    assert document["config"]["User"] == "65532:65532"
    assert document["config"]["ExposedPorts"] == {"8421/tcp": {}}
    assert document["config"]["StopSignal"] == "SIGTERM"
    assert "Env" not in document["config"]
    health = document["config"]["Healthcheck"]
    assert health["Test"][0] == "CMD"
    assert health["Timeout"] == TIMEOUT_S * 10**9 < health["Interval"]


def test_configuration_names_tars_and_manifest_the_packed(bundle: Path, tmp_path: Path) -> None:
    image = composed(bundle, tmp_path, None)
    document = json.loads(image.config.data)
    assert document["rootfs"]["diff_ids"] == [f"sha256:{one.diff_id}" for one in image.layers]
    assert len(document["history"]) == len(image.layers)
    manifest = json.loads(image.manifest.data)
    assert [one["digest"] for one in manifest["layers"]] == [
        f"sha256:{one.digest.sha256}" for one in image.layers
    ]
    assert manifest["config"]["digest"] == f"sha256:{image.config.digest.sha256}"
    assert manifest["config"]["size"] == len(image.config.data)


def test_the_name_of_an_image_is_no_part_of_its_digest(bundle: Path, tmp_path: Path) -> None:
    image = composed(bundle, tmp_path / "store", None)
    assert write([image], tmp_path / "a.tar", name="a:1", epoch=EPOCH) == write(
        [image], tmp_path / "b.tar", name="b:2", epoch=EPOCH
    )
    assert contents(tmp_path / "a.tar")["index.json"] != contents(tmp_path / "b.tar")["index.json"]


def test_a_moment_is_universal_time_whatever_the_machines_zone() -> None:
    assert moment(1_700_000_000) == "2023-11-14T22:13:20Z"


def test_images_for_two_machines_lie_below_one_index(bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle, tmp_path / "arm")
    text = (other / "manifest.json").read_bytes().replace(b"linux-x64", b"linux-arm64")
    (other / "manifest.json").write_bytes(encode(decode(text)))
    images = [composed(root, tmp_path / "store", None) for root in (bundle, other)]
    digest = write(images, tmp_path / "i.tar", name="sidecar:1", epoch=EPOCH)
    files = contents(tmp_path / "i.tar")
    (top,) = json.loads(files["index.json"])["manifests"]
    assert top["digest"] == f"sha256:{digest.sha256}"
    index = json.loads(files[f"blobs/sha256/{digest.sha256}"])
    assert [one["platform"]["architecture"] for one in index["manifests"]] == ["amd64", "arm64"]
    names = [entry["RepoTags"] for entry in json.loads(files["manifest.json"])]
    assert names == [["sidecar:1-amd64"], ["sidecar:1-arm64"]]
    assert [[name] for name in names_in_engine(images, "sidecar:1")] == names
    assert names_in_engine(images[:1], "sidecar:1") == ["sidecar:1"]


def test_the_labels_say_what_it_is(bundle: Path, tmp_path: Path) -> None:
    def labels(**options: str) -> dict[str, str]:
        image = composed(bundle, tmp_path, None, **options)
        found: dict[str, str] = json.loads(image.config.data)["config"]["Labels"]
        return found

    plain = labels()
    assert plain["org.opencontainers.image.version"] == "0.0.1"
    assert plain["org.opencontainers.image.created"] == moment(EPOCH)
    assert plain["sidecar.plan"] == decode((bundle / "manifest.json").read_bytes()).plan
    assert "org.opencontainers.image.revision" not in plain
    assert labels(revision="f00")["org.opencontainers.image.revision"] == "f00"


def test_a_changed_date_changes_every_layer(bundle: Path, tmp_path: Path) -> None:
    first, second = (composed(bundle, tmp_path, None, epoch=epoch) for epoch in (1, 2))
    assert not {one.digest for one in first.layers} & {one.digest for one in second.layers}


def test_a_bundle_for_another_system_is_no_image(bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle, tmp_path / "mac")
    text = (other / "manifest.json").read_bytes().replace(b"linux-x64", b"mac-arm64")
    (other / "manifest.json").write_bytes(text)
    with pytest.raises(UnsupportedError, match="mac-arm64"):
        composed(other, tmp_path / "store", None)


def test_a_damaged_bundle_is_no_image(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    listing = copy / "manifests" / "service.json"
    listing.write_bytes(listing.read_bytes() + b" ")
    with pytest.raises(VerificationError, match="image"):
        composed(copy, tmp_path / "store", None)
    shutil.rmtree(copy)
    with pytest.raises(VerificationError, match="image"):
        composed(copy, tmp_path / "store", None)


def test_an_archive_that_cannot_be_written_leaves_the_old_one(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = composed(bundle, tmp_path / "store", None)
    place = tmp_path / "images"
    write([image], place / "i.tar", name="a:1", epoch=EPOCH)
    before = Digest.of_file(place / "i.tar")

    def fail(_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("bundler.atomic.os.fsync", fail)
    with pytest.raises(RuntimeError):
        write([image], place / "i.tar", name="b:1", epoch=EPOCH)
    assert Digest.of_file(place / "i.tar") == before
    assert [path.name for path in place.iterdir()] == ["i.tar"]


def test_an_image_that_embeds_files_serves_by_its_default_command(
    bundle: Path, tmp_path: Path
) -> None:
    serving = json.loads(composed(bundle, tmp_path, None).config.data)["config"]["Entrypoint"]
    batch = shutil.copytree(bundle, tmp_path / "batch")
    top = batch / "manifest.json"
    top.write_bytes(encode(replace(decode(top.read_bytes()), profile="batch")))
    made = json.loads(composed(batch, tmp_path, None).config.data)["config"]
    assert made["Entrypoint"] + made["Cmd"] == serving
    assert made["Entrypoint"][-1] == f"/{PLACE}/embedding_sidecar"


def test_the_image_of_a_cluster_finds_ray_which_reports_to_no_one(
    bundle: Path, base: Path, tmp_path: Path
) -> None:
    cluster = shutil.copytree(bundle, tmp_path / "cluster")
    top = cluster / "manifest.json"
    top.write_bytes(encode(replace(decode(top.read_bytes()), profile="cluster")))
    with pytest.raises(PolicyError, match="cannot run on") as caught:
        composed(cluster, tmp_path, base)
    assert caught.value.why == f"it has no {', '.join(PROGRAMS)}"
    more = ("libstdc++.so.6", "libgcc_s.so.1", *PROGRAMS)
    image = composed(cluster, tmp_path, tiny_base(tmp_path / "shell.tar", more=more))
    made = json.loads(image.config.data)["config"]
    said = dict(one.split("=", 1) for one in made["Env"])
    assert said["RAY_USAGE_STATS_ENABLED"] == "0"
    assert said["RAY_USAGE_STATS_REPORT_URL"].startswith("http://127.0.0.1:")
    assert "/usr/local/bin" in said["PATH"].split(":")
    assert f"/{PLACE}/python/bin" in said["PATH"].split(":")
    assert made["Entrypoint"][-1] == f"/{PLACE}/embedding_sidecar"


def test_the_dockerfile_runs_what_the_image_runs(bundle: Path, tmp_path: Path) -> None:
    wanted = json.loads(composed(bundle, tmp_path, None).config.data)["config"]
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    final = text[text.rindex("\nFROM ") + 1 :].splitlines()
    said = dict(line.split(maxsplit=1) for line in final if line)
    assert json.loads(said["ENTRYPOINT"]) == wanted["Entrypoint"]
    assert said["USER"] == wanted["User"]
    assert said["WORKDIR"] == wanted["WorkingDir"]
    assert {said["EXPOSE"]: {}} == wanted["ExposedPorts"]
    assert said["STOPSIGNAL"] == wanted["StopSignal"]
    flags, _, command = said["HEALTHCHECK"].partition(" CMD ")
    assert ["CMD", *json.loads(command)] == wanted["Healthcheck"]["Test"]
    assert shlex.split(flags) == [
        f"--interval={INTERVAL_S}s",
        f"--timeout={TIMEOUT_S}s",
        f"--start-period={START_PERIOD_S}s",
        f"--retries={RETRIES}",
    ]


def test_the_health_check_is_python() -> None:
    compile(HEALTH, "health", "exec")
