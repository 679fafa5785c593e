from __future__ import annotations

import io
import json
import resource
import sys
from types import SimpleNamespace

import pytest

from sidecar import worker
from tests.support.tinypdf import pdf


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[int, int]]]:
    asked: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda *given: asked.append(given))
    return asked


def test_pages_come_in_order_and_say_whether_they_are_all() -> None:
    data = pdf(["one", "two", "three"])
    assert worker.extract(data, max_pages=9, max_chars=99) == {
        "pages": ["one", "two", "three"],
        "complete": True,
    }
    assert worker.extract(data, max_pages=2, max_chars=99) == {
        "pages": ["one", "two"],
        "complete": False,
    }
    assert worker.extract(data, max_pages=9, max_chars=4) == {
        "pages": ["one", "t"],
        "complete": False,
    }
    assert worker.extract(data, max_pages=9, max_chars=11)["complete"] is True


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "not-pdf"),
        (b"MZ", "not-pdf"),
        (b"%PDF-1.4", "unreadable"),
        (pdf([]), "no-pages"),
        (pdf(["x"])[:-200], "unreadable"),
    ],
)
def test_what_cannot_be_read_has_a_word(data: bytes, word: str) -> None:
    assert worker.extract(data, max_pages=1, max_chars=10) == {"error": word}


def test_an_encrypted_file_has_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pypdf.PdfReader", lambda _data: SimpleNamespace(is_encrypted=True))
    assert worker.extract(b"%PDF-", max_pages=1, max_chars=10) == {"error": "encrypted"}


def test_half_of_a_pair_never_leaves_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    page = SimpleNamespace(extract_text=lambda: "a\ud800b")
    reader = SimpleNamespace(is_encrypted=False, pages=[page])
    monkeypatch.setattr("pypdf.PdfReader", lambda _data: reader)
    assert worker.extract(b"%PDF-", max_pages=1, max_chars=10)["pages"] == ["a?b"]


def test_time_memory_and_dumps_are_limited(limits: list[tuple[int, tuple[int, int]]]) -> None:
    worker.limit_resources(10)
    assert dict(limits) == {
        resource.RLIMIT_CPU: (10, 11),
        resource.RLIMIT_AS: (worker.MEMORY_BYTES, worker.MEMORY_BYTES),
        resource.RLIMIT_CORE: (0, 0),
    }


def test_a_system_without_limits_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    worker.limit_resources(10)


def test_the_program_reads_bytes_and_writes_one_object(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    limits: list[tuple[int, tuple[int, int]]],
) -> None:
    monkeypatch.setattr(sys, "argv", ["worker.py", "5", "100", "3"])
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(pdf(["hello"]))))
    assert worker.main() == 0
    assert json.loads(capsys.readouterr().out) == {"pages": ["hello"], "complete": True}
    assert len(limits) == 3
