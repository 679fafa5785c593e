"""Requests of every route, form of answer and refusal, each with the answer that it must get."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support.clients import Client
from tests.support.tinypdf import bombs, pdf

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

UPLOAD = "/embed-file/upload"
JSON, TEXT, PDF = "application/json", "text/plain", "application/pdf"
BINARY, LINES = "application/octet-stream", "application/x-ndjson"
PAGES = ["Boats leave.", "Trains stay."]
Said = tuple[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request, and the status and kind of problem of its answer; the kind of a success is ""."""

    path: str
    method: str = "POST"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    kind: str = ""

    @property
    def is_pdf(self) -> bool:
        """Whether a process must read the body."""
        return self.body.startswith(b"%PDF-")

    @property
    def expected(self) -> Said:
        """What must come back."""
        return self.status, self.kind

    def send(self, port: int) -> tuple[Said, bytes]:
        """Return what comes back from the service on `port`, and the body."""
        answer = Client(port=port).ask(
            self.path, self.body or None, method=self.method, headers=self.headers
        )
        kind = answer.headers.get("content-type", "")
        return said_of(answer.status, kind, answer.body), answer.body


def said_of(status: int, media_type: str, body: bytes) -> Said:
    """Return the status and the kind of problem of an answer; those of its last line count."""
    problem = json.loads(body) if media_type == "application/problem+json" else None
    if media_type == LINES:
        last = json.loads(body.splitlines()[-1])
        problem = last["data"] if last["type"] == "problem" else None
    if problem is None:
        return status, ""
    return problem["status"], problem["type"].rpartition(":")[2]


def embed(status: int = 200, kind: str = "", *, accept: str = JSON, **fields: Any) -> Exchange:
    """Return a request to /embed with these fields."""
    headers = {"content-type": JSON, "accept": accept}
    body = json.dumps(fields).encode()
    return Exchange(path="/embed", body=body, headers=headers, status=status, kind=kind)


def upload(
    body: bytes,
    status: int = 200,
    kind: str = "",
    *,
    query: str = "",
    media_type: str = TEXT,
    accept: str = JSON,
) -> Exchange:
    """Return a request to /embed-file/upload."""
    headers = {"content-type": media_type, "accept": accept}
    path = f"{UPLOAD}?{query}"
    return Exchange(path=path, body=body, headers=headers, status=status, kind=kind)


def of_file(path: str, status: int = 200, kind: str = "") -> Exchange:
    """Return a request to /embed-file."""
    body = json.dumps({"path": path}).encode()
    headers = {"content-type": JSON}
    return Exchange(path="/embed-file", body=body, headers=headers, status=status, kind=kind)


def looks() -> Iterator[Exchange]:
    """Yield what is asked of the service itself."""
    for path in ("/", "/health", "/info", "/metrics", "/openapi.json", "/v1/models", "/api/tags"):
        yield Exchange(path=path, method="GET")
    for path in ("/docs", "/redoc", "/nowhere"):
        yield Exchange(path=path, method="GET", status=404, kind="unknown-path")
    yield Exchange(path="/embed", method="GET", status=405, kind="wrong-method")
    for headers, status, kind in (
        ({"host": "stranger.example"}, 421, "unknown-host"),
        ({"host": ""}, 400, "bad-host"),
        ({"origin": "http://stranger.example"}, 403, "web-page"),
        ({"x-long": "x" * 20_000}, 431, "large-head"),
    ):
        yield Exchange(path="/info", method="GET", headers=headers, status=status, kind=kind)


def embeddings() -> Iterator[Exchange]:
    """Yield requests for vectors, and what is refused of them."""
    for path, asked in (
        ("/v1/embeddings", {"input": ["one", "two"]}),
        ("/api/embed", {"input": "one"}),
        ("/api/embeddings", {"prompt": "one"}),
        ("/embed", {"inputs": "one"}),
    ):
        headers = {"content-type": JSON}
        yield Exchange(path=path, body=json.dumps(asked).encode(), headers=headers)
    texts = ["a boat", "Été 中文 🎉", ""]
    for fields in (
        *({"encoding": "base64"}, {"pooling": "cls"}, {"pooling": "max"}, {"normalize": False}),
        *({}, {"priority": "bulk"}, {"priority": "interactive"}, {"batch_size": 1}),
    ):
        yield embed(texts=texts, **fields)
    yield embed(texts=texts, accept=BINARY)
    yield embed(texts=[])
    yield embed(texts=["many words " * 300] * 20)
    yield embed(422, "text-too-long", texts=["word " * 900], truncate=False)
    yield embed(422, "too-many-texts", texts=["a"] * 70_000)
    yield embed(422, "too-many-values", texts=["a"], other=[0] * 140_000)
    yield embed(422, "bad-value")
    for wrong in ("a", [0], None):
        yield embed(422, "bad-value", texts=wrong)
    yield embed(422, "bad-value", texts=["a"], normalize=1)
    for body in (b"{", b"\xff", b'{"texts":[],"texts":[]}'):
        headers = {"content-type": JSON}
        yield Exchange(path="/embed", body=body, headers=headers, status=400, kind="bad-json")
    for headers, kind in (
        ({"content-type": TEXT}, "media-type"),
        ({"content-type": JSON, "content-encoding": "gzip"}, "content-encoding"),
    ):
        yield Exchange(path="/embed", body=b"{}", headers=headers, status=415, kind=kind)


def documents(folder: Path) -> Iterator[Exchange]:
    """Yield documents that are no PDF, in `folder` or sent, and what is refused of them."""
    for body in (
        *(b"plain " * 3000, "Été".encode("utf-8-sig"), "Été".encode("utf-16")),
        *("Été ".encode("cp1252") * 30_000, b""),
    ):
        for accept in (JSON, LINES):
            yield upload(body, accept=accept, query="max_chunks=3")
    yield upload("Hyvää päivää. ".encode("mac-roman") * 40, query="charset=macintosh")
    yield upload("一二三。".encode("gb18030") * 40)
    yield upload(b"a", 422, "bad-value", query="charset=none-such")
    yield upload(b"tokens " * 500, query="unit=tokens&encoding=base64&max_chunks=3")
    yield upload(bytes(range(32)) * 9, 422, "not-text")
    yield upload(bytes(range(32)) * 9, 422, "not-text", accept=LINES)
    yield upload(b"no PDF", 422, "document-not-pdf", media_type=PDF)
    yield upload(b"a", 415, "media-type", media_type="image/png")
    yield upload(b"a", 422, "bad-value", query="chunk_size=0")
    yield upload(b"a" * (21 << 20), 413, "too-large")
    (folder / "note.md").write_text("A note.", encoding="utf-8")
    yield of_file(str(folder / "note.md"))
    yield of_file(str(folder / "none.txt"), 404, "no-file")
    (folder / "note.docx").touch()
    yield of_file(str(folder / "note.docx"), 422, "file-kind")
    yield of_file("/\0.txt", 422, "bad-path")


def pdfs() -> Iterator[Exchange]:
    """Yield PDFs, good ones first, that do not take long."""
    for accept in (JSON, LINES):
        yield upload(pdf(PAGES), media_type=PDF, accept=accept)
    for name, (body, kind) in bombs().items():
        if name in ("encrypted", "scanned", "truncated", "no pages"):
            yield upload(body, 422, kind, media_type=PDF)
