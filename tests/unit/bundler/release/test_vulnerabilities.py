from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from bundler.artifacts.network import Network
from bundler.errors import UnreachableError, UsageError
from bundler.release import vulnerabilities
from bundler.release.vulnerabilities import ask, purls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("pkg:pypi/one@1.0", "pkg:pypi/two@2.0")


class Database(ThreadingHTTPServer):
    """Answers every question with what the test put into `answers`, and records the questions."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[list[Any]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/querybatch?key=secret"


class Handler(BaseHTTPRequestHandler):
    server: Database

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(json.loads(body)["queries"])
        status, answer = self.server.answers.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def database() -> Iterator[Database]:
    with Database() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def vulns(*names: str) -> dict[str, Any]:
    return {"vulns": [{"id": name, "modified": "2026-01-01T00:00:00Z"} for name in names]}


def test_findings_come_in_the_order_of_the_packages(database: Database) -> None:
    database.answers = [(200, {"results": [vulns("B", "A"), {}]})]
    assert ask(NAMES, database.address, Network()) == [
        (NAMES[0], "A"),
        (NAMES[0], "B"),
    ]
    assert database.asked == [[{"package": {"purl": name}} for name in NAMES]]


def test_further_pages_are_asked_for(database: Database) -> None:
    database.answers = [
        (200, {"results": [{}, {**vulns("A"), "next_page_token": "more"}]}),
        (200, {"results": [vulns("B")]}),
    ]
    found = ask(NAMES, database.address, Network())
    assert [name for _, name in found] == ["A", "B"]
    assert database.asked[1] == [{"package": {"purl": NAMES[1]}, "page_token": "more"}]


def test_many_packages_are_asked_about_in_batches(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vulnerabilities, "BATCH", 1)
    database.answers = [(200, {"results": [{}]}), (200, {"results": [vulns("A")]})]
    assert [purl for purl, _ in ask(NAMES, database.address, Network())] == [NAMES[1]]


def test_a_database_that_never_ends_is_left(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vulnerabilities, "MOST_PAGES", 2)
    database.answers = [(200, {"results": [{"next_page_token": "more"}]})] * 5
    with pytest.raises(UnreachableError) as caught:
        ask(NAMES[:1], database.address, Network())
    assert "more than 2 pages" in caught.value.why


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((503, {}), "HTTP 503"),
        ((200, {"results": []}), "no OSV answer"),
        ((200, {"message": "hello"}), "no OSV answer"),
        ((200, ["hello"]), "no OSV answer"),
    ],
)
def test_what_is_no_answer_is_out_of_reach(
    database: Database, answer: tuple[int, Any], why: str
) -> None:
    database.answers = [answer]
    with pytest.raises(UnreachableError) as caught:
        ask(NAMES, database.address, Network())
    assert why in caught.value.why
    assert "secret" not in caught.value.why


def test_nobody_there_is_out_of_reach() -> None:
    with pytest.raises(UnreachableError, match="did not answer"):
        ask(NAMES, "http://127.0.0.1:9/", Network(connect_s=1))


def test_only_public_packages_are_asked_about(tmp_path: Path) -> None:
    inner = [{"purl": "pkg:cargo/deep@1"}, {"name": "nothing"}]
    components = [
        {"purl": "pkg:pypi/torch@2.0%2Bcpu?file_name=torch.whl", "components": inner},
        {"purl": "pkg:pypi/torch@2.0%2Bcpu"},
        {"purl": "pkg:generic/cpython@3.11"},
        {"purl": "pkg:huggingface/a/b@1"},
    ]
    path = tmp_path / "sbom.cdx.json"
    path.write_text(json.dumps({"components": components}), encoding="utf-8")
    assert purls(path) == ("pkg:cargo/deep@1", "pkg:pypi/torch@2.0%2Bcpu")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"components": 1}', '{"components": [1]}'])
def test_what_is_no_bill_of_fetched_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "sbom.cdx.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="not a bill of materials"):
        purls(tmp_path / "sbom.cdx.json")
    with pytest.raises(UsageError):
        purls(tmp_path / "missing")
