from __future__ import annotations

import http.server
import json
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from bundler import launch
from bundler.errors import SmokeError
from bundler.launch import Service, parse_ready, readable, scrubbed
from tests.support.miniature import Miniature

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

READY = 'print(\'PROGRESS:{"type": "ready", "data": {"port": 4711}}\', flush=True)\n'


def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> Service:
    def command(_: Path, arguments: Sequence[str], *_rest: object) -> list[str]:
        return [sys.executable, "-I", "-c", code, *arguments]

    monkeypatch.setattr(launch, "command", command)
    return Service.start(tmp_path)


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


def test_a_service_is_waited_for_through_other_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with start(monkeypatch, tmp_path, f"print('noise')\n{READY}import time\ntime.sleep(60)") as it:
        assert it.wait_ready(30) == {"port": 4711}
        assert it.port == 4711
    assert it.process.returncode != 0


def test_a_service_that_ends_early_is_reported_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = "import sys\nfor n in range(50): print('line', n, file=sys.stderr)\nsys.exit(11)"
    with (
        start(monkeypatch, tmp_path, code) as service,
        pytest.raises(SmokeError) as caught,
    ):
        service.wait_ready(30)
    assert "exit code 11" in caught.value.why
    assert caught.value.why.endswith("line 49")
    assert "line 42" in caught.value.why
    assert "line 41" not in caught.value.why


def test_lines_of_its_log_are_shown_as_people_read_them() -> None:
    line = '{"time":"t","level":"error","logger":"a","message":"it is damaged","why":"a bit"}'
    assert readable(line) == "error: it is damaged; why: a bit"
    for other in ("words", "1", "[]", '{"a": 1}', "{", '"message"'):
        assert readable(other) == other


def test_a_service_that_talks_for_ever_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (
        start(monkeypatch, tmp_path, "while True: print('still loading', flush=True)") as service,
        pytest.raises(SmokeError, match="does not work") as caught,
    ):
        service.wait_ready(0.2)
    assert "not ready within" in caught.value.why


def test_stopping_twice_gives_the_same_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service = start(monkeypatch, tmp_path, "raise SystemExit(5)")
    service.process.wait()
    assert service.stop() == service.stop() == 5


def test_a_service_that_does_not_listen_is_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(launch, "STOP_SECONDS", 0.2)
    code = f"import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{READY}"
    service = start(monkeypatch, tmp_path, code + "time.sleep(60)")
    service.wait_ready(30)
    assert service.stop() == -9


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
def answering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    with start(monkeypatch, tmp_path, "") as service:
        service.ready = {"port": server.server_address[1]}
        yield service
    server.shutdown()
    server.server_close()
    thread.join()


def test_requests_are_answered_as_json_whatever_proxy_is_set(
    answering: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert answering.request("/good") == {"method": "GET"}
    assert answering.request("/good", {"texts": []}) == {"method": "POST"}
    assert json.dumps(answering.request("/shutdown")) == "{}"


@pytest.mark.parametrize(
    ("path", "why"), [("/missing", "answered 503"), ("/text", "did not answer")]
)
def test_an_answer_that_is_none_is_a_failed_smoke_test(
    answering: Service, path: str, why: str
) -> None:
    with pytest.raises(SmokeError) as caught:
        answering.request(path)
    assert why in caught.value.why
    assert caught.value.exit_code == 9


def test_a_service_that_is_gone_is_a_failed_smoke_test(answering: Service) -> None:
    answering.ready = {"port": 9}
    with pytest.raises(SmokeError, match="does not work"):
        answering.request("/good")
