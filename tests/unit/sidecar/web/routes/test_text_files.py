from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.settings import Settings
from tests.support.answered import problem
from tests.support.stub_engine import Served

if TYPE_CHECKING:
    from pathlib import Path

JAPANESE = "四半期の売上報告書です。東京支店の契約書を確認してください。"
FIELDS = ("chunks", "spans", "complete", "model", "dim", "fingerprint")
MARKDOWN = (
    "# Überschrift\n\nDer Mietvertrag läuft am 30. Juni aus.\r\n\n* 四半期の売上報告書です。\n\n"
    "| a | b |\n|---|---|\n\tÉté\u2028ligne\x0bform\x0c feed \U0001f600 e\u0301\n\n"
    + "Either party may give notice of termination in writing, within thirty days. "
    * 40
)
RUSSIAN = "Отчёт о продажах за квартал.\n" * 60 + "no line end"
TEXTS = {  # by name: the type, and the text
    "markdown": ("text/markdown", MARKDOWN),
    "russian": ("text/plain", RUSSIAN),
    "marked": ("text/plain", "\ufeff" + "with a mark " * 30),
    "spaced": ("text/plain", ("def f(x):\n" + " " * 60 + "return x\n\n") * 50),
    "empty": ("text/plain", ""),
}
# Of the answers of the version before encodings were detected: their first fields, as JSON.
RECORDED = {
    ("markdown", "chars"): "a65f6c8185c62f77",
    ("markdown", "tokens"): "3d8aad67eec51a73",
    ("russian", "chars"): "9805ca52e8d17c20",
    ("russian", "tokens"): "d7f9a14871944bc5",
    ("marked", "chars"): "1561f41c242f3fdd",
    ("marked", "tokens"): "f74bd167cb4e2ffa",
    ("spaced", "chars"): "78d2450b839672a0",
    ("spaced", "tokens"): "dacf3a2caa900b7f",
    ("empty", "chars"): "4f08efe68001901b",
    ("empty", "tokens"): "4f08efe68001901b",
}


def upload(served: Served, data: bytes, kind: str = "text/plain", query: str = "") -> Any:
    headers = {"content-type": kind}
    return served.request("POST", f"/embed-file/upload?{query}", content=data, headers=headers)


@pytest.mark.parametrize(("name", "unit"), RECORDED)
def test_clean_utf_8_is_answered_as_ever(served: Served, name: str, unit: str) -> None:
    kind, text = TEXTS[name]
    answer = upload(served, text.encode(), kind, f"unit={unit}&max_chunks=9").json()
    kept = json.dumps({field: answer[field] for field in FIELDS}).encode()
    assert hashlib.sha256(kept).hexdigest()[:16] == RECORDED[name, unit]
    assert (answer["encoding"], answer["encoding_confidence"]) == ("utf-8", None)


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        ("text/plain; charset=Shift_JIS", ""),
        ('text/markdown;charset="shift_jis"', ""),
        ("text/plain", "charset=shift_jis"),
        ("text/plain; charset=utf-8", "charset=shift_jis"),
    ],
    ids=["header", "quoted", "query", "query before header"],
)
def test_an_upload_declares_its_encoding(served: Served, kind: str, query: str) -> None:
    answer = upload(served, JAPANESE.encode("shift_jis"), kind, query).json()
    assert (answer["chunks"], answer["encoding"]) == ([JAPANESE], "shift_jis")
    assert (answer["complete"], answer["losses"]) == (True, [])


def test_a_file_declares_its_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(JAPANESE.encode("euc-jp"))
    served = Served(Settings(allow_dirs=(tmp_path.resolve(),)))
    try:
        asked = {"path": str(tmp_path / "a.txt"), "charset": "EUC-JP"}
        answer = served.post("/embed-file", asked).json()
        refused = problem(served.post("/embed-file", {**asked, "charset": "klingon"}), 422)
    finally:
        served.close()
    assert (answer["chunks"], answer["encoding"], answer["complete"]) == (
        [JAPANESE],
        "euc-jp",
        True,
    )
    assert refused["detail"].startswith("charset: ")


def test_an_unknown_encoding_is_422_naming_the_field(served: Served) -> None:
    for kind, query in (
        ("text/plain; charset=klingon", ""),
        ("text/plain", "charset=klingon"),
        ("text/plain; charset*=klin%00gon''utf-8", ""),
    ):
        refused = problem(upload(served, b"nuqneH", kind, query), 422)
        assert refused["detail"].startswith("charset: ")
        assert "klingon" not in json.dumps(refused)
    assert (
        upload(served, b"%PDF-", "application/pdf; charset=klingon")
        .json()["type"]
        .endswith("document-unreadable")
    )


def test_half_a_surrogate_pair_is_422_by_its_place_on_every_route(served: Served) -> None:
    sent = {"/embed": r'{"texts": ["ok one", "cut emoji \ud83d", "ok two"]}'}
    sent["/embed-file"] = r'{"path": "/docs/\ud83d.txt"}'
    places = []
    for route, body in sent.items():
        headers = {"content-type": "application/json"}
        refused = problem(served.request("POST", route, content=body, headers=headers), 422)
        places.append(refused["detail"].partition(":")[0])
    assert places == ["texts.1", "path"]


@pytest.mark.parametrize("unit", ["chars", "tokens"])
def test_unknown_tokens_are_noted_with_their_share(served: Served, unit: str) -> None:
    answer = upload(served, f"{JAPANESE} a b c".encode(), query=f"unit={unit}").json()
    assert answer["notes"] == [{"kind": "unknown-tokens", "count": 1, "share": 0.25}]
    assert answer["complete"] is True
    assert upload(served, b"a b c", query=f"unit={unit}").json()["notes"] == []


def test_text_without_spaces_is_bounded_in_characters(served: Served) -> None:
    answer = upload(served, (JAPANESE * 100).encode(), query="unit=tokens").json()
    assert "".join(answer["chunks"]) == JAPANESE * 100
    assert max(map(len, answer["chunks"])) <= 256


def test_the_encoding_of_vectors_is_another_field_and_says_so(served: Served) -> None:
    refused = problem(upload(served, b"a", query="encoding=shift_jis"), 422)
    assert refused["detail"].startswith("encoding: ")
    assert "charset" in refused["next"]


def test_a_detected_encoding_is_a_loss_and_named(served: Served) -> None:
    answer = upload(served, JAPANESE.encode("utf-16-le")).json()
    assert (answer["chunks"], answer["encoding"]) == ([JAPANESE], "utf-16le")
    assert 0 < answer["encoding_confidence"] <= 1
    assert answer["losses"] == [{"kind": "encoding", "count": len(JAPANESE)}]
    assert answer["complete"] is False


def test_lines_name_the_encoding_and_the_losses_at_the_start(served: Served) -> None:
    headers = {"content-type": "text/plain", "accept": "application/x-ndjson"}
    data = b"line one\nline two \0\0\0 here\nline three, long enough"
    answer = served.request("POST", "/embed-file/upload", content=data, headers=headers)
    start = json.loads(answer.text.splitlines()[0])["data"]
    assert (start["encoding"], start["complete"]) == ("utf-8", False)
    assert start["losses"] == [{"kind": "controls", "count": 3}]


def test_bytes_that_are_no_text_are_422(served: Served) -> None:
    refused = problem(upload(served, bytes(range(256)) * 9), 422)
    assert refused["type"].endswith("not-text")
    refused = problem(upload(served, JAPANESE.encode("shift_jis"), query="charset=utf-8"), 422)
    assert refused["type"].endswith("wrong-encoding")
