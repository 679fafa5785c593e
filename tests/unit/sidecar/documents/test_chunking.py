from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.documents.chunking import READER, char_chunks, most_chars, token_chunks
from tests.support.tinypdf import pdf

if TYPE_CHECKING:
    from tests.support.stub_engine import Served

THAI = "กรุณาตรวจสอบสัญญาเช่าของสาขากรุงเทพ" * 200


def test_chunks_end_at_white_space_where_there_is_some() -> None:
    text = "aaaa bbbb cccc dddd"
    assert [text[a:b] for a, b in char_chunks(text, size=11, overlap=0)] == [
        "aaaa bbbb ",
        "cccc dddd",
    ]


def test_chunks_of_white_space_are_left_out() -> None:
    assert list(char_chunks(" " * 50 + "a", size=10, overlap=0)) == [(50, 51)]
    assert list(char_chunks("", size=10, overlap=0)) == []


def test_token_chunks_share_tokens_and_end_with_the_text() -> None:
    text = "a b c d e f g h i j"
    spans = [(at, at + 1) for at in range(0, 20, 2)]
    assert list(token_chunks(text, *zip(*spans, strict=True), size=4, overlap=1)) == [
        (0, 7),
        (6, 13),
        (12, 19),
    ]
    assert list(token_chunks(text, *zip(*spans, strict=True), size=100, overlap=0)) == [(0, 19)]
    assert list(token_chunks("", [], [], size=4, overlap=1)) == []


def test_token_chunks_keep_words_whole_where_they_can() -> None:
    text = "aaa bbbb cccc ddddddddddd"
    spans = [(at, at + 1) for at in range(len(text)) if text[at] != " "]
    cut = [text[a:b] for a, b in token_chunks(text, *zip(*spans, strict=True), size=8, overlap=0)]
    assert cut == ["aaa bbbb", "cccc dddd", "ddddddd"]


def test_tokens_that_carry_the_space_before_them_begin_words_too() -> None:
    text = "one two three four"
    spans = [match.span() for match in re.finditer(r"\s?\S{1,2}", text)]
    cut = [text[a:b] for a, b in token_chunks(text, *zip(*spans, strict=True), size=8, overlap=3)]
    assert cut == ["one two three", " three four"]


def test_a_token_of_a_whole_text_is_divided_between_letters() -> None:
    places = list(token_chunks(THAI, [0], [len(THAI)], size=126, overlap=15))
    assert "".join(THAI[start:end] for start, end in places) == THAI
    lengths = [end - start for start, end in places]
    assert 126 * 3 < min(lengths) <= max(lengths) <= 126 * 4
    assert not any(unicodedata.category(THAI[start])[0] == "M" for start, _ in places)


def test_long_tokens_among_words_repeat_no_chunk() -> None:
    text = f"{'word ' * 90}{THAI} {'word ' * 90}"
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    places = list(token_chunks(text, *zip(*spans, strict=True), size=100, overlap=20))
    assert {at for start, end in places for at in range(start, end)} >= {
        at for at, char in enumerate(text) if char != " "
    }
    assert max(end - start for start, end in places) <= most_chars(100)
    ends = [end for _, end in places]
    assert ends == sorted(set(ends))
    assert len(places) <= 3 + len(THAI) // (100 * 4 - 64)


def test_sparse_tokens_are_bounded_in_characters_and_share_what_fits() -> None:
    text = (" " * 90 + "ab") * 40
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    places = list(token_chunks(text, *zip(*spans, strict=True), size=8, overlap=2))
    assert all(end - start <= 256 for start, end in places)
    assert all(second[0] < first[1] for first, second in pairwise(places))
    assert places[-1][1] == len(text)


LINE = "Either party may give notice of termination in writing, within thirty days. "
RUSSIAN = "Отчёт о продажах за квартал. Проверьте договор филиала.\n"
DOCUMENTS: dict[str, tuple[str, bytes]] = {
    "markdown": (
        "text/markdown",
        f"# Lease\n\n{LINE * 20}\r\n\n* one\n* two\n\n| a | b |\n|---|---|\n\n".encode()
        + f"\tcode  \n{LINE * 9}".encode(),
    ),
    "detected": ("text/plain", (RUSSIAN * 20).encode("cp1251")),
    "utf-16": ("text/plain", (RUSSIAN * 20).encode("utf-16-be")),
    "damaged": ("text/plain", RUSSIAN.encode() * 9 + b"\xff" + RUSSIAN.encode()),
    "controls": ("text/plain", b"one\0\0 \x1b[1mtwo\x1b[0m three\x1ffour\n" * 30),
    "without spaces": ("text/plain", ("กรุณาตรวจสอบสัญญาเช่าของสาขา" * 90).encode()),
    "pdf": ("application/pdf", pdf([LINE, f"Page two. {LINE}", "The end."])),
}
# What came out, by revision. Where a test of this module fails, some document is read or cut in
# another way than before: raise READER, and put the new digests under it. Older ones may go.
RECORDED: dict[int, dict[str, str]] = {
    1: {
        "markdown": "fe10d394c97fa531",
        "detected": "74d517ae44e038ae",
        "utf-16": "bbde1607c0998657",
        "damaged": "f40d3600f3cd6746",
        "controls": "9b20abdd05aa9f33",
        "without spaces": "8b96325b81aa75af",
        "pdf": "bcbc64e579ccc767",
    },
}


def digest(served: Served, name: str) -> str:
    kind, data = DOCUMENTS[name]
    found: list[Any] = []
    for query in ("unit=chars&chunk_size=300", "unit=tokens"):
        answer = served.request(
            "POST", f"/embed-file/upload?{query}", content=data, headers={"content-type": kind}
        ).json()
        assert answer["reader"] == READER
        places = [[span[key] for key in ("page", "start", "end")] for span in answer["spans"]]
        found += [answer["chunks"], places, answer["losses"], answer["encoding"]]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_revision_of_the_reader_gives_what_it_always_gave(served: Served, name: str) -> None:
    assert digest(served, name) == RECORDED.get(READER, {}).get(name), "see RECORDED"
