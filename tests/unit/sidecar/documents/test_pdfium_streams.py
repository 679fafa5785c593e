from __future__ import annotations

import zlib

import pytest

from sidecar.documents.pdfium import has_damage, is_damaged
from tests.support.casepdf import deflated
from tests.support.tinypdf import packed

TEXT = b"BT /F1 9 Tf (A text) Tj ET\n" * 9
WHOLE = packed(TEXT)


def copy(stream: bytes, *, contents: bytes = b"5 0 R") -> bytes:
    """Return a document of one page as PDFium writes it."""
    page = b"4 0 obj\r\n<</Contents %s /Type/Page>>\r\nendobj\r\n" % contents
    return b"%PDF-1.7\r\n" + page + b"5 0 obj\r\n" + stream + b"\r\nendobj\r\n"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (WHOLE, False),
        (WHOLE.replace(b"\nendstream", b"\n" + bytes(9) + b"endstream"), False),
        (deflated(TEXT, cut=9), True),
        (WHOLE.replace(zlib.compress(TEXT, 9), b"not packed"), True),
        (WHOLE.replace(b"/Length", b"/Subtype /Image /Length").replace(b"x\xda", b"xx"), False),
        (deflated(TEXT, cut=9) + b" /Encrypt 9 0 R", False),
        (b"", False),
    ],
    ids=["whole", "more after it", "cut", "other", "picture", "encrypted", "none"],
)
def test_streams_that_cannot_be_unpacked_whole_are_found(data: bytes, expected: bool) -> None:
    assert has_damage(data) is expected


def test_a_wrong_checksum_loses_nothing() -> None:
    body = zlib.compress(TEXT, 9)
    assert not has_damage(WHOLE.replace(body, body[:-4] + b"\0\0\0\0"))


@pytest.mark.parametrize(
    ("stream", "is_empty", "expected"),
    [
        (WHOLE, False, False),
        (WHOLE, True, True),
        (packed(b"q Q"), True, False),
        (packed(b"BT () Tj [] TJ ET"), True, False),
        (packed(b"q /Im0 Do Q"), True, True),
        (deflated(TEXT, cut=9), False, True),
        (b"<</Filter/Foo/Length 3>>\r\nstream\r\nabc\r\nendstream", False, True),
    ],
    ids=range(7),
)
def test_a_page_is_damaged_if_what_it_draws_is_not_there(
    stream: bytes, is_empty: bool, expected: bool
) -> None:
    assert is_damaged(copy(stream), is_empty=is_empty) is expected


def test_contents_may_be_several_streams_and_each_must_be_there() -> None:
    assert not is_damaged(copy(WHOLE, contents=b"[ 5 0 R ]"), is_empty=False)
    assert is_damaged(copy(WHOLE, contents=b"[ 5 0 R 6 0 R ]"), is_empty=False)
    assert not is_damaged(b"", is_empty=True)
