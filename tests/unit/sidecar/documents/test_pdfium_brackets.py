from __future__ import annotations

import pytest

from tests.support.pdfparts import read
from tests.support.tinypdf import CATALOG, FONT, stream, tree, written


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
