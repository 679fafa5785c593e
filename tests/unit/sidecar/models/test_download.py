from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub.utils.tqdm import disable_progress_bars

from sidecar.errors import UnreachableError
from sidecar.models import download

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


class Recorder:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def write_event(self, event: Any, data: dict[str, object]) -> None:
        self.events.append((event, data))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Stand in for the hub's own downloader: count files, then 10 MiB in steps of one."""
    found: dict[str, Any] = {}

    def snapshot_download(repository: str, *, tqdm_class: Any, **options: Any) -> str:
        found.update(options, repository=repository)
        with tqdm_class(total=3, desc="files") as files:
            files.update(3)
        with tqdm_class(total=found.get("total", 10 * MIB), unit="B", unit_scale=True) as total:
            for _ in range(10):
                total.update(MIB)
        return str(tmp_path / "snapshots" / ("a" * 40))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return found


def test_a_download_is_announced_in_steps_and_is_not_drawn(
    asked: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder()
    found = download.fetch("a/b", tmp_path / "cache", recorder)
    assert (found.repository, found.revision) == ("a/b", "a" * 40)
    assert asked["cache_dir"] == tmp_path / "cache" / "hub"
    kinds = [event for event, _ in recorder.events]
    assert kinds == ["download_started", *["download_progress"] * 3]
    last = recorder.events[-1][1]
    assert last == {"model": "a/b", "downloaded": 10 * MIB, "total": 10 * MIB, "percent": 100.0}
    downloaded = [int(str(data["downloaded"])) for _, data in recorder.events[1:]]
    assert downloaded == [4 * MIB, 8 * MIB, 10 * MIB]
    assert capfd.readouterr().out == ""


def test_a_download_is_announced_where_drawing_was_turned_off(
    asked: dict[str, Any],
) -> None:
    recorder = Recorder()
    with disable_progress_bars():
        assert download.fetch("a/b", None, recorder).repository == asked["repository"]
    assert recorder.events[-1][1]["downloaded"] == 10 * MIB


def test_an_unknown_size_has_no_percent(asked: dict[str, Any]) -> None:
    asked["total"] = None
    recorder = Recorder()
    download.fetch("a/b", None, recorder)
    assert asked["cache_dir"] is None
    assert "percent" not in recorder.events[-1][1]


def test_pickles_and_copies_for_other_runtimes_are_not_asked_for(asked: dict[str, Any]) -> None:
    download.fetch("a/b", None, Recorder())
    assert not [name for name in asked["allow_patterns"] if name.endswith((".bin", ".pt", ".py"))]
    assert "onnx/*" in asked["ignore_patterns"]


def test_a_download_is_loud(asked: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sidecar"):
        download.fetch("a/b", None, Recorder())
    assert asked
    assert "do not ship" in caplog.text


def test_a_hub_out_of_reach_is_exit_5_without_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise ConnectionError("https://user:secret@hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(UnreachableError) as caught:
        download.fetch("a/b", None, Recorder())
    assert caught.value.exit_code == 5
    assert "secret" not in caught.value.render()
