"""Documents, read by a running bundle from the one folder that it was given."""

from __future__ import annotations

import http.client
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bundler.launch import RunningService, command
from bundler.smoke import pdf
from tests.support.clients import Answer, Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_SECONDS = 180
SAID = "The ferry (the small one) leaves at seven."
NOTE = "# Horário\n\n" + "Barcos saem às sete da manhã, e voltam ao anoitecer. " * 60


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A service that may read one folder, and a folder beside it that it may not."""

    client: Client
    allowed: Path
    beside: Path

    def read(self, path: Path | str, **fields: object) -> Answer:
        """Return the answer for one file."""
        return self.client.ask("/embed-file", {"path": str(path), **fields})

    def chunks(self, name: str, **fields: object) -> Any:
        """Return the answer for a file of the allowed folder, its vectors as rows."""
        answer = self.read(self.allowed / name, **fields)
        assert answer.status == 200, answer.body
        found = answer.json()
        found["vectors"] = np.array(found["vectors"], dtype=np.float32)
        assert found["vectors"].shape == (len(found["chunks"]), 384)
        assert len(found["spans"]) == len(found["chunks"])
        return found


@pytest.fixture(scope="module")
def reader(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    root = tmp_path_factory.mktemp("documents")
    allowed, beside = root / "Meus documentos (é)", root / "beside"
    for folder in (allowed, beside):
        folder.mkdir()
        (folder / "page.pdf").write_bytes(pdf(SAID))
        (folder / "note.md").write_text(NOTE, encoding="utf-8")
        (folder / "note.txt").write_text(NOTE, encoding="utf-16")
    (allowed / "link.txt").symlink_to(beside / "note.txt")
    (allowed / "broken.pdf").write_bytes(b"%PDF-1.4\n%nothing follows")
    arguments = ["--port", "0", "--allow-dir", str(allowed)]
    with RunningService.start(command(bundle, arguments), environment={}) as service:
        service.wait_ready(START_SECONDS)
        yield Reader(client=Client(port=service.port), allowed=allowed, beside=beside)
        assert service.stop() == 0


def test_a_pdf_is_read_with_its_pages(reader: Reader) -> None:
    found = reader.chunks("page.pdf")
    assert [chunk.strip() for chunk in found["chunks"]] == [SAID]
    assert found["spans"][0]["page"] == 1
    assert found["complete"] is True


@pytest.mark.parametrize("name", ["note.md", "note.txt"])
def test_a_text_is_cut_into_chunks_that_cover_it(reader: Reader, name: str) -> None:
    found = reader.chunks(name, chunk_size=300, chunk_overlap=50)
    spans = found["spans"]
    assert [NOTE[span["start"] : span["end"]] for span in spans] == found["chunks"]
    assert all(len(chunk) <= 300 for chunk in found["chunks"])
    assert (spans[0]["start"], spans[-1]["end"]) == (0, len(NOTE))
    pairs = itertools.pairwise(spans)
    assert all(left["end"] - right["start"] == 50 for left, right in pairs)


def test_the_vectors_are_those_of_the_chunks(reader: Reader) -> None:
    found = reader.chunks("note.md")
    np.testing.assert_allclose(found["vectors"], reader.client.embed(found["chunks"]), atol=2e-6)


def test_chunks_of_tokens_fit_the_model(reader: Reader) -> None:
    limit = reader.client.ask("/info").json()["max_tokens"]
    found = reader.chunks("note.md", unit="tokens")
    assert not any(span["truncated"] for span in found["spans"])
    assert max(span["tokens"] for span in found["spans"]) <= limit
    small = reader.chunks("note.md", unit="tokens", chunk_size=20, chunk_overlap=5)
    assert len(small["chunks"]) > len(found["chunks"])
    assert max(span["tokens"] for span in small["spans"]) <= 24


def test_a_long_text_is_cut_by_the_tokens_it_has_as_a_whole(reader: Reader) -> None:
    words = [f"palavra{number} são, água e {number} barcos.\n" for number in range(2_000)]
    text = "".join(words)  # longer than what is tokenised in one turn
    (reader.allowed / "long.txt").write_text(text, encoding="utf-8")
    found = reader.chunks("long.txt", unit="tokens", max_chunks=1_000)
    spans = found["spans"]
    assert not any(span["truncated"] for span in spans)
    assert [text[span["start"] : span["end"]] for span in spans] == found["chunks"]
    assert (spans[0]["start"], spans[-1]["end"]) == (0, len(text.rstrip()))
    assert all(left["end"] > right["start"] for left, right in itertools.pairwise(spans))
    assert all(text[span["end"] : span["end"] + 1].strip() == "" for span in spans)


def test_an_upload_gives_what_the_file_gives_line_by_line_too(reader: Reader) -> None:
    data = (reader.allowed / "page.pdf").read_bytes()
    whole = reader.read(reader.allowed / "page.pdf").json()
    headers = {"Content-Type": "application/pdf"}
    connection = http.client.HTTPConnection("127.0.0.1", reader.client.port, timeout=60)
    connection.request("POST", "/embed-file/upload", data, headers)
    assert json.loads(connection.getresponse().read()) == whole
    accept = {"Accept": "application/x-ndjson"}
    connection.request("POST", "/embed-file/upload", data, headers | accept)
    lines = [json.loads(line) for line in connection.getresponse().read().splitlines()]
    connection.close()
    parts = {line["type"]: line["data"] for line in lines if line["type"] != "progress"}
    assert list(parts) == ["start", "chunks", "end"]
    assert parts["start"]["pages"] == 1
    assert parts["chunks"]["chunks"] == whole["chunks"]
    assert parts["chunks"]["vectors"] == whole["vectors"]


def test_what_is_left_out_is_said(reader: Reader) -> None:
    found = reader.chunks("note.md", chunk_size=100, chunk_overlap=10, max_chunks=3)
    assert len(found["chunks"]) == 3
    assert found["complete"] is False


def test_outside_of_the_folder_nothing_is_there(reader: Reader) -> None:
    for path in (
        reader.beside / "note.md",
        reader.allowed / ".." / "beside" / "note.md",
        reader.allowed / "link.txt",
        reader.allowed / "no such file.md",
        "note.md",
        f"{reader.allowed}x/note.md",
    ):
        answer = reader.read(path)
        assert answer.status == 404, path
        assert str(reader.beside) not in answer.body.decode()
    assert reader.read(reader.allowed / "note.md").status == 200


def test_a_broken_pdf_is_the_clients_fault_and_harms_nobody(reader: Reader) -> None:
    assert reader.read(reader.allowed / "broken.pdf").status == 422
    assert reader.client.ask("/health").status == 200
