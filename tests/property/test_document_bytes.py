"""Whatever bytes a document consists of, what is read of it is text, and places are its own."""

from __future__ import annotations

import codecs
import contextlib
from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.documents import encodings, extraction
from sidecar.documents.chunking import char_chunks
from sidecar.documents.pdf_process import refusal
from sidecar.problems import Problem
from tests.support.pdfparts import said
from tests.support.tinypdf import bombs

# Less the controls, which are removed.
TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\n"), max_size=200
)
WHOLE = [data for data, _ in bombs().values() if len(data) < 2000]
PARTS = st.sampled_from([data[at : at + 97] for data in WHOLE for at in range(0, len(data), 97)])


@given(data=st.binary(max_size=400))
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    with contextlib.suppress(Problem):
        text = encodings.decode(data).text
        assert text.encode("utf-8").decode("utf-8") == text  # no half of a pair
        assert "\0" not in text


@given(text=TEXT)
def test_what_was_written_in_utf_8_or_utf_16_is_read_again(text: str) -> None:
    body = text.removeprefix("\ufeff")
    assert read(codecs.BOM_UTF8 + body.encode()) == body
    assert read(codecs.BOM_UTF16_BE + body.encode("utf-16-be")) == body
    assert read(codecs.BOM_UTF32_LE + body.encode("utf-32-le")) == body
    assert read(body.encode()) == body
    assert read(body.encode("utf-16-le"), codec="utf-16-le") == body


def read(data: bytes, *, codec: str | None = None) -> str:
    found = encodings.decode(data, codec=codec)
    assert found.losses == ()
    return found.text


@given(pages=st.lists(st.text(alphabet="ab \n", max_size=30), max_size=8))
def test_every_chunk_is_the_text_at_its_place_and_on_the_page_it_begins_on(
    pages: list[str],
) -> None:
    document = extraction.joined(pages)
    starts = [*document.page_starts, len(document.text) + 1]
    for number, page in enumerate(pages, start=1):
        assert document.text[starts[number - 1] : starts[number] - 1] == page
    for start, end in islice(char_chunks(document.text, size=7, overlap=2), 500):
        found = document.page_at(start)
        assert found is not None
        assert starts[found - 1] <= start < starts[found]
        assert document.text[start:end]


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(st.one_of(PARTS, st.binary(max_size=40)), max_size=12))
def test_any_bytes_are_pages_of_text_or_a_word(parts: list[bytes]) -> None:
    found = said(b"%PDF-1.4\n" + b"".join(parts), max_pages=5, room=1000)
    if isinstance(found, str):
        assert refusal(found).status == 422
