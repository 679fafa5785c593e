from __future__ import annotations

import asyncio
import random
import sys
import time
from typing import TYPE_CHECKING

import pytest

from sidecar import documents, worker
from sidecar.documents import Document, char_chunks, token_chunks
from sidecar.problems import Problem
from sidecar.settings import Limits
from tests.support.tinypdf import pdf

if TYPE_CHECKING:
    from pathlib import Path


def read(data: bytes, suffix: str = ".pdf", limits: Limits | None = None) -> Document:
    return asyncio.run(documents.read(data, suffix, limits=limits or Limits()))


def refused(data: bytes, suffix: str = ".pdf", limits: Limits | None = None) -> str:
    with pytest.raises(Problem) as caught:
        read(data, suffix, limits)
    assert caught.value.status == 422
    return caught.value.kind


def test_a_pdf_gives_its_pages_in_order() -> None:
    document = read(pdf(["First page.", "Second page."]))
    assert document.text == "First page.\nSecond page."
    assert document.page_starts == (0, 12)
    assert [document.page_at(offset) for offset in (0, 11, 12, 20)] == [1, 1, 2, 2]
    assert document.is_complete


def test_pages_and_characters_over_the_limits_are_left_out_and_said() -> None:
    data = pdf(["12345678", "12345678", "12345678"])
    assert not read(data, limits=Limits(max_pages=2)).is_complete
    short = read(data, limits=Limits(max_document_chars=10))
    assert (short.text, short.is_complete) == ("12345678\n12", False)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "document-not-pdf"),
        (b"hello", "document-not-pdf"),
        (b"%PDF-1.4\nnothing", "document-unreadable"),
        (pdf([]), "document-no-pages"),
        (pdf(["x"])[:150], "document-unreadable"),
    ],
    ids=["empty", "text", "head", "pages", "cut"],
)
def test_what_is_no_readable_pdf_is_422(data: bytes, kind: str) -> None:
    assert refused(data) == kind


def test_a_reader_that_takes_too_long_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text("import sys, time\nsys.stdin.buffer.read()\ntime.sleep(60)\n", "utf-8")
    monkeypatch.setattr(worker, "__file__", str(slow))
    began = time.monotonic()
    assert refused(b"%PDF-", limits=Limits(document_timeout_s=0.3)) == "document-timeout"
    assert time.monotonic() - began < 30


def test_a_reader_that_crashes_is_a_422(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import os\nos.kill(os.getpid(), 11)\n", "utf-8")
    monkeypatch.setattr(worker, "__file__", str(broken))
    assert refused(b"%PDF-" * 100_000) == "document-crash"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Grüße 数据".encode(), "Grüße 数据"),
        ("Grüße".encode("utf-8-sig"), "Grüße"),
        ("Grüße".encode("utf-16"), "Grüße"),
        ("Grüße".encode("cp1252"), "Grüße"),
        (b"", ""),
    ],
    ids=["utf-8", "mark", "utf-16", "western", "empty"],
)
def test_text_files_are_read_in_the_usual_encodings(data: bytes, text: str) -> None:
    assert read(data, ".txt").text == text


def test_bytes_that_are_no_text_are_422() -> None:
    assert refused(b"\x7fELF\0\xff\xfe", ".md") == "not-text"


def test_a_long_text_is_cut_and_said() -> None:
    document = read(b"123456", ".txt", Limits(max_document_chars=4))
    assert (document.text, document.is_complete) == ("1234", False)


@pytest.mark.parametrize("path", ["/a/b.docx", "/a/b", "/a/.pdf.exe"])
def test_other_kinds_of_file_are_422(path: str) -> None:
    with pytest.raises(Problem) as caught:
        documents.suffix_of(path)
    assert caught.value.status == 422


def test_the_suffix_may_be_in_capitals() -> None:
    assert documents.suffix_of("/a/B.PDF") == ".pdf"


def test_chunks_end_at_white_space_where_there_is_some() -> None:
    text = "aaaa bbbb cccc dddd"
    assert [text[a:b] for a, b in char_chunks(text, size=11, overlap=0)] == [
        "aaaa bbbb ",
        "cccc dddd",
    ]


def test_chunks_of_white_space_are_left_out() -> None:
    assert list(char_chunks(" " * 50 + "a", size=10, overlap=0)) == [(50, 51)]
    assert list(char_chunks("", size=10, overlap=0)) == []


def test_chunks_cover_the_text_and_share_the_overlap() -> None:
    chance = random.Random(3)
    for _ in range(100):
        text = "".join(chance.choice("ab c") for _ in range(chance.randint(1, 200)))
        size = chance.randint(1, 40)
        overlap = chance.randint(0, size - 1)
        found = list(char_chunks(text, size=size, overlap=overlap))
        covered = {at for start, end in found for at in range(start, end)}
        assert all(at in covered or text[at].isspace() for at in range(len(text)))
        assert all(0 < end - start <= size for start, end in found)
        assert found == sorted(set(found))


def test_token_chunks_share_tokens_and_end_with_the_text() -> None:
    spans = [(at, at + 1) for at in range(0, 20, 2)]
    assert list(token_chunks(spans, size=4, overlap=1)) == [(0, 7), (6, 13), (12, 19)]
    assert list(token_chunks(spans, size=100, overlap=0)) == [(0, 19)]
    assert list(token_chunks([], size=4, overlap=1)) == []


def test_the_reader_is_a_program_of_its_own_with_only_the_bytes() -> None:
    async def arguments() -> list[str]:
        seen: list[str] = []

        async def record(*command: str, **_: object) -> None:
            seen.extend(command)
            raise FileNotFoundError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio, "create_subprocess_exec", record)
            with pytest.raises(FileNotFoundError):
                await documents.read_pdf(b"%PDF-", limits=Limits())
        return seen

    assert asyncio.run(arguments())[:4] == [sys.executable, "-I", "-B", worker.__file__]
