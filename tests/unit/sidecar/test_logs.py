from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING

import pytest

from sidecar import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Send the logs to a pipe, give what came out of it, and set logging back."""
    root, ours = logging.getLogger(), logging.getLogger("sidecar")
    before = (root.handlers[:], root.level, ours.level, logging.raiseExceptions)
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    monkeypatch.setattr(logs, "STDERR", writing)

    def read() -> str:
        try:
            return os.read(reading, 1 << 16).decode()
        except BlockingIOError:
            return ""

    yield read
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level, ours.level, logging.raiseExceptions = before
    os.close(reading)
    os.close(writing)


def test_we_speak_at_the_level_asked_for_and_libraries_from_warning_up(
    logged: Callable[[], str],
) -> None:
    logs.configure("info")
    logging.getLogger("sidecar.x").info("said")
    logging.getLogger("sidecar.x").debug("not said")
    logging.getLogger("library").info("not said")
    logging.getLogger("library").warning("beware")
    assert logged() == "INFO sidecar.x: said\nWARNING library: beware\n"


def test_an_exception_shows_frames_and_type_and_never_its_message(
    logged: Callable[[], str],
) -> None:
    logs.configure("info")
    try:
        int("a secret text")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("it failed")
    text = logged()
    assert "ValueError" in text
    assert "test_logs.py" in text
    assert "ERROR uvicorn.error: it failed" in text
    assert "invalid literal" not in text


def test_a_record_that_cannot_be_spelled_is_dropped(
    logged: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("info")
    logging.getLogger("sidecar").info("%d", "secret")
    logging.getLogger("sidecar").info("half \ud800 a pair")
    assert logged() == "INFO sidecar: half \\ud800 a pair\n"
    assert "secret" not in capsys.readouterr().err


def test_warnings_are_logged(logged: Callable[[], str]) -> None:
    logs.configure("error")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old" in logged()


def test_an_exc_info_without_an_exception_is_formatted_too() -> None:
    assert "no exception" in logs.DiscreetFormatter().formatException((None, None, None))
