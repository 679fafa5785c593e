from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundler.digests import Artifact, Digest
from bundler.errors import PolicyError, UnsupportedError, UsageError
from bundler.locks.models import (
    Cosines,
    Int8,
    ModelFile,
    ModelSpec,
    check_model,
    locked_model,
    parse_models,
    read_models,
    render_models,
)
from bundler.project import Project
from bundler.recipe import parse_recipe, read_recipe
from tests.support.miniature import RECIPE, REVISION

if TYPE_CHECKING:
    from pathlib import Path

RULES = parse_recipe(RECIPE)
SOME = Digest.of_bytes(b"some")
TINY = ModelSpec(
    name="tiny",
    repository="example/tiny",
    revision=REVISION,
    license="MIT",
    dim=2,
    max_tokens=8,
    pooling="mean",
    files=(
        ModelFile(path="config.json", digest=SOME),
        ModelFile(path="model.safetensors", digest=Digest.of_bytes(b"other")),
    ),
    golden=Digest(sha256="9" * 64),
)
INT8 = Int8(measured=Cosines(worst=0.9779, mean=0.9949), least=Cosines(worst=0.9769, mean=0.9946))
WHEELED = replace(
    TINY,
    name="wheeled",
    repository="example/wheeled",
    wheel=Artifact(name="wheeled-1.0-py3-none-any.whl", digest=Digest(sha256="8" * 64)),
    prefix="wheeled/",
    int8=INT8,
)


IN_PARTS = replace(
    WHEELED,
    name="in-parts",
    archive="tiny.zip",
    parts=(Artifact(name="part_2-1.0-py3-none-any.whl", digest=Digest(sha256="9" * 64)),),
)


def test_models_come_back_from_the_text_of_their_lock() -> None:
    found = parse_models(render_models([WHEELED, TINY, IN_PARTS]), RULES)
    assert found == {"tiny": TINY, "wheeled": WHEELED, "in-parts": IN_PARTS}


def test_what_the_recipe_declares_of_a_model_is_no_part_of_its_lock() -> None:
    declared = "[models.catalogue.tiny]\nleast_dim = 1\naliases = ['small']"
    rules = parse_recipe(RECIPE.replace("[models.catalogue.tiny]", declared))
    text = render_models([TINY])
    assert parse_models(text, rules) == {"tiny": replace(TINY, least_dim=1, aliases=("small",))}
    assert parse_models(text, RULES) == {"tiny": TINY}


def test_a_model_without_int8_keeps_its_figures() -> None:
    far = replace(TINY, int8=Int8(measured=Cosines(worst=0.9, mean=0.98)))
    text = render_models([far])
    assert "int8 = {measured = {worst = 0.9, mean = 0.98}}" in text
    assert parse_models(text, RULES) == {"tiny": far}
    assert far.least_int8 is None
    assert TINY.least_int8 is None
    assert WHEELED.least_int8 == INT8.least


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("int8 = {", "int8 = [{"),
        ("measured = {worst = 0.9779, mean = 0.9949}, ", ""),
        ("worst = 0.9769, ", ""),
        ("mean = 0.9946", 'mean = "high"'),
    ],
)
def test_int8_that_makes_no_sense_is_a_usage_error(old: str, new: str) -> None:
    text = render_models([WHEELED])
    assert old in text
    with pytest.raises(UsageError):
        parse_models(text.replace(old, new), RULES)


def test_the_text_does_not_follow_the_order_of_models_or_files() -> None:
    turned = replace(TINY, files=TINY.files[::-1])
    assert render_models([turned, WHEELED]) == render_models([WHEELED, TINY])


def test_places_are_those_of_an_offline_cache() -> None:
    assert TINY.cache_folder == "models--example--tiny"
    assert TINY.snapshot == f"models/hub/models--example--tiny/snapshots/{REVISION}"


def test_a_lock_that_does_not_exist_yet_holds_no_model(tmp_path: Path) -> None:
    assert read_models(tmp_path / "models.lock.toml", RULES) == {}


def test_a_lock_that_is_no_text_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "models.lock.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="cannot be read"):
        read_models(tmp_path / "models.lock.toml", RULES)


@pytest.mark.parametrize("path", ["pytorch_model.bin", "code.py", "../config.json", "/config.json"])
def test_a_file_that_may_run_code_or_lead_outside_is_refused(path: str) -> None:
    with pytest.raises(PolicyError, match="tiny is locked with"):
        check_model(replace(TINY, files=(ModelFile(path=path, digest=SOME),)), RULES)


@pytest.mark.parametrize("revision", ["main", "", REVISION[1:], f"{REVISION}0"])
def test_a_revision_that_can_move_is_refused(revision: str) -> None:
    with pytest.raises(PolicyError, match="is not a commit"):
        parse_models(render_models([replace(TINY, revision=revision)]), RULES)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("dim = 2", 'dim = "two"'),
        ("dim = 2", "dim = inf"),
        ("max_tokens = 8\n", ""),
        ("size = ", 'size = "a lot", was = '),
        (SOME.sha256, SOME.sha256[:-1]),
        ("9" * 64, ""),
        ("[[model]]", "[model]"),
    ],
)
def test_a_value_that_makes_no_sense_is_a_usage_error(old: str, new: str) -> None:
    text = render_models([TINY])
    assert old in text
    with pytest.raises(UsageError, match=r"models\.lock\.toml lacks or misspells"):
        parse_models(text.replace(old, new), RULES)


def test_a_text_that_is_no_toml_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="not TOML"):
        parse_models("[[model", RULES)
    with pytest.raises(UsageError, match="not TOML"):
        parse_models(f"model = {'[' * 100_000}", RULES)


def test_a_model_that_is_known_but_not_locked_says_how_to_lock_it() -> None:
    locked = {"tiny": TINY}
    assert locked_model("example/tiny", locked, RULES) is TINY
    with pytest.raises(UnsupportedError, match="wheeled is not locked") as caught:
        locked_model("wheeled", locked, RULES)
    assert "lock --models wheeled" in caught.value.next_step
    with pytest.raises(UsageError, match="no model"):
        locked_model("huge", locked, RULES)


def test_the_committed_locks_name_committed_vectors() -> None:
    project = Project.here()
    models = read_models(project.model_lock, read_recipe(project.recipe))
    for model in models.values():
        assert Digest.of_file(project.golden / f"{model.name}.json").sha256 == model.golden.sha256
        assert all(file.digest.size for file in model.files)
