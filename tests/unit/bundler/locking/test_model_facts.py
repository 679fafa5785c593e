from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bundler.errors import PolicyError
from bundler.locking.model_lock import (
    read_pooling,
    refuse_code,
    refuse_missing_weights,
    refuse_names,
)
from tests.support.tinymodel import tiny_model, write_model

if TYPE_CHECKING:
    from pathlib import Path


def changed(path: str, **values: Any) -> dict[str, bytes]:
    """Return the tiny model with keys of one JSON file replaced; None removes a key."""
    files = tiny_model()
    document = {**json.loads(files[path]), **values}
    kept = {key: value for key, value in document.items() if value is not None}
    return {**files, path: json.dumps(kept).encode()}


def with_modules(*modules: tuple[str, str]) -> dict[str, bytes]:
    entries = [{"idx": 0, "name": "0", "path": path, "type": kind} for path, kind in modules]
    return {**tiny_model(), "modules.json": json.dumps(entries).encode()}


def test_the_pooling_is_that_of_the_configuration(tmp_path: Path) -> None:
    assert read_pooling("tiny", write_model(tmp_path, tiny_model(dense=6))) == "mean"


def test_the_spelling_of_newer_releases_is_read_too(tmp_path: Path) -> None:
    files = tiny_model()
    files["1_Pooling/config.json"] = json.dumps(
        {"embedding_dimension": 24, "pooling_mode": "cls", "include_prompt": True}
    ).encode()
    assert read_pooling("tiny", write_model(tmp_path, files)) == "cls"


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_cls_token": True},
        {"pooling_mode_mean_tokens": False},
        {"pooling_mode": ["mean", "max"]},
    ],
    ids=["two flags", "no flag", "a list of two"],
)
def test_a_model_that_pools_in_two_ways_or_none_is_refused(
    tmp_path: Path, pooling: dict[str, Any]
) -> None:
    folder = write_model(tmp_path, changed("1_Pooling/config.json", **pooling))
    with pytest.raises(PolicyError, match="does not pool in one way"):
        read_pooling("tiny", folder)


@pytest.mark.parametrize("text", ["[]", "7", '{"pooling_mode": 7}', '{"pooling_mode": {"a": 1}}'])
def test_a_pooling_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    folder = write_model(tmp_path, {**tiny_model(), "1_Pooling/config.json": text.encode()})
    with pytest.raises(PolicyError, match="does not pool in one way") as caught:
        read_pooling("tiny", folder)
    assert caught.value.why == "its modes are none"
    assert caught.value.next_step == "choose a model that does"


def test_the_tiny_model_may_be_loaded(tmp_path: Path) -> None:
    folder = write_model(tmp_path, tiny_model(dense=6))
    refuse_code("tiny", folder)
    refuse_missing_weights("tiny", folder, tiny_model(dense=6))


@pytest.mark.parametrize("key", ["auto_map", "_attn_implementation_internal"])
def test_a_configuration_that_asks_for_code_is_refused(tmp_path: Path, key: str) -> None:
    folder = write_model(tmp_path, changed("config.json", **{key: {"AutoModel": "own.Model"}}))
    with pytest.raises(PolicyError, match=r"its file config\.json") as caught:
        refuse_code("tiny", folder)
    assert caught.value.why == f"it loads code by {key}"
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(
    "kind",
    [
        "own_module.Transformer",
        "sentence_transformers_evil.models.Transformer",
        "sentence_transformers.models.CLIPModel",
        "sentence_transformers.models.WordEmbeddings",
        "sentence_transformers.models.Router",
        "os.system",
    ],
)
def test_a_module_that_is_not_trusted_is_refused(tmp_path: Path, kind: str) -> None:
    folder = write_model(tmp_path, with_modules(("", kind)))
    with pytest.raises(PolicyError, match=r"its file modules\.json") as caught:
        refuse_code("tiny", folder)
    assert kind in caught.value.why


@pytest.mark.parametrize(
    "kind",
    [
        "sentence_transformers.models.Transformer",
        "sentence_transformers.base.modules.transformer.Transformer",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    ],
)
def test_old_and_new_places_of_trusted_modules_are_known(tmp_path: Path, kind: str) -> None:
    refuse_code("tiny", write_model(tmp_path, with_modules(("", kind))))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", '[{"type": "x"}]', "7", pytest.param("[" * 100_000, id="without end")],
)
def test_a_list_of_modules_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    folder = write_model(tmp_path, {**tiny_model(), "modules.json": text.encode()})
    with pytest.raises(PolicyError, match=r"modules\.json of tiny cannot be"):
        refuse_code("tiny", folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "modeling.py", "1_Pooling/state.pkl"])
def test_a_snapshot_that_carries_code_or_pickles_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path, {**tiny_model(), name: b""})
    with pytest.raises(PolicyError, match=f"its file {name}"):
        refuse_code("tiny", folder)


def test_weights_that_are_a_pickle_only_are_refused_by_name() -> None:
    with pytest.raises(PolicyError) as caught:
        refuse_names("tiny", ["config.json", "pytorch_model.bin"])
    assert "pytorch_model.bin" in caught.value.why


def test_a_repository_without_any_weights_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"no model\.safetensors"):
        refuse_names("tiny", ["config.json"])


def test_a_dense_layer_without_plain_weights_is_refused(tmp_path: Path) -> None:
    files = tiny_model(dense=6)
    del files["3_Dense/model.safetensors"]
    folder = write_model(tmp_path, files)
    with pytest.raises(PolicyError, match=r"no 3_Dense/model\.safetensors"):
        refuse_missing_weights("tiny", folder, files)
