from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from sidecar.errors import ModelError
from sidecar.models import loader
from sidecar.process import headroom
from sidecar.settings import Settings
from tests.support.answered import problem

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.stub_engine import Served


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a process that has 400 of 1000 bytes."""
    monkeypatch.setattr(headroom, "limit", lambda: 1000)
    monkeypatch.setattr(headroom, "used", lambda: 400)


@pytest.mark.usefixtures("limited")
def test_what_fits_passes_and_what_does_not_is_exit_11_with_the_numbers() -> None:
    headroom.require(600)
    with pytest.raises(ModelError, match="not enough memory") as caught:
        headroom.require(601)
    assert caught.value.exit_code == 11
    assert "needs at least 601 bytes" in caught.value.why
    assert "limit of address space is 1000 bytes" in caught.value.why
    assert "600 are left" in caught.value.why
    assert caught.value.facts == {
        "needed_bytes": 601,
        "limit_bytes": 1000,
        "available_bytes": 600,
    }


@pytest.mark.parametrize("unknown", ["limit", "used"])
def test_where_nothing_is_known_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch, unknown: str
) -> None:
    monkeypatch.setattr(headroom, "limit", lambda: 1000)
    monkeypatch.setattr(headroom, "used", lambda: 400)
    monkeypatch.setattr(headroom, unknown, lambda: None)
    headroom.require(1 << 60)
    assert "bytes more" not in headroom.too_little().why


def test_this_process_has_some_address_space() -> None:
    assert (headroom.used() or 1 << 30) > 1 << 20
    assert headroom.limit() is None or (headroom.limit() or 0) > 1 << 20


def test_weights_are_counted_wherever_they_lie(tmp_path: Path) -> None:
    (tmp_path / "0_Transformer").mkdir()
    (tmp_path / "0_Transformer" / "model.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "tokenizer.json").write_bytes(b"x" * 1000)
    assert headroom.weights_of(tmp_path) == 150


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (ImportError("libx.so: failed to map segment from shared object"), True),
        (ImportError("no module"), False),
    ],
    ids=str,
)
def test_memory_that_runs_out_in_the_middle_of_loading_is_told_as_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, *, is_memory: bool
) -> None:
    (tmp_path / "modules.json").write_text("[]", encoding="utf-8")

    def fail(*_: object) -> None:
        raise ModelError("the libraries cannot be imported") from error

    class Silent:
        def announce(self, event: object, data: object) -> None:
            """Say nothing."""

    monkeypatch.setattr(loader, "choose", fail)
    monkeypatch.setattr(loader, "go_offline", lambda: None)
    monkeypatch.setattr(loader, "yield_cores", lambda: None)
    with pytest.raises(ModelError) as caught:
        loader.load(Settings(model=str(tmp_path)), Silent(), lambda _: None)
    assert ("not enough memory" in caught.value.what) is is_memory


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError("secret"), 507),
        (RuntimeError("can't start new thread"), 507),
        (OSError(errno.ENOMEM, "secret"), 507),
        (RuntimeError("secret"), 500),
        (OSError(errno.EACCES, "secret"), 500),
    ],
    ids=repr,
)
def test_memory_that_runs_out_around_the_engine_refuses_the_request_with_507(
    served: Served, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(served.encoder, "embed", fail)
    answer = served.post("/embed", {"texts": ["a"]})
    problem(answer, status)
    assert "secret" not in answer.text
    if status == 507:
        assert answer.headers["retry-after"] == "5"
