from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sidecar import manifest
from sidecar.errors import IntegrityError, PolicyError, UsageError
from sidecar.models import snapshot
from sidecar.settings import Settings
from tests.support.modelbundle import write_bundle

FOLDER = "models/hub/models--stub--words/snapshots/" + "0" * 40
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]
FILES = {
    f"{FOLDER}/modules.json": json.dumps(MODULES).encode(),
    f"{FOLDER}/config.json": b"{}",
    f"{FOLDER}/model.safetensors": b"weights",
    f"{FOLDER}/1_Pooling/config.json": b"{}",
    "models/golden/words.json": b"golden",
    "models/hub/models--other/refs/main": b"1",
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return the root of a bundle that holds one model and a file of another."""
    model = manifest.Model(
        name="words",
        repository="stub/words",
        revision="0" * 40,
        dim=8,
        max_tokens=10,
        pooling="mean",
        snapshot=FOLDER,
        golden="models/golden/words.json",
        least_int8=0.9769,
        least_dim=4,
    )
    write_bundle(tmp_path, FILES, [model], default="words")
    return tmp_path


def verify(root: Path) -> snapshot.Snapshot:
    found, model = snapshot.from_bundle(root, None)
    assert model is not None
    return snapshot.verify(root, found, model)


def damage(root: Path) -> str:
    with pytest.raises(IntegrityError) as caught:
        verify(root)
    assert caught.value.exit_code == 4
    return caught.value.what


@pytest.mark.parametrize("wanted", [None, "words", "stub/words", "Words"])
def test_a_model_is_found_by_name_repository_or_default(bundle: Path, wanted: str | None) -> None:
    _, model = snapshot.from_bundle(bundle, wanted)
    assert model is not None
    assert snapshot.from_bundle(bundle, "none")[1] is None


def test_an_undamaged_model_is_located(bundle: Path) -> None:
    found = verify(bundle)
    assert found.least_dim == 4
    assert found.path == bundle / FOLDER
    assert found.golden == bundle / "models/golden/words.json"
    assert (found.plan, found.dim, found.repository) == ("a plan", 8, "stub/words")


@pytest.mark.parametrize("name", [n for n in FILES if "other" not in n])
def test_one_flipped_bit_is_named(bundle: Path, name: str) -> None:
    data = FILES[name]
    (bundle / name).write_bytes(bytes([data[0] ^ 1]) + data[1:])
    assert name in damage(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / FOLDER / "model.safetensors").unlink()
    assert damage(bundle) == f"{FOLDER}/model.safetensors is missing"


def test_a_snapshot_that_is_missing_as_a_whole_names_its_first_file(bundle: Path) -> None:
    shutil.rmtree(bundle / FOLDER)
    assert damage(bundle).startswith(f"{FOLDER}/")


def test_a_snapshot_that_cannot_be_listed_is_damage(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> list[manifest.Damage]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(manifest, "strays", refuse)
    assert FOLDER in damage(bundle)


def test_a_manifest_without_models_or_without_files_for_one_is_damage(bundle: Path) -> None:
    found, model = snapshot.from_bundle(bundle, None)
    assert model is not None
    bare = dataclasses.replace(found, components=())
    with pytest.raises(IntegrityError, match="no component"):
        snapshot.verify(bundle, bare, model)
    with pytest.raises(IntegrityError, match="no files"):
        snapshot.verify(bundle, found, dataclasses.replace(model, snapshot="models/none"))


def test_an_extra_file_is_named(bundle: Path) -> None:
    (bundle / FOLDER / "1_Pooling" / "extra.py").write_bytes(b"")
    assert damage(bundle) == f"{FOLDER}/1_Pooling/extra.py is not part of the bundle"


def test_a_file_replaced_by_a_link_is_named(bundle: Path) -> None:
    path = bundle / FOLDER / "model.safetensors"
    path.rename(bundle / "elsewhere")
    path.symlink_to(bundle / "elsewhere")
    assert "model.safetensors" in damage(bundle)


def test_other_models_are_not_read(bundle: Path) -> None:
    (bundle / "models/hub/models--other/refs/main").write_bytes(b"2")
    verify(bundle)


def test_a_missing_or_broken_manifest_is_damage(bundle: Path) -> None:
    (bundle / "manifest.json").write_bytes(b"{")
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        snapshot.from_bundle(bundle, None)
    (bundle / "manifest.json").unlink()
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        snapshot.from_bundle(bundle, None)


def test_a_list_of_files_that_the_manifest_does_not_name_is_damage(bundle: Path) -> None:
    path = bundle / "manifests" / "models.json"
    path.write_bytes(path.read_bytes() + b" ")
    assert "manifests/models.json" in damage(bundle)


def test_a_plain_folder_is_named_by_its_bytes(bundle: Path) -> None:
    first = snapshot.from_folder(bundle / FOLDER)
    assert first.revision == snapshot.from_folder(bundle / FOLDER).revision
    assert len(first.revision) == 40
    (bundle / FOLDER / "model.safetensors").write_bytes(b"others")
    assert snapshot.from_folder(bundle / FOLDER).revision != first.revision
    with pytest.raises(UsageError):
        snapshot.from_folder(bundle)


def test_a_cache_is_read_offline_in_both_layouts(bundle: Path) -> None:
    home = bundle / "models"
    assert snapshot.from_cache(home, "stub/words") is None
    refs = home / "hub" / "models--stub--words" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40 + "\n", encoding="ascii")
    for cache in (home, home / "hub"):
        found = snapshot.from_cache(cache, "stub/words")
        assert found is not None
        assert found.path == bundle / FOLDER


def test_a_model_without_code_of_its_own_passes(bundle: Path) -> None:
    snapshot.refuse_code(bundle / FOLDER)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("1_Pooling/custom.py", ""),
        ("modules.json", [{"type": "custom.Module"}]),
        ("modules.json", [{"type": 7}]),
        ("modules.json", {}),
        ("modules.json", 7),
        ("config.json", {"auto_map": {"AutoModel": "m.M"}}),
        ("config.json", {"_attn_implementation_internal": "somebody/kernels"}),
        ("tokenizer_config.json", {"auto_map": {}}),
        ("config.json", {"text_config": [{"auto_map": {}}]}),
        ("modules.json", [{"type": "sentence_transformers.models.CLIPModel"}]),
        ("modules.json", [1]),
        ("pytorch_model.bin", ""),
        ("openvino/Model.BIN", ""),
        ("rust_model.ot.pt", ""),
        ("1_Pooling/native.so", ""),
    ],
    ids=range(15),
)
def test_a_model_that_could_run_code_is_refused(bundle: Path, name: str, content: Any) -> None:
    path = bundle / FOLDER / name
    if content == {} and name == "modules.json":
        content = {"type": "x"}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(PolicyError) as caught:
        snapshot.refuse_code(bundle / FOLDER)
    assert caught.value.exit_code == 7
    assert name in caught.value.what
    assert caught.value.why


def test_a_folder_without_modules_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"no modules\.json"):
        snapshot.refuse_code(tmp_path)


def test_a_model_that_is_not_here_says_what_is() -> None:
    error = snapshot.missing(Settings(model="wodrs"), known=("other", "words"))
    assert error.exit_code == 5
    assert "words" in error.why
    assert error.next_step == "--model words"
    assert snapshot.missing(Settings(model="x"), known=("other",)).next_step == "--model other"


@pytest.mark.parametrize(
    ("settings", "advised"),
    [
        (Settings(), ["--model FOLDER", "--model-cache DIR", "--allow-download"]),
        (Settings(model="a/b"), ["--model FOLDER", "--model-cache DIR", "--allow-download"]),
        (Settings(model="a/b", model_cache=Path("c")), ["--model FOLDER", "--allow-download"]),
        (Settings(allow_download=True), ["--model FOLDER", "--model-cache DIR", "--model REPO"]),
    ],
)
def test_of_the_ways_to_a_model_those_in_use_are_not_advised(
    settings: Settings, advised: list[str]
) -> None:
    steps = snapshot.missing(settings).next_step.split(", or ")
    assert len(steps) == len(advised)
    assert all(step.startswith(start) for step, start in zip(steps, advised, strict=True))


def test_a_files_family_and_parameters_are_described(bert: Path) -> None:
    found = snapshot.describe(bert)
    assert found.family == "bert"
    assert found.size > 4 * found.parameters > 0
    (bert / "config.json").unlink()
    (bert / "model.safetensors").unlink()
    gone = snapshot.describe(bert)
    assert (gone.family, gone.parameters) == ("unknown", 0)
