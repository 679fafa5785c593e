from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from sidecar import loader
from sidecar.errors import IntegrityError, UnreachableError, UsageError
from sidecar.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


class Recorder:
    """Keeps what was announced and reported."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        self.phases: list[str] = []

    def announce(self, event: Any, data: dict[str, object]) -> None:
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
