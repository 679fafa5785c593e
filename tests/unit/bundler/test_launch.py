from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from bundler import launch
from bundler.errors import SmokeError
from bundler.launch import RunningService, parse_ready, scrubbed
from tests.support import stub_service
from tests.support.miniature import Miniature

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READY = 'print(\'PROGRESS:{"type": "ready", "data": {"port": 4711}}\', flush=True)\n'


def start(code: str) -> RunningService:
    return RunningService.start([sys.executable, "-I", "-c", code])


def test_what_redirects_a_loader_or_an_interpreter_is_taken_away() -> None:
    environment = {
        "LD_PRELOAD": "x",
        "DYLD_LIBRARY_PATH": "x",
        "PYTHONPATH": "x",
        "PythonHome": "x",
        "PATH": "/bin",
        "HOME": "/home/ana",
    }
    assert scrubbed(environment) == {"PATH": "/bin", "HOME": "/home/ana"}


def test_the_command_is_the_bundles_own_interpreter_in_isolated_mode(tmp_path: Path) -> None:
    Miniature.make(tmp_path / "project").assemble(tmp_path / "bundle", parts=("service",))
    bundle = tmp_path / "bundle"
    assert launch.command(bundle, ["--port", "1"]) == [
        str(bundle / "python/bin/python3.11"),
        "-I",
        "-B",
        str(bundle / "embedding_sidecar"),
        "--port",
        "1",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello",
        "PROGRESS:",
        "PROGRESS:[1]",
        'PROGRESS:{"type": "model_loaded", "data": {"port": 1}}',
        'PROGRESS:{"type": "ready"}',
        'PROGRESS:{"type": "ready", "data": [1]}',
        'PROGRESS:{"type": "ready", "data": {}}',
        ' PROGRESS:{"type": "ready", "data": {"port": 1}}',
    ],
)
def test_lines_that_do_not_say_ready_are_passed_over(line: str) -> None:
    assert parse_ready(line) is None


def test_a_ready_line_gives_its_data() -> None:
    assert parse_ready('PROGRESS:{"type":"ready","data":{"port":1,"pid":2}}') == {
        "port": 1,
        "pid": 2,
    }


def test_a_service_is_waited_for_through_other_lines() -> None:
    with start(f"print('noise')\n{READY}import time\ntime.sleep(60)") as it:
        assert it.wait_ready(30) == {"port": 4711}
        assert it.port == 4711
    assert it.process.returncode != 0


def test_a_service_that_ends_early_is_reported_with_its_last_words() -> None:
    code = "import sys\nfor n in range(50): print('line', n, file=sys.stderr)\nsys.exit(11)"
    with (
        start(code) as service,
        pytest.raises(SmokeError) as caught,
    ):
        service.wait_ready(30)
    assert "exit code 11" in caught.value.why
    assert caught.value.why.endswith("line 49")
    assert "line 42" in caught.value.why
    assert "line 41" not in caught.value.why


def test_a_service_that_talks_for_ever_is_not_waited_for() -> None:
    with (
        start("while True: print('still loading', flush=True)") as service,
        pytest.raises(SmokeError, match="of this bundle fails") as caught,
    ):
        service.wait_ready(0.2)
    assert "not ready within" in caught.value.why


def test_stopping_twice_gives_the_same_code() -> None:
    service = start("raise SystemExit(5)")
    service.process.wait()
    assert service.stop() == service.stop() == 5


def test_a_service_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "STOP_SECONDS", 0.2)
    code = f"import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{READY}"
    service = start(code + "time.sleep(60)")
    service.wait_ready(30)
    assert service.stop() == -9


def test_on_windows_a_service_has_a_process_group_in_any_case() -> None:
    assert launch.apart(is_apart=False, is_windows=True) == (0x200, None)
    assert launch.apart(is_apart=True, is_windows=True) == (0x200, None)
    assert launch.apart(is_apart=True, is_windows=False) == (0, 0)
    assert launch.apart(is_apart=False, is_windows=False) == (0, None)


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let services be stopped as on Windows, whose Ctrl-Break is this system's SIGHUP by number."""
    monkeypatch.setattr(launch, "apart", lambda **_: (0, None))
    monkeypatch.setattr(launch, "IS_WINDOWS", True)


@pytest.mark.usefixtures("windows")
def test_on_windows_a_ready_service_is_asked_by_a_request_and_ends_with_0(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(subprocess.Popen, "send_signal", lambda _, number: sent.append(number))
    with RunningService.start(
        [sys.executable, "-B", stub_service.__file__, "--port", "0"]
    ) as service:
        service.wait_ready(60)
        assert service.stop() == 0
    assert sent == []


# Ends with 21 at the number of Ctrl-Break.
BREAKABLE = """
import signal, time
def end(*_): raise SystemExit(21)
signal.signal(1, end)
print("listening", flush=True)
time.sleep(60)
"""


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize("is_ready", [True, False])
def test_on_windows_a_service_that_takes_no_request_hears_ctrl_break(*, is_ready: bool) -> None:
    with start(BREAKABLE) as service:
        assert service.lines.get(timeout=30) == "listening"
        service.ready = {"port": 9} if is_ready else {}
        assert service.stop() == 21


@pytest.mark.usefixtures("windows")
def test_on_windows_a_service_that_is_asked_again_hears_ctrl_break(
    answering: RunningService,
) -> None:
    with start(BREAKABLE) as service:
        assert service.lines.get(timeout=30) == "listening"
        service.ready = answering.ready
        service.ask_to_stop()
        assert service.process.poll() is None
        service.ask_to_stop()
        assert service.process.wait(30) == 21


@pytest.mark.usefixtures("windows")
def test_on_windows_without_a_console_a_service_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_console(*_: object) -> None:
        raise OSError(6, "The handle is invalid")

    service = start(f"{READY}import time\ntime.sleep(60)")
    assert service.lines.get(timeout=30)
    monkeypatch.setattr(subprocess.Popen, "send_signal", no_console)
    monkeypatch.setattr(subprocess.Popen, "terminate", lambda it: os.kill(it.pid, 15))
    assert service.stop() == -15


def test_a_service_gets_what_its_system_needs_and_what_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launch, "needed", lambda _: {"SYSTEMROOT": "C:\\Windows"})
    code = "import os\nprint(sorted(set(os.environ) - {'LC_CTYPE'}), flush=True)"
    words = [sys.executable, "-I", "-c", code]
    with RunningService.start(words, environment={"GIVEN": "1", "PYTHONHOME": "/no"}) as service:
        assert service.lines.get(timeout=30) == "['GIVEN', 'SYSTEMROOT']"
    with RunningService.start(words, environment={}) as service:
        assert service.lines.get(timeout=30) == "['SYSTEMROOT']"


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer()

    def answer(self) -> None:
        bodies = {"/good": b'{"method": "%s"}' % self.command.encode(), "/text": b"not JSON"}
        body = bodies.get(self.path, b"{}")
        self.send_response(200 if self.path in bodies or self.path == "/shutdown" else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def answering() -> Iterator[RunningService]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    with start("") as service:
        service.ready = {"port": server.server_address[1]}
        yield service
    server.shutdown()
    server.server_close()
    thread.join()


def test_requests_are_answered_as_json_whatever_proxy_is_set(
    answering: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert answering.request("/good") == {"method": "GET"}
    assert answering.request("/good", {"texts": []}) == {"method": "POST"}
    assert json.dumps(answering.request("/shutdown")) == "{}"


@pytest.mark.parametrize(
    ("path", "why"), [("/missing", "answered 503"), ("/text", "did not answer")]
)
def test_an_answer_that_is_none_is_a_failed_smoke_test(
    answering: RunningService, path: str, why: str
) -> None:
    with pytest.raises(SmokeError) as caught:
        answering.request(path)
    assert why in caught.value.why
    assert caught.value.exit_code == 9


def test_a_service_that_is_gone_is_a_failed_smoke_test(answering: RunningService) -> None:
    answering.ready = {"port": 9}
    with pytest.raises(SmokeError, match="of this bundle fails"):
        answering.request("/good")
