from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.documents.chunking import READER
from tests.support.tinypdf import pdf

if TYPE_CHECKING:
    from tests.support.stub_engine import Served

LINE = "Either party may give notice of termination in writing, within thirty days. "
RUSSIAN = "Отчёт о продажах за квартал. Проверьте договор филиала.\n"
DOCUMENTS: dict[str, tuple[str, bytes]] = {
    "markdown": (
        "text/markdown",
        f"# Lease\n\n{LINE * 20}\r\n\n* one\n* two\n\n| a | b |\n|---|---|\n\n".encode()
        + f"\tcode  \n{LINE * 9}".encode(),
    ),
    "detected": ("text/plain", (RUSSIAN * 20).encode("cp1251")),
    "utf-16": ("text/plain", (RUSSIAN * 20).encode("utf-16-be")),
    "damaged": ("text/plain", RUSSIAN.encode() * 9 + b"\xff" + RUSSIAN.encode()),
    "controls": ("text/plain", b"one\0\0 \x1b[1mtwo\x1b[0m three\x1ffour\n" * 30),
    "without spaces": ("text/plain", ("กรุณาตรวจสอบสัญญาเช่าของสาขา" * 90).encode()),
    "pdf": ("application/pdf", pdf([LINE, f"Page two. {LINE}", "The end."])),
}
# What came out, by revision. Where a test of this module fails, some document is read or cut in
# another way than before: raise READER, and put the new digests under it. Older ones may go.
RECORDED: dict[int, dict[str, str]] = {
    1: {
        "markdown": "fe10d394c97fa531",
        "detected": "74d517ae44e038ae",
        "utf-16": "bbde1607c0998657",
        "damaged": "f40d3600f3cd6746",
        "controls": "9b20abdd05aa9f33",
        "without spaces": "8b96325b81aa75af",
        "pdf": "bcbc64e579ccc767",
    },
}


def digest(served: Served, name: str) -> str:
    kind, data = DOCUMENTS[name]
    found: list[Any] = []
    for query in ("unit=chars&chunk_size=300", "unit=tokens"):
        answer = served.request(
            "POST", f"/embed-file/upload?{query}", content=data, headers={"content-type": kind}
        ).json()
        assert answer["reader"] == READER
        places = [[span[key] for key in ("page", "start", "end")] for span in answer["spans"]]
        found += [answer["chunks"], places, answer["losses"], answer["encoding"]]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_revision_of_the_reader_gives_what_it_always_gave(served: Served, name: str) -> None:
    assert digest(served, name) == RECORDED.get(READER, {}).get(name), "see RECORDED"
