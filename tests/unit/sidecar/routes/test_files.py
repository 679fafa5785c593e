from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.settings import Settings
from tests.support.answered import problem
from tests.support.stub_engine import Served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JSON = {"content-type": "application/json"}
LONG = "w " * 20


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    return folder


@pytest.fixture
def reading(documents: Path) -> Iterator[Served]:
    made = Served(Settings(allow_dirs=(documents.resolve(),)))
    yield made
    made.close()


def test_embed_file_without_an_allowed_folder_says_how_to_allow_one(served: Served) -> None:
    refused = problem(served.post("/embed-file", {"path": "/etc/passwd.txt"}), 403)
    assert "--allow-dir" in refused["next"]


def test_embed_file_gives_chunks_vectors_and_places(reading: Served, documents: Path) -> None:
    text = "".join(f"line {number} of it\n" for number in range(100))
    (documents / "a.md").write_text(text, encoding="utf-8")
    request = {"path": str(documents / "a.md"), "chunk_size": 200, "chunk_overlap": 20}
    answer = reading.post("/embed-file", request).json()
    assert len(answer["chunks"]) == len(answer["vectors"]) == len(answer["spans"]) > 5
    assert answer["complete"] is True
    for chunk, span in zip(answer["chunks"], answer["spans"], strict=True):
        assert chunk == text[span["start"] : span["end"]]
        assert span["page"] is None
        assert span["tokens"] == len(chunk.split()) + 2
        assert span["truncated"] is (span["tokens"] > 10)


def test_chunks_counted_in_tokens_fit_the_model_by_default(
    reading: Served, documents: Path
) -> None:
    (documents / "a.txt").write_text("word " * 50, encoding="utf-8")
    request = {"path": str(documents / "a.txt"), "unit": "tokens"}
    answer = reading.post("/embed-file", request).json()
    assert [span["tokens"] for span in answer["spans"]][:2] == [10, 10]
    assert not any(span["truncated"] for span in answer["spans"])
    assert answer["spans"][1]["start"] == 7 * 5  # eight words, one shared


def test_max_chunks_leaves_the_rest_out_and_says_so(reading: Served, documents: Path) -> None:
    (documents / "a.txt").write_text("word " * 1_000, encoding="utf-8")
    answer = reading.post("/embed-file", {"path": str(documents / "a.txt"), "max_chunks": 2})
    assert len(answer.json()["chunks"]) == 2
    assert answer.json()["complete"] is False


def test_an_empty_file_has_no_chunks(reading: Served, documents: Path) -> None:
    (documents / "a.txt").write_bytes(b"")
    answer = reading.post("/embed-file", {"path": str(documents / "a.txt")})
    assert (answer.status_code, answer.json()["chunks"], answer.json()["vectors"]) == (200, [], [])


def test_embed_file_refuses_what_it_cannot_read(reading: Served, documents: Path) -> None:
    (documents / "a.docx").write_bytes(b"x")
    (documents / "a.txt").write_bytes(b"x")
    problem(reading.post("/embed-file", {"path": str(documents / "a.docx")}), 422)
    problem(reading.post("/embed-file", {"path": str(documents)}), 422)
    problem(reading.post("/embed-file", {"path": str(documents / "b.txt")}), 404)
    problem(reading.post("/embed-file", {"path": "../../etc/passwd"}), 404)
    path = str(documents / "a.txt")
    overlap = {"path": path, "chunk_size": 10, "chunk_overlap": 10}
    problem(reading.post("/embed-file", overlap), 422)
    assert reading.post("/embed-file", {"path": path, "chunk_size": 10}).status_code == 200
