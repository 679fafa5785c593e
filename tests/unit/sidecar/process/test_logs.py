from __future__ import annotations

import datetime as dt
import json
import logging
import os
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from sidecar import request_id
from sidecar.errors import AddressInUseError
from sidecar.process import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("logging_as_before")


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Send the logs to a pipe, and give what came out of it."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    monkeypatch.setattr(logs, "STDERR", writing)

    def read() -> str:
        try:
            return os.read(reading, 1 << 16).decode()
        except BlockingIOError:
            return ""

    yield read
    os.close(reading)
    os.close(writing)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_module_that_cannot_be_imported_is_named(logged: Callable[[], str]) -> None:
    logs.configure("info")
    for error in (ModuleNotFoundError("no", name="numpy"), ImportError("no"), ValueError("no")):
        try:
            raise error
        except (ImportError, ValueError):
            logging.getLogger("sidecar").exception("it ends")
    assert [line.get("module") for line in lines(logged())] == ["numpy", None, None]


def test_a_line_is_one_object_with_time_level_logger_and_message(
    logged: Callable[[], str],
) -> None:
    logs.configure("info")
    logging.getLogger("sidecar.x").info("said %d", 1)
    text = logged()
    (line,) = lines(text)
    assert text.endswith("\n")
    assert list(line) == ["time", "level", "logger", "message"]
    assert (line["level"], line["logger"], line["message"]) == ("info", "sidecar.x", "said 1")
    assert line["time"].endswith("Z")
    assert len(line["time"]) == len("2026-01-01T00:00:00.000Z")
    said_at = dt.datetime.fromisoformat(line["time"])
    assert abs(said_at - dt.datetime.now(dt.UTC)) < dt.timedelta(hours=1)


def test_we_speak_at_the_level_asked_for_and_libraries_from_warning_up(
    logged: Callable[[], str],
) -> None:
    logs.configure("info", "text")
    logging.getLogger("sidecar.x").info("said")
    logging.getLogger("sidecar.x").debug("not said")
    logging.getLogger("library").info("not said")
    logging.getLogger("library").warning("beware")
    assert logged() == "INFO sidecar.x: said\nWARNING library: beware\n"


def test_a_line_carries_the_id_of_the_request_that_is_served(logged: Callable[[], str]) -> None:
    logs.configure("info")
    with request_id.using("an-id"):
        logging.getLogger("sidecar").info("said")
        logs.configure("info", "text")
        logging.getLogger("sidecar").info("said")
    as_json, as_text = logged().splitlines()
    assert json.loads(as_json)["request"] == "an-id"
    assert as_text == "INFO sidecar: said (request an-id)"


def test_a_line_carries_the_fields_that_programs_read(logged: Callable[[], str]) -> None:
    logs.configure("info")
    logging.getLogger("sidecar").info("busy", extra={logs.FIELDS: {"status": 429}})
    line = json.loads(logged())
    assert (line["message"], line["status"]) == ("busy", 429)


def fail_on(text: str) -> None:
    int(text)


@pytest.mark.parametrize("form", ["json", "text"])
def test_exception_shows_places_and_type_alone(
    logged: Callable[[], str], form: logs.Format
) -> None:
    logs.configure("info", form)
    try:
        fail_on("a secret text")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("it failed")
    text = logged()
    assert "ValueError" in text
    assert f"{__name__}:" in text
    assert ":fail_on" in text
    assert "it failed" in text
    assert "invalid literal" not in text
    assert os.path.dirname(__file__) not in text  # noqa: PTH120
    if form == "json":
        (line,) = lines(text)
        assert (line["error"], line["message"]) == ("ValueError", "it failed")
        assert [frame.rpartition(":")[2] for frame in line["frames"]][-1] == "fail_on"


def test_of_a_library_only_the_first_line_is_kept(logged: Callable[[], str]) -> None:
    logs.configure("info")
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: 'a secret'")
    assert lines(logged())[0]["message"] == "Task exception was never retrieved"


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("cannot read /home/jane/notes/diary.txt now", "cannot read <path> now"),
        ("cannot read '/home/jane doe/my notes/a b.txt'", "cannot read <path>"),
        (r"cannot read C:\Users\jane\diary.txt", "cannot read <path>"),
        (r"'\\server\share\a b'", "<path>"),
        ("~/notes/diary.txt: gone", "<path>: gone"),
        ("/embed answered 200 as application/json", "/embed answered 200 as application/json"),
        ("3/4 of org/model at http://127.0.0.1:8421", "3/4 of org/model at http://127.0.0.1:8421"),
    ],
)
def test_paths_are_replaced_and_what_only_looks_like_one_is_left(said: str, left: str) -> None:
    assert logs.discreet(said) == left


def test_a_long_message_is_cut(logged: Callable[[], str]) -> None:
    logs.configure("info")
    logging.getLogger("sidecar").info("x" * 10_000)
    assert len(lines(logged())[0]["message"]) == logs.MAX_MESSAGE_CHARS


def test_a_quote_without_its_end_is_looked_through_once() -> None:
    # Once for every separator, this would take hours.
    said = "'" + "/a" * 500_000
    assert logs.discreet(said) == "'<path>"


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_record_that_cannot_be_spelled_is_dropped(
    logged: Callable[[], str], capsys: pytest.CaptureFixture[str], form: logs.Format
) -> None:
    logs.configure("info", form)
    logging.getLogger("sidecar").info("%d", "secret")
    logging.getLogger("sidecar").info("half \ud800 a pair")
    text = logged()
    assert "half \\ud800 a pair" in text
    assert text.count("\n") == 1
    if form == "json":
        assert lines(text)[0]["message"] == "half \ud800 a pair"
    assert "secret" not in capsys.readouterr().err


def test_warnings_are_logged_without_the_file_they_come_from(logged: Callable[[], str]) -> None:
    logs.configure("error")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    (line,) = lines(logged())
    assert (line["logger"], line["message"]) == ("py.warnings", "DeprecationWarning: old")


def test_fatal_error_is_one_line_with_reason_and_code(
    logged: Callable[[], str],
) -> None:
    error = AddressInUseError(
        "it is taken", why="by '/a/b c'", next_step="stop it", facts={"holder": "stranger"}
    )
    logs.configure("error")
    logs.tell_end(error)
    (line,) = lines(logged())
    assert list(line)[4:] == ["why", "next", "exit_code", "holder"]
    assert (line["level"], line["message"], line["why"]) == ("error", "it is taken", "by <path>")
    assert (line["next"], line["exit_code"], line["holder"]) == ("stop it", 3, "stranger")
    logs.configure("error", "text")
    logs.tell_end(error)
    assert logged() == f"{error.render()}\n"


def test_an_exc_info_without_an_exception_is_formatted_too(logged: Callable[[], str]) -> None:
    for form in ("json", "text"):
        logs.configure("info", form)
        logging.getLogger("sidecar").error("said", exc_info=(None, None, None))
    as_json, as_text = logged().splitlines()
    assert "error" not in json.loads(as_json)
    assert as_text == "ERROR sidecar: said"


def test_what_nobody_catches_is_a_line_without_its_message(logged: Callable[[], str]) -> None:
    class Breaks:
        def __del__(self) -> None:
            raise KeyError("a-secret")

    def fail() -> None:
        raise ValueError("a-secret")

    logs.configure("info")
    logs.catch_uncaught()
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    Breaks()
    text = logged()
    assert "a-secret" not in text
    of_thread, of_finalizer = lines(text)
    assert of_thread["message"] == "unhandled exception in a thread"
    assert (of_thread["error"], of_finalizer["error"]) == ("ValueError", "KeyError")
