from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

from sidecar.documents.chunking import char_chunks, most_chars, token_chunks

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
