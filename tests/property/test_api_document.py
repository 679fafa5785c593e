from __future__ import annotations

import contextlib
import itertools
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import stub_service
from tests.support.apifuzz import documents, fuzz
from tests.support.running import running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _past_every_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_every_answer_is_one_that_the_document_of_the_api_foresees(tmp_path: Path) -> None:
    files = documents(tmp_path)
    program = [sys.executable, "-B", str(Path(stub_service.__file__))]
    with running([*program, "--port", "0", "--allow-dir", str(tmp_path)]) as service:
        fuzzed = fuzz(service.wait_ready(), files=files, cases=300, seed=1)
        code, log = service.stop(), service.log
    assert not fuzzed.failures, fuzzed.report()
    assert fuzzed.cases >= 300
    assert {status for label, status in fuzzed.statuses if label == "POST /embed"} >= {"200", "422"}
    assert fuzzed.statuses["POST /embed-file", "200"]
    assert code == 0
    assert "Traceback" not in log


LIES = {
    "not_a_server_error": (500, "application/json", b'{"dim":1}'),
    "status_code_conformance": (418, "application/json", b'{"dim":1}'),
    "content_type_conformance": (200, "text/plain", b'{"dim":1}'),
    "response_schema_conformance": (200, "application/json", b'{"dim":"8"}'),
    "negative_data_rejection": (200, "application/json", b'{"dim":1}'),
    "positive_data_acceptance": (400, "application/json", b'{"dim":1}'),
}


@contextlib.contextmanager
def liar() -> Iterator[int]:
    """Yield the port of a server whose one route tells each lie in turn, whatever it is asked."""
    field = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    said = {"type": "object", "properties": {"dim": {"type": "integer"}}, "required": ["dim"]}
    operation = {
        "requestBody": {"required": True, "content": {"application/json": {"schema": field}}},
        "responses": {
            str(number): {"description": "", "content": {"application/json": {"schema": said}}}
            for number in (200, 400, 500)
        },
    }
    document = json.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Lies", "version": "1"},
            "paths": {"/embed-file": {"post": operation}},
        }
    ).encode()
    lies = itertools.cycle(LIES.values())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, kind: str, body: bytes) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer(200, "application/json", document)

        def do_POST(self) -> None:
            self.answer(*next(lies))

        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_service_that_answers_otherwise_is_found_out_in_every_way() -> None:
    with liar() as port:
        fuzzed = fuzz(port, files=[Path("/no/such.txt")], cases=60, seed=1)
    missed = {check for check in LIES if f": {check}: " not in " ".join(fuzzed.failures)}
    assert missed == set(), fuzzed.report()
