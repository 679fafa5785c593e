"""Locking a real, tiny model with sentence-transformers, and fetching it, from a bad hub."""

from __future__ import annotations

import argparse
import io
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bundler.artifacts.fetch import Request, fetch
from bundler.artifacts.sources import hub_file
from bundler.artifacts.store import Store
from bundler.commands import lock
from bundler.console import Console
from bundler.digests import Artifact
from bundler.errors import BundlerError, IntegrityError, ModelError, UnreachableError
from bundler.golden import make_golden, read_texts
from bundler.locks.models import ModelSpec, read_models
from bundler.project import Project
from bundler.recipe import read_recipe
from sidecar.models.golden import read
from tests.support.badserver import BadServer, cut_at, redirect, stall_at, status, wrong
from tests.support.hub import REVISION, LoopbackNetwork, TinyHub
from tests.support.miniature import encode_row
from tests.support.tinymodel import MAX_TOKENS, WIDTH, tiny_model, write_model

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
NETWORK = LoopbackNetwork(connect_s=2.0, read_s=0.5, tries=6, first_wait_s=0.01)
REPOSITORY = "someone/tiny"
MODEL = f"""
[models.catalogue.tiny]
repository = "{REPOSITORY}"
license = "Apache-2.0"
"""


@dataclass(frozen=True, kw_only=True)
class Hubs:
    """A hub with the tiny model, its storage, and a checkout that knows the model."""

    hub: TinyHub
    storage: BadServer
    project: Project

    def lock(self) -> int:
        """Run `lock --models tiny`."""
        parser = argparse.ArgumentParser("lock")
        lock.add_arguments(parser)
        options = parser.parse_args(["--models", "tiny"])
        return lock.run(options, self.project, Console(io.StringIO()))

    def locked(self) -> ModelSpec:
        """Return what stands in the lock."""
        recipe = read_recipe(self.project.recipe)
        return read_models(self.project.model_lock, recipe)["tiny"]

    def bring(self, store: Store, spec: ModelSpec) -> dict[str, bytes]:
        """Fetch the locked files from the hub and return them by path."""
        artifacts = {file.path: Artifact(name=file.path, digest=file.digest) for file in spec.files}
        requests = [
            Request(
                artifact=artifact,
                sources=(hub_file(self.hub.root, spec.repository, spec.revision, path, None),),
            )
            for path, artifact in artifacts.items()
        ]
        held = fetch(requests, store, network=NETWORK)
        return {path: held[artifact].read_bytes() for path, artifact in artifacts.items()}

    def weights(self, *script: object, forever: object = None) -> str:
        """Let the storage's next answers for the weights go wrong; return their path there."""
        data = tiny_model()["model.safetensors"]
        name = self.hub.lfs_name(data)
        self.storage.add(name, data, *script, forever=forever)  # type: ignore[arg-type]
        return f"/{name}"

    def asked(self, path: str) -> list[str | None]:
        """Return the ranges in which the storage was asked for `path`."""
        return [seen.range for seen in self.storage.seen if seen.path == path]


@pytest.fixture
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hubs]:
    bundle = tmp_path / "checkout" / "bundle"
    (bundle / "golden").mkdir(parents=True)
    recipe = (ROOT / "bundle" / "recipe.toml").read_text(encoding="utf-8")
    (bundle / "recipe.toml").write_text(recipe + MODEL, encoding="utf-8")
    texts = (ROOT / "bundle" / "golden" / "texts.json").read_bytes()
    (bundle / "golden" / "texts.json").write_bytes(texts)
    monkeypatch.setattr("bundler.artifacts.resolver.pip_options", lambda _: {"no-index": "1"})
    monkeypatch.setattr("bundler.artifacts.resolver.Network", lambda: NETWORK)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with BadServer() as storage, TinyHub(storage=storage) as hub:
        hub.publish(REPOSITORY, {**tiny_model(), "pytorch_model.bin": b"\x80pickle"})
        monkeypatch.setenv("HF_ENDPOINT", hub.root)
        yield Hubs(hub=hub, storage=storage, project=Project(root=bundle.parent))


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = write_model(tmp_path_factory.mktemp("model"), tiny_model())
    return make_golden(folder, read_texts(ROOT / "bundle" / "golden" / "texts.json")).vectors


def test_model_is_locked_from_a_hub_that_cuts_and_stalls(hubs: Hubs, tmp_path: Path) -> None:
    hubs.weights(cut_at(5_000), stall_at(5_000), status(503), cut_at(9_000))
    assert hubs.lock() == 0
    spec = hubs.locked()
    assert (spec.revision, spec.dim, spec.max_tokens) == (REVISION, WIDTH, MAX_TOKENS)
    golden = read(hubs.project.golden / "tiny.json")
    assert len(golden.vectors) == len(golden.texts) >= 64
    # Different texts point elsewhere: the vectors are the model's, not a constant.
    assert golden.cosines([golden.vectors[0]] * len(golden.texts)).min() < 0.9
    assert hubs.bring(Store(tmp_path / "other"), spec) == tiny_model()


def test_what_sentence_transformers_makes_is_the_same_every_time(
    hubs: Hubs, vectors: tuple[str, ...]
) -> None:
    hubs.lock()
    text = (hubs.project.golden / "tiny.json").read_text(encoding="utf-8")
    assert [f'  "{row}"' for row in vectors] == [
        line.rstrip(",") for line in text.splitlines()[-len(vectors) - 2 : -2]
    ]


def test_weights_that_do_not_fit_the_configuration_cannot_be_locked(hubs: Hubs) -> None:
    files = tiny_model()
    files["model.safetensors"] = files["model.safetensors"][:2_000]
    hubs.hub.publish(REPOSITORY, files)
    with pytest.raises(ModelError, match="cannot load the model"):
        hubs.lock()
    assert not hubs.project.model_lock.exists()
    assert not (hubs.project.golden / "tiny.json").exists()


@pytest.mark.parametrize("fault", ["wrong", "gone", "main moved"])
def test_a_lock_that_fails_changes_nothing(hubs: Hubs, fault: str) -> None:
    hubs.project.model_lock.write_text("# as it was\n")
    if fault == "wrong":
        hubs.weights(forever=wrong)
    elif fault == "gone":
        hubs.weights(forever=status(404))
    else:
        # The listing is older than the files: a commit came in between.
        hubs.hub.go_wrong(f"{REPOSITORY}/resolve/{REVISION}/vocab.txt", forever=wrong)
    with pytest.raises((IntegrityError, UnreachableError)):
        hubs.lock()
    assert hubs.project.model_lock.read_text() == "# as it was\n"
    assert sorted(path.name for path in hubs.project.golden.iterdir()) == ["texts.json"]


@pytest.fixture
def spec(hubs: Hubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """Lock without loading the model, and forget what was asked so far."""
    texts = read_texts(hubs.project.golden / "texts.json")
    row = encode_row([1.0] + [0.0] * (WIDTH - 1))
    answer = {"vectors": [row] * len(texts), "dim": WIDTH, "max_tokens": MAX_TOKENS}
    program = tmp_path / "maker.py"
    program.write_text(f"print({json.dumps(json.dumps({**answer, 'made_with': {}}))})\n")
    monkeypatch.setattr("bundler.golden.MAKER", program)
    hubs.lock()
    hubs.storage.seen.clear()
    return hubs.locked()


def test_a_cut_download_goes_on_where_it_stopped(
    hubs: Hubs, spec: ModelSpec, tmp_path: Path
) -> None:
    path = hubs.weights(cut_at(7_000), cut_at(7_000))
    assert hubs.bring(Store(tmp_path / "new"), spec) == tiny_model()
    assert hubs.asked(path) == [None, "bytes=7000-", "bytes=14000-"]


def test_a_killed_download_goes_on_in_the_next_run(
    hubs: Hubs, spec: ModelSpec, tmp_path: Path
) -> None:
    path = hubs.weights(cut_at(7_000), status(404))
    with pytest.raises(UnreachableError, match=r"model\.safetensors is out of reach"):
        hubs.bring(Store(tmp_path / "new"), spec)
    assert hubs.bring(Store(tmp_path / "new"), spec) == tiny_model()
    assert hubs.asked(path)[-1] == "bytes=7000-"


@pytest.mark.parametrize("path", ["model.safetensors", "vocab.txt"])
def test_a_file_that_changed_on_the_hub_is_never_used(
    hubs: Hubs, spec: ModelSpec, tmp_path: Path, path: str
) -> None:
    if path == "vocab.txt":
        hubs.hub.go_wrong(f"{REPOSITORY}/resolve/{REVISION}/{path}", forever=wrong)
    else:
        hubs.weights(forever=wrong)
    store = Store(tmp_path / "new")
    with pytest.raises(IntegrityError, match=f"{path} is not the file that was locked"):
        hubs.bring(store, spec)
    digest = next(file.digest for file in spec.files if file.path == path)
    assert store.path(digest) is None


def test_a_copy_that_rots_in_the_store_is_fetched_once_more(
    hubs: Hubs, spec: ModelSpec, tmp_path: Path
) -> None:
    hubs.bring(Store(tmp_path / "new"), spec)
    digest = next(file.digest for file in spec.files if file.path == "model.safetensors")
    entry = Store(tmp_path / "new").path(digest)
    assert entry is not None
    entry.chmod(0o644)
    data = bytearray(entry.read_bytes())
    data[1_000] ^= 1
    entry.write_bytes(data)
    before = len(hubs.storage.seen)
    assert hubs.bring(Store(tmp_path / "new"), spec) == tiny_model()
    assert len(hubs.storage.seen) == before + 1


def test_a_storage_that_sends_in_circles_is_given_up(
    hubs: Hubs, spec: ModelSpec, tmp_path: Path
) -> None:
    data = tiny_model()["model.safetensors"]
    hubs.weights(forever=redirect(hubs.storage.url(hubs.hub.lfs_name(data))))
    with pytest.raises(BundlerError) as caught:
        hubs.bring(Store(tmp_path / "new"), spec)
    assert caught.value.exit_code == 5


def test_the_lock_that_was_written_names_no_address(hubs: Hubs, spec: ModelSpec) -> None:
    del spec
    text = hubs.project.model_lock.read_text()
    assert "http" not in text
    assert set(tomllib.loads(text)["model"][0]) == {
        "name",
        "repository",
        "revision",
        "license",
        "dim",
        "max_tokens",
        "pooling",
        "golden",
        "int8",
        "files",
    }
