from __future__ import annotations

import pytest

from sidecar.documents.normal import HYPHEN, accented, joined, normal


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("o\ufb03ce work\ufb02ow \ufb06", "office workflow st"),
        ("\ufeb3\ufe8e\ufead\ufef1 \ufefb", "ساري لا"),
        ("\ufb2a\ufb4b", "\u05e9\u05c1\u05d5\u05b9"),
        ("u\u0308ber cafe\u0301", "über café"),
        ("a\u00a0b\u2009c", "a b c"),
        ("so\u00adft \u200bwi\ufeffde \u200fabc\u202c", "soft wide abc"),
        ("one  \r\ntwo\rthree\u2028four ", "one\ntwo\nthree\nfour"),
    ],
    ids=["ligatures", "arabic", "hebrew", "accents", "spaces", "unseen", "lines"],
)
def test_what_stands_for_letters_becomes_letters(text: str, expected: str) -> None:
    found = normal(text)
    assert found.text == expected
    assert not found.losses


@pytest.mark.parametrize(
    "text", ["m² ½ № ™ ℃ Ⅳ ①", "ＡＢＣ　１２３ ｶﾅ", "請求書の支払", "ﷺ", "می‌خواهم"]
)
def test_what_means_something_as_it_is_stays(text: str) -> None:
    assert normal(text).text == text


@pytest.mark.parametrize(
    ("text", "expected", "lost", "symbols"),
    [
        ("o\ufffd the", "o\ufffd the", 1, 0),
        ("\ufffd\ufffd\ufffd x", "\ufffd x", 3, 0),
        ("pri\x00ce\x07", "pri\ufffdce\ufffd", 2, 0),
        ("\x88 first\n  \uf0b7 second", "\u2022 first\n  \u2022 second", 0, 2),
        ("|x| \x1c 1", "|x| \ufffd 1", 0, 1),
        ("w\ue001rd", "w\ufffdrd", 1, 0),
    ],
    ids=range(6),
)
def test_what_says_nothing_is_counted_as_a_letter_or_a_symbol(
    text: str, expected: str, lost: int, symbols: int
) -> None:
    found = normal(text)
    assert (found.text, found.losses["encoding"], found.notes["symbols"]) == (
        *(expected, lost, symbols),
    )


@pytest.mark.parametrize("hyphen", [HYPHEN, "-\n", "\u2010\n"], ids=["pdfium", "ascii", "hyphen"])
@pytest.mark.parametrize(
    ("first", "rest", "expected"),
    [
        ("termi", "nation", "termination"),
        ("COMPEN", "SATION", "COMPENSATION"),
        ("Übertra", "gung", "Übertragung"),
        ("Jean", "Pierre", "Jean-Pierre"),
        ("COVID", "19", "COVID-19"),
        ("2026", "27", "2026-27"),
        ("self", "employed", "self-employed"),
        ("e", "mail", "e-mail"),
        ("pre", "and postwar", "pre- and postwar"),
        ("Haupt", "und Neben", "Haupt- und Neben"),
    ],
)
def test_words_that_a_line_divides_are_whole_and_keep_hyphens_of_their_own(
    hyphen: str, first: str, rest: str, expected: str
) -> None:
    assert joined(f"the {first}{hyphen}{rest}.")[0] == f"the {expected}."


def test_how_the_text_writes_a_word_elsewhere_decides() -> None:
    divided = f"a well{HYPHEN}known thing"
    assert joined(divided) == ("a wellknown thing", 1)
    assert joined(f"{divided}, so well-known") == ("a well-known thing, so well-known", 1)
    assert joined(divided, before="well-known") == ("a well-known thing", 1)
    assert joined(divided, before="well-known wellknown") == ("a wellknown thing", 1)


def test_a_hyphen_that_divides_no_word_is_kept() -> None:
    assert joined("1 -\n2 and a dash -\nhere") == ("1 -\n2 and a dash -\nhere", 0)
    assert joined(f"end{HYPHEN}") == ("end-", 0)
    assert joined(f"ab{HYPHEN}cd{HYPHEN}ef") == ("abcdef", 2)


def test_accents_are_put_upon_the_letters_after_them() -> None:
    assert accented("M´etro it´s ¨\u0131", frozenset((1, 12))) == "Métro it´s ï"


def test_long_rows_of_anything_take_no_long_time() -> None:
    for text in (
        " " * 200_000,
        "-\n" * 100_000,
        HYPHEN * 200_000,
        "a" * 200_000,
        "\ue000 " * 50_000,
    ):
        normal(text)
