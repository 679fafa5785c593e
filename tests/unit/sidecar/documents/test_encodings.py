from __future__ import annotations

import codecs
import random
import unicodedata
import zlib
from typing import TYPE_CHECKING

import pytest

from sidecar.documents import encodings
from sidecar.problems import Problem

if TYPE_CHECKING:
    from sidecar.documents.losses import Document

JAPANESE = "四半期の売上報告書です。東京支店の契約書を確認してください。"
RUSSIAN = "Отчёт о продажах за квартал. Проверьте договор филиала."
CHINESE = "季度销售报告。请检查合同。"
ENGLISH = "Production database host is orion-db-7"


def losses(found: Document) -> dict[str, int]:
    return {loss.kind: loss.count for loss in found.losses}


def kind(data: bytes, codec: str | None = None) -> str:
    with pytest.raises(Problem) as caught:
        encodings.decode(data, codec=codec)
    assert caught.value.status == 422
    assert caught.value.next_step
    return caught.value.kind


@pytest.mark.parametrize("text", ["", "Grüße 数据\r\n\tnext\f", "genuine �", "a\u0085b\ufeffc"])
def test_clean_utf_8_is_read_as_it_is(text: str) -> None:
    found = encodings.decode(text.encode())
    assert found == encodings.decode_clean(text.encode())
    assert (found.text, found.encoding, found.confidence, found.losses) == (text, "utf-8", None, ())


@pytest.mark.parametrize(
    ("mark", "codec", "name"),
    [
        (codecs.BOM_UTF8, "utf-8", "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16le"),
        (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16be"),
        (codecs.BOM_UTF32_LE, "utf-32-le", "utf-32le"),
        (codecs.BOM_UTF32_BE, "utf-32-be", "utf-32be"),
    ],
)
def test_a_mark_says_more_than_a_declaration(mark: bytes, codec: str, name: str) -> None:
    for declared in (None, "cp1251"):
        found = encodings.decode(mark + JAPANESE.encode(codec), codec=declared)
        assert (found.text, found.encoding, found.losses) == (JAPANESE, name, ())
    assert encodings.decode_clean(mark + b"a\0b\0") is None


@pytest.mark.parametrize(
    ("text", "declared", "name"),
    [
        (JAPANESE, "Shift_JIS", "shift_jis"),
        (JAPANESE, "euc-jp", "euc-jp"),
        (JAPANESE, "iso-2022-jp", "iso-2022-jp"),
        (CHINESE, "GB2312", "gb18030"),
        (RUSSIAN, "windows-1251", "windows-1251"),
        (RUSSIAN, "koi8-r", "koi8-r"),
        (RUSSIAN, "cp866", "ibm866"),
        (RUSSIAN, "utf-16", "utf-16le"),
        ("“quoted”", "cp1252", "windows-1252"),
        ("été", "latin1", "windows-1252"),
        ("été", "iso-8859-15", "iso-8859-15"),
    ],
)
def test_what_is_declared_is_read_so_and_nothing_is_lost(
    text: str, declared: str, name: str
) -> None:
    data = text.encode("utf-16-le" if declared == "utf-16" else declared)
    found = encodings.decode(data, codec=encodings.codec_of(declared))
    assert (found.text, found.encoding, found.confidence) == (text, name, None)
    assert found.losses == ()


@pytest.mark.parametrize(
    ("text", "codec", "name"),
    [
        (JAPANESE, "shift_jis", "shift_jis"),
        (JAPANESE, "euc-jp", "euc-jp"),
        (JAPANESE, "iso-2022-jp", "iso-2022-jp"),
        (RUSSIAN, "cp1251", "windows-1251"),
        (RUSSIAN, "koi8-r", "koi8-u"),
        (CHINESE, "gb18030", "gb18030"),
        ("Der Mietvertrag für die Wohnung in München", "cp1252", "windows-1252"),
        (ENGLISH, "utf-16-le", "utf-16le"),
        (ENGLISH, "utf-16-be", "utf-16be"),
        (JAPANESE, "utf-16-le", "utf-16le"),
        (JAPANESE, "utf-16-be", "utf-16be"),
        (RUSSIAN, "utf-16-le", "utf-16le"),
        (ENGLISH, "utf-32-le", "utf-32le"),
    ],
)
def test_what_is_not_declared_is_detected_and_counted(text: str, codec: str, name: str) -> None:
    found = encodings.decode(text.encode(codec))
    assert (found.text, found.encoding) == (text, name)
    assert found.confidence is not None
    assert 0 < found.confidence <= 1
    is_ascii_same = not codec.startswith(("utf", "iso-2022"))
    unsure = sum(not (is_ascii_same and char.isascii()) for char in text)
    assert losses(found) == {"encoding": unsure}


@pytest.mark.parametrize(
    ("data", "text", "count"),
    [
        (f"{JAPANESE}で".encode() + b"\xff" + JAPANESE.encode(), f"{JAPANESE}で�{JAPANESE}", 1),
        (JAPANESE.encode()[:-1], f"{JAPANESE[:-1]}�", 1),
        (b"plain, then \xff and \xff", "plain, then � and �", 2),
        ("plain 。".encode()[:-1], "plain �", 1),
        ("a � of its own, é é ".encode() + b"\x80", "a � of its own, é é �", 1),
    ],
    ids=["inside", "cut", "ascii", "cut ascii", "beside a genuine one"],
)
def test_bad_bytes_in_utf_8_are_replaced_and_counted(data: bytes, text: str, count: int) -> None:
    found = encodings.decode(data)
    assert (found.text, found.encoding, found.confidence) == (text, "utf-8", None)
    assert losses(found) == {"encoding": count}


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_letters_whose_neighbours_make_a_mark_hide_no_loss(codec: str) -> None:
    # The second byte of one and the first of the next are those of U+FFFD.
    letters = "\ufd41\u30ff" if codec == "utf-16-le" else "\u30ff\ufd41"
    half = "\ud800".encode(codec, "surrogatepass")
    found = encodings.decode("\ufeff\ufffd".encode(codec) + letters.encode(codec) + half)
    assert found.text == f"\ufffd{letters}\ufffd"
    assert losses(found) == {"encoding": 1}


@pytest.mark.parametrize(
    ("text", "read", "count"),
    [
        ("line one ok\nline two \0\0\0 after crash\n", "line one ok\nline two  after crash\n", 3),
        ("before\n" + "\0" * 4096 + "after", "before\nafter", 4096),
        ("\x1b[31;1mred\x1b[0m text", "red text", 2),
        ("a\x1fb and the end\x1a", "a b and the end", 2),
        ("café \x84\x7f here it is", "café  here it is", 2),
    ],
    ids=["NUL", "a block of NULs", "colours", "a separator", "C1"],
)
def test_controls_are_removed_and_counted(text: str, read: str, count: int) -> None:
    assert encodings.decode_clean(text.encode()) is None
    found = encodings.decode(text.encode())
    assert (found.text, found.encoding) == (read, "utf-8")
    assert losses(found) == {"controls": count}


@pytest.mark.parametrize(
    "data",
    [
        random.Random(1).randbytes(3000),
        zlib.compress(b"".join(str(number).encode() for number in range(3000))),
        b"\x7fELF\2\1\1" + bytes(9) + b"\3\0>\0\1\0\0\0\xf0\xff",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + random.Random(2).randbytes(300),
        bytes(9),
        b"\1\2\3\4\5 text",
    ],
    ids=["random", "zlib", "ELF", "PNG", "NULs", "controls"],
)
def test_bytes_that_are_no_text_are_422(data: bytes) -> None:
    assert kind(data) == "not-text"


def test_a_declaration_that_does_not_fit_is_422() -> None:
    data = JAPANESE.encode("shift_jis")
    assert kind(data, "utf-8") == "wrong-encoding"
    assert losses(encodings.decode(data + b"\x81", codec="cp932")) == {"encoding": 1}


@pytest.mark.parametrize(
    "name",
    ["", "klingon", "base64", "rot13", "hex", "idna", "utf-7", "../utf-8", "undefined", "u" * 99],
)
def test_what_is_no_encoding_has_no_codec(name: str) -> None:
    with pytest.raises(ValueError, match="unknown encoding"):
        encodings.codec_of(name)


def test_python_is_not_asked_for_what_is_no_encoding() -> None:
    asked: list[str] = []

    def search(name: str) -> None:
        asked.append(name)

    codecs.register(search)  # the last that is asked
    try:
        for name in ("klingon", "utf-88", "x-", "8"):
            with pytest.raises(ValueError, match="unknown encoding"):
                encodings.codec_of(name)
        assert asked == []  # it would keep each name for as long as it runs
        with pytest.raises(LookupError):
            codecs.lookup("klingon")
        assert asked == ["klingon"]
    finally:
        codecs.unregister(search)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("UTF8", "utf-8"), ("x-sjis", "cp932"), (" us-ascii", "utf-8"), ("windows-874", "cp874")],
)
def test_names_are_known_in_the_spellings_that_are_in_use(name: str, codec: str) -> None:
    assert encodings.codec_of(name) == codec


def test_a_long_text_is_read_in_slices_that_cut_no_character(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encodings, "SLICE_BYTES", 7)
    for codec in ("utf-8", "cp932", "utf-16-le", "gb18030"):
        data = (JAPANESE * 9).encode(codec)
        assert encodings.decode(data, codec=codec).text == JAPANESE * 9
    assert unicodedata.is_normalized("NFC", JAPANESE)
