from __future__ import annotations

import json
import os
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sidecar.engines.packed.quantized import Calibration, Columns
from sidecar.errors import (
    DiskError,
    IntegrityError,
    ModelError,
    PolicyError,
    UnreachableError,
    UsageError,
)
from sidecar.models import loader, snapshot
from sidecar.models.loader import Loaded, Space
from sidecar.models.snapshot import Snapshot
from sidecar.problems import Problem
from sidecar.settings import Settings
from tests.support.stub_engine import SNAPSHOT, StubEngine


class Recorder:
    """Keeps what was announced and reported."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        self.phases: list[str] = []

    def write_event(self, event: Any, data: dict[str, object]) -> None:
        self.events.append((event, data))


def find(settings: Settings) -> tuple[Any, Recorder]:
    recorder = Recorder()
    return loader.find(settings, recorder, recorder.phases.append), recorder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "cache" / "models--a--b" / "snapshots" / "rev"
    folder.mkdir(parents=True)
    (folder / "modules.json").write_text(json.dumps([]), encoding="utf-8")
    refs = tmp_path / "cache" / "models--a--b" / "refs"
    refs.mkdir()
    (refs / "main").write_text("rev", encoding="ascii")
    return folder


def test_a_folder_is_taken_as_it_is_and_announced_without_its_path(model: Path) -> None:
    found, recorder = find(Settings(model=str(model)))
    assert found.path == model
    assert recorder.events == [("model_cached", {"model": "rev"})]
    assert recorder.phases == ["verifying"]


def test_a_repository_is_looked_for_in_the_cache(model: Path) -> None:
    found, _ = find(Settings(model="a/b", model_cache=model.parents[2]))
    assert (found.repository, found.revision) == ("a/b", "rev")


@pytest.mark.parametrize("name", [None, "a/c"])
def test_what_is_not_here_is_never_fetched_unasked(model: Path, name: str | None) -> None:
    with pytest.raises(UnreachableError):
        find(Settings(model=name, model_cache=model.parents[2]))


def test_a_folder_without_a_model_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        find(Settings(model=str(tmp_path)))


def test_a_bundle_without_a_manifest_never_falls_back(model: Path, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        find(Settings(bundle=tmp_path, model=str(model)))


def test_offline_the_libraries_see_no_cache_no_token_and_no_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = {"HF_TOKEN": "secret", "HF_HOME": "/home/user/hf", "PATH": "/bin"}
    monkeypatch.setattr(os, "environ", environment)
    loader.go_offline()
    assert "secret" not in environment.values()
    assert environment["HF_HUB_OFFLINE"] == environment["TRANSFORMERS_OFFLINE"] == "1"
    assert environment["HF_HOME"].startswith(os.devnull)
    assert environment["PATH"] == "/bin"


def test_waiting_threads_leave_their_core_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = {"KMP_BLOCKTIME": "7"}
    monkeypatch.setattr(os, "environ", environment)
    loader.yield_cores()
    assert environment == {
        "KMP_BLOCKTIME": "7",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "RAYON_NUM_THREADS": "1",
    }


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a stub in place of the engine's module, and let nothing change the environment."""
    module: Any = types.ModuleType("sidecar.engines.reference")
    module.engine = StubEngine()
    module.asked = []

    def load(path: Path, *, device: str, threads: int) -> StubEngine:
        module.asked.append((path, device, threads))
        engine: StubEngine = module.engine
        return engine

    module.load = load
    monkeypatch.setitem(sys.modules, "sidecar.engines.reference", module)
    monkeypatch.setattr("sidecar.engines.reference", module, raising=False)
    monkeypatch.setattr(os, "environ", {})
    return module


def load(settings: Settings) -> tuple[loader.Loaded, Recorder]:
    recorder = Recorder()
    return loader.load(settings, recorder, recorder.phases.append), recorder


@pytest.mark.torch
def test_a_model_is_found_proved_and_loaded_in_this_order(model: Path, reference: Any) -> None:
    loaded, recorder = load(Settings(model=str(model), device="cpu", threads=3))
    assert loaded.engine is reference.engine
    assert recorder.phases == ["verifying", "importing", "loading", "checking"]
    assert reference.asked == [(model, "cpu", 3)]
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_an_engine_with_other_vectors_never_serves_and_is_exit_11(
    model: Path, reference: Any
) -> None:
    reference.engine.bad_value = float("nan")
    with pytest.raises(ModelError) as caught:
        load(Settings(model=str(model)))
    assert caught.value.exit_code == 11


@pytest.mark.torch
def test_an_engine_of_another_width_than_the_bundles_is_exit_11(
    model: Path, reference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reference
    found = Snapshot(repository="a/b", revision="rev", path=model, dim=7)
    monkeypatch.setattr(loader, "find", lambda *_: found)
    with pytest.raises(ModelError, match="8 dimensions, the bundle says 7"):
        load(Settings())


def test_libraries_that_are_missing_are_exit_11_and_name_the_one(
    model: Path, reference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reference
    monkeypatch.setitem(sys.modules, "sidecar.engines.reference", None)
    monkeypatch.delattr("sidecar.engines.reference")
    with pytest.raises(ModelError) as caught:
        load(Settings(model=str(model)))
    assert "reference" in caught.value.why


def test_a_model_with_code_is_refused_before_the_libraries_are_imported(
    model: Path, reference: Any
) -> None:
    (model / "modeling.py").write_bytes(b"")
    with pytest.raises(PolicyError):
        load(Settings(model=str(model)))
    assert reference.asked == []


def test_files_that_may_not_be_read_are_exit_6(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sidecar.manifest.file_sha256", refuse)
    with pytest.raises(DiskError) as caught:
        load(Settings(model=str(model)))
    assert (caught.value.exit_code, caught.value.why) == (6, "Permission denied")


@pytest.mark.torch
def test_hub_is_asked_last_where_downloads_are_allowed(
    model: Path, reference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    module: Any = types.ModuleType("sidecar.models.download")

    def fetch(repository: str, _cache: object, _announcer: object) -> Snapshot:
        fetched.append(repository)
        return Snapshot(repository=repository, revision="rev", path=model)

    module.fetch = fetch
    monkeypatch.setitem(sys.modules, "sidecar.models.download", module)
    load(Settings(model=str(model), allow_download=True))
    assert fetched == []
    _, recorder = load(Settings(model="a/c", allow_download=True))
    assert fetched == ["a/c"]
    assert recorder.phases[:2] == ["verifying", "downloading"]
    assert "HF_HUB_OFFLINE" not in os.environ
    assert len(reference.asked) == 2


def test_a_bundle_without_the_hubs_client_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sidecar.models.download", None)
    with pytest.raises(UsageError, match="cannot download") as caught:
        load(Settings(model="a/c", allow_download=True))
    assert "profile safe" in str(caught.value.next_step)


def test_a_bundle_serves_its_own_models_and_no_folder_beside_them(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = types.SimpleNamespace(models=[types.SimpleNamespace(name="words")])
    monkeypatch.setattr(snapshot, "from_bundle", lambda *_: (held, None))
    inside = Settings(bundle=tmp_path, model=str(model), model_cache=model.parents[2])
    with pytest.raises(UnreachableError) as caught:
        find(inside)
    assert caught.value.next_step == "--model words"
    monkeypatch.setattr(snapshot, "from_bundle", lambda *_: (held, "the model"))
    monkeypatch.setattr(snapshot, "verify", lambda *_: SNAPSHOT)
    assert find(inside)[0] is SNAPSHOT


def test_spaces_are_told_apart_by_what_makes_vectors_differ() -> None:
    loaded = loader.Loaded(engine=StubEngine(), snapshot=SNAPSHOT)
    prints = {
        loaded.fingerprint(),
        loaded.fingerprint(Space(pooling="cls")),
        loaded.fingerprint(Space(normalize=False)),
        loaded.fingerprint(Space(prompt="a: ")),
        loaded.fingerprint(Space(prompt="b: ")),
        loaded.fingerprint(Space(width=4)),
        loaded.fingerprint(Space(width=5)),
        loaded.fingerprint(Space(prompt="a: ", width=5)),
    }
    assert len(prints) == 8
    assert loaded.fingerprint(Space("mean", normalize=True)) in prints


BASE: dict[str, Any] = {
    "repository": "a/b",
    "revision": "0" * 40,
    "pooling": "mean",
    "normalize": True,
    "space": "exact",
}


def fingerprint(
    *, repository: str, revision: str, pooling: str, normalize: bool, space: str
) -> str:
    engine = StubEngine()
    engine.space = space
    found = Snapshot(repository=repository, revision=revision, path=Path())
    return Loaded(engine=engine, snapshot=found).fingerprint(Space(pooling, normalize))


@pytest.mark.parametrize(
    "change",
    [
        {"repository": "a/c"},
        {"revision": "1" * 40},
        {"pooling": "cls"},
        {"normalize": False},
        {"space": "int8"},
    ],
    ids=str,
)
def test_another_space_has_another_fingerprint(change: dict[str, Any]) -> None:
    assert fingerprint(**BASE) != fingerprint(**(BASE | change))


def test_fingerprint_is_the_same_on_every_machine() -> None:
    assert fingerprint(**BASE) == "9c4f1018d67feb73"


def test_a_prompt_and_a_width_are_part_of_it_where_they_are_asked_for() -> None:
    found = Snapshot(repository="a/b", revision="0" * 40, path=Path())
    loaded = Loaded(engine=StubEngine(), snapshot=found)
    assert loaded.fingerprint(Space("mean", normalize=True, prompt="", width=None)) == (
        "9c4f1018d67feb73"
    )
    assert loaded.fingerprint(Space(prompt="query: ")) == "fec318167aecf86d"
    assert loaded.fingerprint(Space(width=256)) == "4f0e4fc32b4e96fd"


@pytest.mark.parametrize(("dimensions", "width"), [(None, None), (8, None), (7, 7), (4, 4)])
def test_a_matryoshka_model_has_widths_down_to_its_least(
    dimensions: int | None, width: int | None
) -> None:
    loaded = Loaded(engine=StubEngine(), snapshot=replace(SNAPSHOT, least_dim=4))
    assert loaded.width(dimensions) == width


@pytest.mark.parametrize(("least", "dimensions"), [(4, 3), (4, 9), (None, 4), (None, 9), (8, 1)])
def test_other_widths_are_refused_with_those_that_there_are(
    least: int | None, dimensions: int
) -> None:
    loaded = Loaded(engine=StubEngine(), snapshot=replace(SNAPSHOT, least_dim=least))
    with pytest.raises(Problem) as caught:
        loaded.width(dimensions)
    assert caught.value.status == 422
    assert caught.value.what.startswith("dimensions: the model has 8, ")


def test_another_scheme_of_int8_has_another_fingerprint() -> None:
    norm = Columns(exponents=np.array([1, -2], np.int8), shifts=np.array([0.5, 3.0], np.float16))
    found = Calibration(norms={"embeddings.LayerNorm": norm})
    assert found.space == "int8:2:1eefc66defe9b986"
    # What vectors of the first scheme, without constants, were marked with.
    assert fingerprint(**(BASE | {"space": "int8"})) == "746ca4426b2ed6ce"
    assert fingerprint(**(BASE | {"space": found.space})) == "c99e8986f167fb27"
    moved = Calibration(norms={"embeddings.LayerNorm": replace(norm, shifts=-norm.shifts)})
    assert moved.space != found.space
