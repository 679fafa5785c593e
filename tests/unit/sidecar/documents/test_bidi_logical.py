from __future__ import annotations

import pytest

from sidecar.documents import bidi


def seen(text: str) -> list[str]:
    """Return the glyphs of a text that is given as it is seen, from the left."""
    return [*text]


@pytest.mark.parametrize(
    ("read", "shown"),
    [
        ("שלום עולם", "םלוע םולש"),
        ("גרסה 2.5 מיום 30/6", "30/6 םוימ 2.5 הסרג"),
        ("דואר info@example.com כאן", "ןאכ info@example.com ראוד"),
        ("הרץ git commit -m עכשיו", "וישכע git commit -m ץרה"),
        ("(ראה נספח 5) ואין", "ןיאו (5 חפסנ האר)"),
        ("טלפון 020-555", "020-555 ןופלט"),
        ("הרץ git.", ".git ץרה"),
        ("(git שלום)", "(םולש git)"),
        ("כתוב \\use{word} כאן", "ןאכ \\use{word} בותכ"),
        ("רقم", "مقר"),
        ("العقد ١٢٣٤ ساري", "يراس ١٢٣٤ دقعلا"),
        ("رمز 12-34", "34-12 زمر"),
    ],
    ids=range(12),
)
def test_lines_from_right_to_left_are_turned_but_numbers_and_words(read: str, shown: str) -> None:
    assert bidi.in_order(seen(shown), is_right=True) == read


def test_words_from_right_to_left_in_another_line_are_turned_alone() -> None:
    shown = "The word םלוע םולש means (בוט רקוב) here."
    read = "The word שלום עולם means (בוקר טוב) here."
    assert bidi.in_order(seen(shown), is_right=True) == read


@pytest.mark.parametrize(("is_right", "read"), [(True, "שלום abc"), (False, "abc שלום")])
def test_the_page_decides_where_the_line_does_not_tell(is_right: bool, read: str) -> None:
    assert bidi.in_order(seen("abc םולש"), is_right=is_right) == read


def test_brackets_that_are_given_as_read_stay() -> None:
    assert bidi.in_order(seen(")בא("), is_right=True, mirror=False) == "(אב)"
    assert bidi.pairs("(a) [b]\n(c") == 3


def test_letters_of_one_glyph_stay_in_their_order() -> None:
    assert bidi.in_order(["م", "لا", "س"], is_right=True) == "سلام"


def test_a_long_line_takes_no_long_time() -> None:
    for text in ("a(" * 2000 + "ש", "1." * 2000 + "ש", "ש 1" * 1300):
        assert sorted(bidi.in_order(seen(text), is_right=True)) == sorted(text)
