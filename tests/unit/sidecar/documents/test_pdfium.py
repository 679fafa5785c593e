from __future__ import annotations

import pytest

from sidecar.documents.losses import Loss, LossKind, Note, NoteKind
from sidecar.documents.pdf_process import PdfText
from tests.support.casepdf import (
    DEPOSIT,
    LEASE,
    at,
    deflated,
    drawing,
    form,
    japanese,
    large_drawing,
    lines,
    locked,
    mapped,
    placed,
    second_page,
    spread,
    visual,
)
from tests.support.pdfparts import read, said
from tests.support.tinypdf import CATALOG, FONT, packed, page, pdf, scanned, stream, tree, written

TWO = "\n".join(LEASE)
INVOICE = "請求書の支払期限は六月三十日です"
WHOLE = drawing(lines(*LEASE))


def lost(kind: LossKind, count: int = 1, number: int = 1) -> tuple[Loss, ...]:
    return (Loss(kind=kind, count=count, pages=(number,)),)


def note(kind: NoteKind, count: int) -> Note:
    return Note(kind=kind, count=count, pages=(1,))


def test_words_apart_by_their_places_alone_have_spaces() -> None:
    words = ["The", "lease", "ends", "on", "30", "June", "and", "either", "party", "may", "leave"]
    assert read(spread(words)).pages == [" ".join(words)]


def test_words_that_a_line_divides_are_whole() -> None:
    data = drawing(
        lines("regulates the termi-", "nation of well-", "known e-", "mail (well-known)")
    )
    found = read(data)
    assert found.pages == ["regulates the termination of well-known e-mail (well-known)"]
    assert found.notes == (note("hyphens", 3),)


def test_ligatures_are_letters() -> None:
    codes = {1: "\ufb01", 2: "\ufb00", 3: "c", 4: "e", 5: "o", 6: "\ufb03"}
    assert read(mapped(codes, [5, 2, 3, 4, 1, 6])).pages == ["offcefiffi"]


def test_a_letter_that_the_table_calls_nul_is_counted() -> None:
    codes = {1: "\0", 2: "o", 3: "c", 4: "e"}
    found = read(mapped(codes, [2, 1, 3, 4]))
    assert found == PdfText(pages=["o\ufffdce"], losses=lost("encoding"))


@pytest.mark.parametrize(
    "text", ["חוזה שכירות 2026 בתוקף עד 30 ביוני", "العقد رقم ١٢٣٤ ساري"], ids=["hebrew", "arabic"]
)
def test_text_from_right_to_left_is_in_logical_order(text: str) -> None:
    assert read(visual(text)).pages == [text]


@pytest.mark.parametrize("encoding", ["EUC-H", "H"])
def test_known_orders_of_characters_need_no_table(encoding: str) -> None:
    text = INVOICE.encode("euc_jp")
    data = text if encoding == "EUC-H" else bytes(byte & 0x7F for byte in text)
    assert read(japanese(encoding, data)).pages == [INVOICE]


@pytest.mark.parametrize("cipher", ["RC4-40", "RC4-128", "AES-128", "AES-256"])
def test_an_empty_password_opens_a_document(cipher: str) -> None:
    assert read(locked(cipher=cipher)) == PdfText(pages=[TWO])


@pytest.mark.parametrize("cipher", ["RC4-40", "RC4-128", "AES-128", "AES-256"])
@pytest.mark.parametrize("word", ["sesame", "öffne dich"])
def test_a_password_opens_what_it_locks_and_another_does_not(cipher: str, word: str) -> None:
    data = locked(cipher=cipher, password=word)
    assert read(data, password=word).pages == [TWO]
    assert said(data, password=f"{word}!") == "password"
    assert [said(data, password=none) for none in ("", None)] == ["encrypted"] * 2


def test_a_password_that_nothing_asks_for_does_no_harm() -> None:
    word = "sesame"
    for data in (WHOLE, locked(cipher="AES-128")):
        assert read(data, password=word).pages == [TWO]


@pytest.mark.parametrize(
    "contents",
    [
        stream(b"abc", entries=b" /Filter /FooDecode"),
        stream(b"BT /F1 12 Tf 72 700 Td <zz> Tj ] ] >> ET"),
        stream(b"not zlib at all", entries=b" /Filter /FlateDecode"),
        deflated(lines("A text that is cut"), cut=40),
        b"<< /Not /A /Stream true >>",
    ],
    ids=["filter", "token", "packed", "cut", "none"],
)
def test_a_page_that_cannot_be_drawn_costs_that_page(contents: bytes) -> None:
    found = read(second_page(contents))
    assert found == PdfText(pages=[TWO, "", DEPOSIT], losses=lost("page", number=2))


def test_a_page_of_which_a_part_is_missing_is_said() -> None:
    content = lines(*(f"Line {number} of {number * 7919 % 1000}" for number in range(400)))
    found = read(second_page(deflated(content, cut=400)))
    assert found.losses == lost("page", number=2)
    assert found.pages[1].startswith("Line 0 of 0\nLine 1 of 919\n")


@pytest.mark.parametrize(
    "contents", [stream(b""), stream(b"q Q"), packed(b"BT /F1 9 Tf () Tj ET"), packed(b"% nothing")]
)
def test_a_page_that_is_meant_to_be_empty_is_no_loss(contents: bytes) -> None:
    assert read(second_page(contents)) == PdfText(pages=[TWO, "", DEPOSIT])


def test_a_large_drawing_keeps_its_title_and_the_pages_beside_it() -> None:
    found = read(second_page(packed(large_drawing(3 << 20))))
    assert found == PdfText(pages=[TWO, "Map of the harbour, scale 1:5000", DEPOSIT])


def test_a_page_that_is_a_picture_is_said() -> None:
    found = read(scanned(2))
    assert found.losses == (Loss(kind="picture", count=2, pages=(1, 2)),)


def test_values_and_comments_stand_after_the_text_of_their_page() -> None:
    found = read(form())
    assert found.pages[0].splitlines() == [
        *("Application for membership", "Name:", "Date of birth:", "Maria Sommer", "12 April 1984"),
        *("Reviewer: clause 7 must be struck out", "Newsletter wanted"),
    ]
    assert found.losses == ()
    assert found.notes == (note("form-values", 3), note("annotations", 1))


@pytest.mark.parametrize(
    "data",
    [
        WHOLE[: WHOLE.index(b"xref")],
        WHOLE[: WHOLE.index(b"xref") + 60],
        b"X" * 2000 + b"\n" + WHOLE,
        WHOLE.replace(b"startxref\n", b"startxref\n9"),
    ],
    ids=["no table", "cut", "junk before", "wrong place"],
)
def test_a_document_with_a_damaged_frame_is_read(data: bytes) -> None:
    assert read(data) == PdfText(pages=[TWO])


def test_lines_that_are_drawn_twice_are_there_once() -> None:
    texts = [(5, 180 - 9 * number, f"Line {number} is bold") for number in range(15)]
    twice = [(x + 0.2, y, text) for x, y, text in texts]
    both = [place for pair in zip(texts, twice, strict=True) for place in pair]
    once = "\n".join(text for _, _, text in texts)
    assert read(drawing(at(*both))).pages == [once]


def test_a_page_that_is_drawn_twice_is_there_once_and_equal_lines_stay() -> None:
    words = [(5 + 40 * x, 180 - 9 * y, f"word{x}of{y % 3}") for y in range(12) for x in range(4)]
    again = [(x + 0.3, y, text) for x, y, text in words]
    once = read(drawing(at(*words)))
    assert len(once.pages[0].splitlines()) == 12
    assert read(drawing(at(*words, *again))) == once


def test_equal_lines_stay_beside_text_outside_of_the_page() -> None:
    slug = (500, 195, "contract.indd  12  2026-02-01")
    cells = [(60, 170 - 9 * row, "0.00") for row in range(9)]
    again = [(x + 0.2, y, text) for x, y, text in cells]
    every = "\n".join(["0.00"] * 9)
    for drawn in ([slug, *cells], [*cells, slug], [slug, *cells, *again]):
        assert read(drawing(at(*drawn))).pages == [every]


def test_what_stands_outside_of_the_page_is_not_text() -> None:
    assert read(drawing(at((5, 100, "inside"), (500, 100, "outside")))).pages == ["inside"]


def test_what_nothing_tells_brings_no_text_from_outside_of_the_page() -> None:
    inside, outside = (5, 100, "one\0two"), (500, 100, "three\0")
    told = PdfText(pages=["one\ufffdtwo"], losses=lost("encoding"))
    assert read(placed([outside, inside])) == read(placed([inside, outside])) == told
    assert read(placed([outside, (5, 100, "one")])) == PdfText(pages=["one"])
    told = PdfText(pages=["one\ufffdtwo\nthree"], losses=lost("encoding"))
    assert read(placed([inside, outside, (5, 80, "three")])) == told


def test_a_hyphen_on_a_page_with_text_outside_is_no_loss() -> None:
    found = read(drawing(at((5, 100, "the termi-"), (5, 90, "nation"), (500, 100, "outside"))))
    assert found == PdfText(pages=["the termination"], notes=(note("hyphens", 1),))


def test_an_accent_over_a_letter_is_part_of_it_and_one_beside_is_not() -> None:
    over = b"BT /F1 8 Tf 5 100 Td [(Caf) (\\264) 280 (e `a` x^y)] TJ ET"
    assert read(drawing(over)).pages == ["Café `a` x^y"]


def test_rows_and_blocks_come_in_the_order_of_drawing() -> None:
    data = drawing(at((5, 50, "third"), (5, 100, "second"), (5, 150, "first")))
    assert read(data).pages == ["third\nsecond\nfirst"]


def test_a_font_that_was_cut_down_and_tells_no_letters_is_counted() -> None:
    font = (
        b"<< /Type /Font /Subtype /Type0 /BaseFont /Sub /Encoding /Identity-H"
        b" /DescendantFonts [6 0 R] >>"
    )
    below = (
        b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Sub /CIDSystemInfo"
        b" << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >>"
    )
    glyphs = "".join(f"{ord(letter) - 29:04X}" for letter in "the secret of the words")
    content = b"BT /F1 8 Tf 5 100 Td <%s> Tj ET" % glyphs.encode()
    found = read(drawing(content, font=font, more=[below]))
    assert {loss.kind for loss in found.losses} == {"encoding"}
    assert found.pages[0].replace("\ufffd", "").strip() == ""


def test_no_font_of_the_machine_is_asked_for() -> None:
    assert said(pdf(["text"])) == said(pdf(["text"]))
    assert read(written([b"<< /Type /Catalog /Pages 2 0 R >>", *_fontless()])).pages == ["words"]


def _fontless() -> list[bytes]:
    tree = b"<< /Type /Pages /Count 1 /Kids [4 0 R] >>"
    font = b"<< /Type /Font /Subtype /TrueType /BaseFont /NoSuchFontAnywhere >>"
    return [tree, font, page(5), stream(lines("words"))]


def shown(name: bytes, content: bytes) -> str:
    """Return what is read of a page with a font of symbols, F2, beside one of letters, F1."""
    symbols = (
        b"<< /Type /Font /Subtype /Type1 /BaseFont /%s /FirstChar 104 /LastChar 105"
        b" /Widths [389 389] /Encoding"
        b" << /Type /Encoding /Differences [104 /angbracketleft /angbracketright] >>"
        b" /FontDescriptor << /Type /FontDescriptor /FontName /%s /Flags 4 /FontBBox [0 0 500 900]"
        b" /ItalicAngle 0 /Ascent 750 /Descent -250 /CapHeight 683 /StemV 85 >> >>" % (name, name)
    )
    shows = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 5 0 R"
        b" /Resources << /Font << /F1 3 0 R /F2 6 0 R >> >> >>"
    )
    objects = [CATALOG, tree([4]), FONT, shows, stream(content), symbols]
    return read(written(objects)).pages[0]


# PDFium leaves out a glyph that no font here draws where it stands alone.
OPTION = b"BT /F1 8 Tf 5 100 Td (hi, this is ) Tj /F2 8 Tf (hi) Tj /F1 8 Tf ( high) Tj ET"


@pytest.mark.parametrize("name", [b"CMSY10", b"ABCDEF+CMSY9", b"LMMathSymbols10-Regular"])
def test_brackets_of_tex_are_no_letters(name: bytes) -> None:
    assert shown(name, OPTION) == "hi, this is \u27e8\u27e9 high"


def test_brackets_are_found_where_a_character_before_is_left_out() -> None:
    content = b"BT /F1 8 Tf 5 300 Td (out) Tj 0 -200 Td (in) Tj ET " + OPTION.replace(b"100", b"50")
    assert shown(b"CMSY10", content).splitlines() == ["in", "hi, this is \u27e8\u27e9 high"]


def test_letters_of_other_fonts_stay() -> None:
    assert shown(b"Symbols", OPTION) == "hi, this is hi high"
