from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sidecar.documents import extraction
from sidecar.documents.losses import Loss
from sidecar.documents.pdf_pool import PdfPool
from sidecar.problems import Problem
from sidecar.settings import Limits
from tests.support.tinypdf import pdf

if TYPE_CHECKING:
    from sidecar.documents.losses import Document


def read(data: bytes, suffix: str = ".pdf", *, max_chars: int = 100) -> Document:
    async def begin() -> Document:
        workers = PdfPool(Limits(max_document_chars=max_chars))
        try:
            return await extraction.read(data, suffix, max_chars=max_chars, pdf_pool=workers)
        finally:
            workers.close()

    return asyncio.run(begin())


def test_a_pdf_gives_its_pages_in_order() -> None:
    document = read(pdf(["First page.", "Second page."]))
    assert document.text == "First page.\nSecond page."
    assert document.page_starts == (0, 12)
    assert [document.page_at(offset) for offset in (0, 11, 12, 20)] == [1, 1, 2, 2]
    assert (document.pages, document.losses) == (2, ())


def test_characters_over_the_limit_are_left_out_and_said() -> None:
    short = read(pdf(["12345678", "12345678", "12345678"]), max_chars=10)
    assert short.text == "12345678\n12"
    assert short.losses == (Loss(kind="limit", count=2, pages=(2, 3)),)


def test_pages_are_joined_and_found_again() -> None:
    document = extraction.joined(["", "a", "", "bc"])
    assert document.text == "\na\n\nbc"
    assert [document.page_at(at) for at in range(6)] == [1, 2, 2, 3, 4, 4]


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
    document = read(data, ".txt")
    assert document.text == text
    assert (document.page_at(0), document.pages) == (None, None)


@pytest.mark.parametrize(
    "data", [b"\x7fELF\0\xff\xfe", bytes(9), b"\1\2\3\4\5 plain"], ids=["ELF", "NULs", "controls"]
)
def test_bytes_that_are_no_text_are_422(data: bytes) -> None:
    with pytest.raises(Problem) as caught:
        read(data, ".md")
    assert (caught.value.status, caught.value.kind) == (422, "not-text")
    assert caught.value.next_step


def test_a_long_text_is_cut_and_said() -> None:
    document = read(b"123456", ".txt", max_chars=4)
    assert (document.text, document.losses) == ("1234", (Loss(kind="limit", count=2),))
    assert len(read(b"a" * 100_000, ".txt", max_chars=1_000_000).text) == 100_000


@pytest.mark.parametrize("path", ["/a/b.docx", "/a/b", "/a/.pdf.exe"])
def test_other_kinds_of_file_are_422(path: str) -> None:
    with pytest.raises(Problem) as caught:
        extraction.suffix_of(path)
    assert (caught.value.status, caught.value.kind) == (422, "file-kind")


def test_the_suffix_may_be_in_capitals() -> None:
    assert extraction.suffix_of("/a/B.PDF") == ".pdf"
