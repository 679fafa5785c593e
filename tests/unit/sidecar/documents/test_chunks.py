from __future__ import annotations

import re

from sidecar.documents.chunks import char_chunks, token_chunks


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
