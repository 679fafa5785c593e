from __future__ import annotations

import subprocess
import sys

import pytest

from sidecar.documents import encodings

GREEK = "Η μίσθωση λήγει στις 30 Ιουνίου."
JAPANESE = "契約書を確認してください。"
LOADED_AHEAD = """
import sys
from sidecar.documents import encodings
from sidecar.web import app
app._load()
tables = sys.modules["chardet.models"]
assert not tables._load_models_data.cache_info().currsize
opened = []
sys.addaudithook(lambda event, values: event == "open" and opened.append(values[0]))
for codec, text in (("cp1252", "Über Größe"), ("cp1251", "Привет, как дела?")):
    print(encodings.other_bytes((text + ". ").encode(codec) * 9).codec)
tables.get_rowmax(), tables.get_language_norms()
print(opened)
"""


@pytest.mark.parametrize(
    "text", ["Preis: 30 € netto", "Über Größe", "it’s fine", "ein Café", "café"]
)
def test_short_western_text_is_told_as_that(text: str) -> None:
    guess = encodings.other_bytes(text.encode("cp1252"))
    assert guess is not None
    assert text.encode("cp1252").decode(guess.codec) == text


def test_plain_bytes_are_no_other_encoding() -> None:
    assert encodings.ascii_bytes(b"A log line of plain letters\n" * 9) is None
    assert encodings.ascii_bytes("四半期 \0\0".encode() * 9) is None
    assert encodings.ascii_bytes(b"\x1b[1mbold\x1b[0m $ echo\n" * 9) is None
    assert encodings.ascii_bytes(b"price \x1b$5\n" * 9) is None


@pytest.mark.parametrize("text", ["Mixed 数据, 한국어 😀", GREEK, "قال", "กรุณา"])
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_told_in_any_script(text: str, codec: str) -> None:
    data = text.encode(codec)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        guess = encodings.other_bytes(data)
    else:
        guess = encodings.ascii_bytes(data)
    assert guess is not None
    assert guess.codec == codec


def test_what_is_late_in_a_large_file_is_looked_at() -> None:
    plain = b"An ASCII line of no interest.\n"
    data = plain * 200_000 + (GREEK + "\n").encode("cp1253") * 50 + plain * 100_000
    guess = encodings.other_bytes(data)
    assert guess is not None
    assert guess.codec == "cp1253"


@pytest.mark.parametrize("end", ["", "\n"])
def test_no_window_begins_or_ends_within_a_character(end: str) -> None:
    data = ("x" + (JAPANESE + end) * 4_000).encode("cp932")
    guess = encodings.other_bytes(data)
    assert guess is not None
    assert guess.codec == "cp932"


def test_of_any_file_only_a_few_kilobytes_are_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def detect(sample: bytes, **_options: object) -> dict[str, object]:
        asked.append(len(sample))
        return {"encoding": "cp1253", "confidence": 0.5}

    monkeypatch.setattr("chardet.detect", detect)
    for line in (GREEK, GREEK + "\n", GREEK * 300 + "\n"):
        assert encodings.other_bytes(line.encode("cp1253") * 60_000)
    assert len(asked) == 3
    assert max(asked) <= encodings.WINDOWS * (encodings.WINDOW_BYTES + 1)


def test_what_is_loaded_ahead_takes_no_tables_and_needs_no_file_later() -> None:
    command = [sys.executable, "-c", LOADED_AHEAD]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout.split("\n") == ["cp1252", "cp1251", "[]", ""], run.stderr
