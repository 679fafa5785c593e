from __future__ import annotations

import asyncio
import base64
import json
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sidecar.documents import chunking
from sidecar.problems import Problem
from sidecar.scheduling.encoder import Encoder
from sidecar.settings import Limits, Settings
from sidecar.web import responses
from sidecar.web.routes import files
from tests.support.answered import problem, rows
from tests.support.stub_engine import Served
from tests.support.tinypdf import pdf

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path

NDJSON = {"accept": "application/x-ndjson"}
PLAIN = {"content-type": "text/plain"}
WORDS = b"word " * 1_000
SAID = (
    "complete",
    "losses",
    "notes",
    "encoding",
    "encoding_confidence",
    "reader",
    "model",
    "dim",
    "fingerprint",
)


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    return folder


@pytest.fixture
def reading(documents: Path) -> Iterator[Served]:
    made = Served(Settings(allow_dirs=(documents.resolve(),), limits=Limits(max_file_bytes=10_000)))
    yield made
    made.close()


def read_lines(answer: Any) -> list[tuple[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    found = [json.loads(line) for line in answer.text.splitlines()]
    assert all(set(line) == {"type", "data"} for line in found)
    return [(line["type"], line["data"]) for line in found]


def test_embed_file_without_an_allowed_folder_says_how_to_allow_one(served: Served) -> None:
    refused = problem(served.post("/embed-file", {"path": "/etc/passwd.txt"}), 403)
    assert "--allow-dir" in refused["next"]


def test_embed_file_gives_chunks_vectors_and_places(reading: Served, documents: Path) -> None:
    text = "".join(f"line {number} of it\n" for number in range(100))
    (documents / "a.md").write_text(text, encoding="utf-8")
    request = {"path": str(documents / "a.md"), "chunk_size": 200, "chunk_overlap": 20}
    answer = reading.post("/embed-file", request).json()
    assert len(answer["chunks"]) == len(answer["vectors"]) == len(answer["spans"]) > 5
    assert (answer["complete"], answer["losses"], answer["notes"]) == (True, [], [])
    for chunk, span in zip(answer["chunks"], answer["spans"], strict=True):
        assert chunk == text[span["start"] : span["end"]]
        assert span["page"] is None
        assert span["tokens"] == len(chunk.split()) + 2
        assert span["truncated"] is (span["tokens"] > 10)


def test_a_file_of_another_kind_is_refused_before_it_is_read(
    reading: Served, documents: Path
) -> None:
    large = b"x" * (reading.settings.limits.max_file_bytes + 1)
    for name, status, kind in (("a.exe", 422, "file-kind"), ("a.txt", 413, "too-large")):
        (documents / name).write_bytes(large)
        refused = problem(reading.post("/embed-file", {"path": str(documents / name)}), status)
        assert refused["type"].endswith(kind)


def test_chunks_counted_in_tokens_fit_the_model_by_default(
    reading: Served, documents: Path
) -> None:
    (documents / "a.txt").write_text("word " * 50, encoding="utf-8")
    request = {"path": str(documents / "a.txt"), "unit": "tokens"}
    answer = reading.post("/embed-file", request).json()
    assert [span["tokens"] for span in answer["spans"]][:2] == [10, 10]
    assert not any(span["truncated"] for span in answer["spans"])
    assert answer["spans"][1]["start"] == 7 * 5  # eight words, one shared


@pytest.mark.parametrize("asked", [{"input_type": "document"}, {"prompt": "keep this "}])
def test_chunks_leave_room_for_the_prompt_before_each(
    reading: Served, documents: Path, asked: dict[str, str]
) -> None:
    text = " ".join(f"word{number}" for number in range(50))
    (documents / "a.txt").write_text(text, encoding="utf-8")
    request = {"path": str(documents / "a.txt"), "unit": "tokens", "chunk_overlap": 0, **asked}
    answer = reading.post("/embed-file", request)
    found = answer.json()
    assert found["chunks"][0] == "word0 word1 word2 word3 word4 word5"
    assert {span["tokens"] for span in found["spans"][:-1]} == {10}
    assert not any(span["truncated"] for span in found["spans"])
    assert found["chunks"] == [text[span["start"] : span["end"]] for span in found["spans"]]
    plain = reading.post("/embed", {"texts": [f"keep this {one}" for one in found["chunks"]]})
    assert np.array_equal(rows(answer), rows(plain))
    alike = reading.post("/embed", {"texts": [], **asked}).json()
    assert found["fingerprint"] == alike["fingerprint"]


def test_a_prompt_that_fills_a_chunk_is_refused(served: Served) -> None:
    query = "/embed-file/upload?unit=tokens&prompt=one+two+three+four+five+six+seven+"
    fits = served.request("POST", query, content=b"some words", headers=PLAIN).json()
    assert fits["chunks"] == ["some", "words"]
    refused = served.request("POST", f"{query}eight", content=b"some words", headers=PLAIN)
    assert "no room" in problem(refused, 422)["detail"]
    problem(served.request("POST", f"{query}&input_type=query", content=b"a", headers=PLAIN), 422)


@pytest.mark.parametrize("unit", ["chars", "tokens"])
def test_chunks_of_a_pdf_have_the_page_that_they_begin_on(reading: Served, unit: str) -> None:
    pages = ["one two three", "four five six", "seven or nine"]
    text = "\n".join(pages)
    answer = reading.request(
        "POST",
        f"/embed-file/upload?unit={unit}&chunk_size={14 if unit == 'chars' else 3}&chunk_overlap=0",
        content=pdf(pages),
        headers={"content-type": "application/pdf"},
    ).json()
    assert [chunk.strip() for chunk in answer["chunks"]] == pages
    assert [span["page"] for span in answer["spans"]] == [1, 2, 3]
    assert [text[span["start"] : span["end"]] for span in answer["spans"]] == answer["chunks"]


def test_max_chunks_leaves_the_rest_out_and_says_so(reading: Served, documents: Path) -> None:
    (documents / "a.txt").write_bytes(WORDS)
    answer = reading.post("/embed-file", {"path": str(documents / "a.txt"), "max_chunks": 2})
    assert len(answer.json()["chunks"]) == 2
    assert answer.json()["complete"] is False
    left_out = len(WORDS) - answer.json()["spans"][-1]["end"]
    assert answer.json()["losses"] == [{"kind": "limit", "count": left_out}]


def test_pages_that_max_chunks_leaves_out_are_listed(reading: Served) -> None:
    def ask(max_chunks: int) -> Any:
        return reading.request(
            "POST",
            f"/embed-file/upload?chunk_size=10&chunk_overlap=0&max_chunks={max_chunks}",
            content=pdf(["one two", "three four five", "six"]),
            headers={"content-type": "application/pdf"},
        ).json()

    assert ask(9)["losses"] == []
    for max_chunks, pages in ((1, [2, 3]), (2, [2, 3])):
        answer = ask(max_chunks)
        assert answer["losses"] == [{"kind": "limit", "count": len(pages), "pages": pages}]
        assert answer["complete"] is False


def test_an_empty_file_has_no_chunks(reading: Served, documents: Path) -> None:
    (documents / "a.txt").write_bytes(b"")
    answer = reading.post("/embed-file", {"path": str(documents / "a.txt")})
    assert (answer.status_code, answer.json()["chunks"], answer.json()["vectors"]) == (200, [], [])


def test_embed_file_refuses_what_it_cannot_read(reading: Served, documents: Path) -> None:
    (documents / "a.docx").write_bytes(b"x")
    (documents / "a.txt").write_bytes(b"x")
    (documents / "large.txt").write_bytes(b"x" * 10_001)
    problem(reading.post("/embed-file", {"path": str(documents / "a.docx")}), 422)
    problem(reading.post("/embed-file", {"path": str(documents)}), 422)
    problem(reading.post("/embed-file", {"path": str(documents / "b.txt")}), 404)
    problem(reading.post("/embed-file", {"path": "../../etc/passwd"}), 404)
    problem(reading.post("/embed-file", {"path": str(documents / "large.txt")}), 413)
    path = str(documents / "a.txt")
    overlap = {"path": path, "chunk_size": 10, "chunk_overlap": 10}
    problem(reading.post("/embed-file", overlap), 422)
    assert reading.post("/embed-file", {"path": path, "chunk_size": 10}).status_code == 200


def test_an_upload_is_read_like_the_file_and_needs_no_folder(
    served: Served, reading: Served, documents: Path
) -> None:
    (documents / "a.md").write_bytes(WORDS)
    options = {"chunk_size": 300, "chunk_overlap": 30, "max_chunks": 4, "pooling": "cls"}
    asked = {"path": str(documents / "a.md"), "normalize": False, **options}
    of_file = reading.post("/embed-file", asked)
    of_body = served.request(
        "POST",
        "/embed-file/upload",
        content=WORDS,
        params={"normalize": "false", **options},
        headers={"content-type": "text/markdown; charset=utf-8"},
    )
    assert of_body.status_code == 200
    assert of_body.content == of_file.content


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_vectors_come_in_the_encoding_that_was_asked_for(served: Served, encoding: str) -> None:
    answer = served.request(
        "POST", f"/embed-file/upload?encoding={encoding}", content=b"a b", headers=PLAIN
    ).json()
    (vector,) = answer["vectors"]
    if encoding == "base64":
        vector = np.frombuffer(base64.b64decode(vector), "<f4")
    plain = served.post("/embed", {"texts": ["a b"]}).json()["vectors"][0]
    assert np.array(vector, dtype=np.float32) == pytest.approx(plain, abs=1e-7)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "application/json"},
        {"content-type": "text/html"},
        {"content-type": "multipart/form-data; boundary=x"},
        {**PLAIN, "content-encoding": "gzip"},
    ],
    ids=str,
)
def test_an_upload_of_another_kind_is_415(served: Served, headers: dict[str, str]) -> None:
    answer = served.request("POST", "/embed-file/upload", content=b"a", headers=headers)
    assert problem(answer, 415)["next"]


@pytest.mark.parametrize(
    "query",
    [
        "chunk_size=0",
        "chunk_size=many",
        "chunk_size=10&chunk_overlap=10",
        "unit=pages",
        "normalize=perhaps",
        "pooling=",
        "max_chunks=1&max_chunks=2",
    ],
)
def test_bad_options_of_an_upload_are_422(served: Served, query: str) -> None:
    answer = served.request("POST", f"/embed-file/upload?{query}", content=b"a", headers=PLAIN)
    problem(answer, 422)


@pytest.mark.parametrize("is_declared", [True, False])
def test_an_upload_over_the_cap_is_413_before_it_is_all_read(
    reading: Served, is_declared: bool
) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while sent < 1_000_000:
            sent += 1_000
            yield b"x" * 1_000

    content = b"x" * 10_001 if is_declared else endless()
    answer = reading.request("POST", "/embed-file/upload", content=content, headers=PLAIN)
    assert problem(answer, 413)["type"].endswith(":too-large")
    assert sent < 20_000


def test_a_body_larger_than_any_path_is_413(served: Served) -> None:
    answer = served.post("/embed-file", {"path": "/" + "a" * (1 << 16)})
    assert problem(answer, 413)["next"] == "send the document itself to /embed-file/upload"


def test_lines_carry_the_same_as_the_one_answer(served: Served) -> None:
    query = "/embed-file/upload?chunk_size=50&chunk_overlap=5&max_chunks=100&prompt_name=query"
    whole = served.request("POST", query, content=WORDS, headers=PLAIN).json()
    answer = served.request("POST", query, content=WORDS, headers={**PLAIN, **NDJSON})
    (kind, start), *middle, last = read_lines(answer)
    assert kind == "start"
    assert start == {
        "pages": None,
        "chunks": 100,
        **{name: whole[name] for name in SAID},
    }
    assert last == ("end", {})
    assert {kind for kind, _ in middle} == {"chunks"}
    parts = [data for _, data in middle]
    assert [part["first"] for part in parts] == [0, 48, 96]
    assert [part["done"] for part in parts] == [48, 96, 100]
    assert {part["total"] for part in parts} == {100}
    for name in ("chunks", "spans", "vectors"):
        assert [item for part in parts for item in part[name]] == whole[name]


def test_lines_of_a_file_without_text_are_a_start_and_an_end(
    reading: Served, documents: Path
) -> None:
    (documents / "a.txt").write_bytes(b" ")
    answer = reading.post("/embed-file", {"path": str(documents / "a.txt")}, headers=NDJSON)
    assert [kind for kind, _ in read_lines(answer)] == ["start", "end"]


def test_what_fails_before_the_first_line_is_an_ordinary_problem(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(content: bytes) -> Any:
        headers = {"content-type": "application/pdf", **NDJSON}
        return served.request("POST", "/embed-file/upload", content=content, headers=headers)

    assert problem(send(b"no PDF"), 422)["type"].endswith(":document-not-pdf")

    async def explode(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(chunking, "read", explode)
    assert problem(send(b"x"), 500)["why"] == "RuntimeError"


@pytest.mark.parametrize("failure", ["problem", "memory", "bug"])
def test_what_fails_later_is_a_line(
    served: Served, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    write, calls = responses.with_vectors, []

    async def fail(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            return await write(*given, **named)
        if failure == "bug":
            raise RuntimeError("secret")
        if failure == "memory":
            raise MemoryError("secret")
        raise Problem("out-of-memory", "not enough")

    monkeypatch.setattr(responses, "with_vectors", fail)
    query = "/embed-file/upload?chunk_size=20"
    answer = served.request("POST", query, content=WORDS, headers={**PLAIN, **NDJSON})
    *rest, (kind, data) = read_lines(answer)
    assert [kind for kind, _ in rest] == ["start", "chunks"]
    assert kind == "problem"
    assert data["status"] == (500 if failure == "bug" else 507)
    assert "secret" not in answer.text


def test_while_a_document_is_read_lines_say_so(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PROGRESS_S", 0.01)
    headers = {"content-type": "application/pdf", **NDJSON}
    content = pdf(["text"] * 3)
    answer = served.request("POST", "/embed-file/upload", content=content, headers=headers)
    kinds = read_lines(answer)
    assert kinds[0] == ("progress", {"phase": "reading"})
    (start,) = (data for kind, data in kinds if kind == "start")
    assert start["pages"] == 3
    late = served.request("POST", "/embed-file/upload", content=content[:200], headers=headers)
    assert read_lines(late)[-1][1]["status"] == 422


def test_while_chunks_wait_for_their_turn_lines_say_so(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PROGRESS_S", 0.01)
    parts = Encoder.parts

    async def late(self: Encoder, *texts: Any, **options: Any) -> AsyncGenerator[Any]:
        await asyncio.sleep(0.1)
        async for part in parts(self, *texts, **options):
            yield part

    monkeypatch.setattr(Encoder, "parts", late)
    answer = served.request(
        "POST", "/embed-file/upload", content=WORDS, headers={**PLAIN, **NDJSON}
    )
    kinds = read_lines(answer)
    at = [kind for kind, _ in kinds].index("start")
    assert kinds[at + 1] == ("progress", {"phase": "waiting"})
    assert [kind for kind, _ in kinds if kind != "progress"] == ["start", "chunks", "end"]


def test_lines_that_end_while_chunks_wait_close_what_they_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "PROGRESS_S", 0.01)
    closed: list[bool] = []

    async def parts() -> AsyncGenerator[None]:
        try:
            await asyncio.Event().wait()
            yield
        finally:
            closed.append(True)

    async def work() -> None:
        made = parts()
        waits = files._waits(asyncio.ensure_future(anext(made, None)))
        await anext(waits)
        await waits.aclose()
        assert closed
        await made.aclose()

    asyncio.run(work())


def test_openapi_describes_the_upload_and_the_lines(served: Served) -> None:
    paths = served.get("/openapi.json").json()["paths"]
    upload = paths["/embed-file/upload"]["post"]
    assert set(upload["requestBody"]["content"]) == {
        "application/pdf",
        "text/plain",
        "text/markdown",
    }
    named = {parameter["name"]: parameter for parameter in upload["parameters"]}
    assert set(named) == {
        *("chunk_size", "chunk_overlap", "max_chunks", "normalize", "pooling", "unit", "encoding"),
        *("charset", "X-Document-Password", "prompt_name", "prompt", "input_type", "dimensions"),
        "model",
    }
    assert named["chunk_size"]["in"] == "query"
    assert named["chunk_size"]["schema"]["default"] == 800
    for path in ("/embed-file", "/embed-file/upload"):
        assert "application/x-ndjson" in paths[path]["post"]["responses"]["200"]["content"]


def test_a_drive_that_does_not_answer_holds_up_no_other_request(
    reading: Served, documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()

    def read(*_: object, **__: object) -> None:
        answers.wait()

    async def work() -> tuple[int, int]:
        path = {"path": str(documents / "a.txt")}
        waiting = [
            asyncio.create_task(reading.client.post("/embed-file", json=path)) for _ in range(40)
        ]
        await asyncio.sleep(0.05)
        try:
            async with asyncio.timeout(20):
                # More values than are written at once, so that their answer is written on a thread.
                other = await reading.client.post("/embed", json={"texts": ["a"] * 3_000})
        finally:
            reading.encoder.refuse_new()
            reading.encoder.abandon()
            kept = await asyncio.gather(*waiting)
            answers.set()
        return other.status_code, max(answer.status_code for answer in kept)

    monkeypatch.setattr("sidecar.documents.allowed_dirs.AllowedDirs.read", read)
    try:
        assert reading.run(work()) == (200, 503)  # those that waited are told of the end at once
    finally:
        answers.set()
