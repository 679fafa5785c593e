from __future__ import annotations

import dataclasses
import re
import unicodedata

import pytest

from sidecar.documents import bidi
from tests.support.casepdf import placed
from tests.support.pdfparts import read

WIDTH = 5
Drawn = list[tuple[float, float, str]]


def words(text: str, *, right: float = 190, y: float = 100, space: float = 1.5) -> Drawn:
    """Return the words from right to left, as they are read, each drawn as it is seen."""
    drawn: Drawn = []
    for word in text.split(" "):
        is_turned = unicodedata.bidirectional(word[0]) in ("R", "AL")
        right -= WIDTH * len(word)
        drawn.append((right, y, word[::-1] if is_turned else word))
        right -= space
    return drawn


def letters(text: str, *, right: float = 190, y: float = 100, space: float = 1.5) -> Drawn:
    """Return the letters from right to left, as they are read; marks stand over their letters."""
    drawn: Drawn = []
    for letter in text:
        if letter == " ":
            right -= space
            continue
        if unicodedata.combining(letter):
            drawn.append((right + 1, y + 1, letter))
            continue
        right -= WIDTH
        drawn.append((right, y, letter))
    return drawn


def shown(drawn: Drawn) -> str:
    return read(placed(drawn)).pages[0]


@pytest.mark.parametrize("text", ["فقرة عربية محاذاة إلى اليمين", "חוזה שכירות בתוקף עד יוני"])
@pytest.mark.parametrize("draw", [words, letters])
@pytest.mark.parametrize("is_backwards", [False, True])
def test_words_are_right_in_whatever_order_they_are_drawn(
    text: str,
    draw: object,
    is_backwards: bool,
) -> None:
    drawn = draw(text)  # type: ignore[operator]
    assert shown(drawn[::-1] if is_backwards else drawn) == text


def test_letters_with_marks_are_right() -> None:
    text = "مُحَمَّدٌ رَسُولُ"
    assert shown(letters(text)) == text


def test_marks_that_stand_alone_are_not_lost() -> None:
    # As in a table of the vowels' signs.
    drawn = [*words("علامات", y=160), *[(90, y, mark) for y, mark in ((120, "َ"), (80, "ّ"))]]
    assert shown(drawn) == "علامات\nَ\nّ"


@pytest.mark.parametrize("text", ["مُحَمَّدٌ رَسُولُ", "بِسْمِ اللَّهِ", "בְּרֵאשִׁית בָּרָא"])
@pytest.mark.parametrize("is_backwards", [False, True])
def test_letters_that_are_said_with_their_marks_are_right(text: str, is_backwards: bool) -> None:
    drawn: Drawn = []
    right = 190.0
    for letter in re.findall(r"\w\W*(?<! )|\s", text):
        # The ink of one that is said is narrower.
        right -= 2.5 if letter == " " else WIDTH if len(letter) == 1 else 3
        drawn += [(right, 100, letter)] * (letter != " ")
    assert shown(drawn[::-1] if is_backwards else drawn) == text


@pytest.mark.parametrize(
    "text",
    ["نص verbatim هنا", "العقد رقم 2026 ساري", "استخدم \\usepackage{verbatim} الآن"],
)
def test_words_from_left_to_right_stay_so(text: str) -> None:
    assert shown(words(text)) == text


@pytest.mark.parametrize("brackets", ["()", ")("], ids=["as read", "as seen"])
def test_brackets_face_each_other_as_they_are_read(brackets: str) -> None:
    drawn = letters("ساري {}انظر الملحق{} ولا".format(*brackets))
    assert shown(drawn) == "ساري (انظر الملحق) ولا"


def test_a_ligature_of_two_letters_is_read_in_order() -> None:
    text = "سلام ولا"
    drawn = [(170.0, 100.0, "م"), (175, 100, "لا"), (180, 100, "س"), (158, 100, "لا")]
    assert shown([*drawn, (163, 100, "و")]) == text


def test_a_line_that_marks_break_in_two_is_one() -> None:
    drawn = [*letters("فقال"), (163.5, 98.5, "\u0650"), *letters("ولا", right=168)]
    assert shown(drawn) == "فقال و\u0650لا"


def test_lines_stay_in_their_order() -> None:
    assert shown([*words("سطر أول", y=120), *words("سطر ثان", y=100)]) == "سطر أول\nسطر ثان"


def test_other_texts_cost_nothing() -> None:
    text = "left to right, 漢字 and кириллица"
    assert bidi.ordered(None, None, text) is text


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


@pytest.mark.parametrize("has_spaces", [False, True])
@pytest.mark.parametrize("place", [0, 1])
def test_a_letter_with_marks_asks_for_a_wider_gap_where_spaces_are_drawn(
    place: int, has_spaces: bool
) -> None:
    plain = [bidi.Glyph(text="ח", at=0), bidi.Glyph(text="ו", at=9)]
    marked = list(plain)
    marked[place] = dataclasses.replace(plain[place], text="ח\u05b8")
    gaps = [bidi._least_gap(*glyphs, has_spaces=has_spaces) for glyphs in (plain, marked)]
    assert gaps == ([bidi._WIDE_GAP, bidi._WIDEST_GAP] if has_spaces else [bidi._GAP] * 2)


def test_letters_of_one_glyph_stay_in_their_order() -> None:
    assert bidi.in_order(["م", "لا", "س"], is_right=True) == "سلام"


def test_a_long_line_takes_no_long_time() -> None:
    for text in ("a(" * 2000 + "ש", "1." * 2000 + "ש", "ש 1" * 1300):
        assert sorted(bidi.in_order(seen(text), is_right=True)) == sorted(text)
