from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.process import limits
from sidecar.web import app
from sidecar.web.routes import page

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.stub_engine import Served


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "WAIT_S", 0)


def test_a_process_for_pdfs_is_there_before_the_first_one(served: Served) -> None:
    served.run(app.preload(served.workers))
    assert served.workers.processes == 1


def test_what_cannot_be_loaded_is_told_and_the_rest_goes_on(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "MODULES", ("sidecar.web.that_is_gone",))
    served.run(app.preload(served.workers))
    assert served.workers.processes == 1
    assert "preloading failed" in caplog.text


def test_the_page_is_there_when_the_bundle_is_gone(
    served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page._read.cache_clear()
    served.run(app.preload(served.workers))
    monkeypatch.setattr(page, "FOLDER", tmp_path)
    for path in page.FILES:
        assert served.get(path, headers={"accept": "text/html"}).status_code == 200


@pytest.mark.parametrize("name", ["control_group", "address_space"])
def test_where_little_memory_is_left_requests_have_it(
    served: Served, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    room = limits.Limit(name="memory", value=1 << 30, left=app.LEAST_LEFT - 1, remedy="")
    monkeypatch.setattr(limits, name, lambda: room)
    served.run(app.preload(served.workers))
    assert served.workers.processes == 0
