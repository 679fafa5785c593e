from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa
import pytest

from sidecar.batch.embedder import validated
from sidecar.batch.folders import Chunker, Documents, Folders
from sidecar.documents.allowed_dirs import AllowedDirs
from sidecar.errors import DiskError, ModelError, UsageError
from sidecar.problems import Problem
from sidecar.settings import Limits, Settings
from tests.support import batches
from tests.support.stub_engine import StubEngine
from tests.support.tinypdf import pdf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.stub_engine import Served


@contextlib.contextmanager
def documents(*folders: Path, limits: Limits | None = None, **asked: object) -> Iterator[Documents]:
    model = batches.loaded()
    wanted = validated(asked).chunking(model.engine, prompt_tokens=0)
    settings = Settings(limits=limits or Limits())
    found = Folders(folders, max_bytes=settings.limits.max_file_bytes)
    with contextlib.closing(Chunker(settings, model, wanted)) as chunker:
        yield Documents(found, chunker)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "shelf"
    (folder / "deep").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "b.txt").write_text("one two three " * 10, encoding="utf-8")
    (folder / "deep/a.md").write_text("four", encoding="utf-8")
    (folder / "deep/empty.txt").write_text(" \n", encoding="utf-8")
    (folder / "z.pdf").write_bytes(b"no PDF")
    (folder / "z.docx").touch()
    (folder / ".git/c.txt").write_text("hidden", encoding="utf-8")
    (folder / "link.txt").symlink_to(folder / "b.txt")
    return folder


def rows(found: Documents, first: int = 0) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = pa.concat_tables(
        [block.table for block in found.blocks(first)]
    ).to_pylist()
    return made


def test_documents_are_read_in_the_order_of_their_paths(shelf: Path) -> None:
    with documents(shelf, chunk_size=60, chunk_overlap=0) as found:
        assert found.total == 4
        made = rows(found)
    assert [(row["id"], row["chunk"], row["problem"]) for row in made] == [
        ("b.txt", 0, None),
        ("b.txt", 1, None),
        ("b.txt", 2, None),
        ("deep/a.md", 0, None),
        ("deep/empty.txt", None, "document-empty"),
        ("z.pdf", None, "document-not-pdf"),
    ]
    assert made[1]["text"] == ("one two three " * 10)[made[1]["start"] : made[1]["end"]]


def test_chunks_are_those_of_embed_file(shelf: Path, served: Served) -> None:
    answer = served.post(
        "/embed-file/upload?chunk_size=60",
        content=(shelf / "b.txt").read_bytes(),
        headers={"Content-Type": "text/plain"},
    ).json()
    with documents(shelf, chunk_size=60) as found:
        made = [row for row in rows(found) if row["id"] == "b.txt"]
    assert [row["text"] for row in made] == answer["chunks"]
    assert [row["start"] for row in made] == [span["start"] for span in answer["spans"]]


def test_what_a_document_lost_stands_in_its_rows(shelf: Path) -> None:
    with documents(shelf, chunk_size=60, max_chunks=1) as found:
        (row, *_) = rows(found)
    assert '"kind":"limit"' in str(row["losses"])


def test_pages_of_a_pdf_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(["first page", "second page"]))
    with documents(tmp_path, chunk_size=11, chunk_overlap=0) as found:
        assert [row["page"] for row in rows(found)] == [1, 2]


def test_reading_goes_on_from_any_document(shelf: Path) -> None:
    with documents(shelf) as found:
        assert [row["id"] for row in rows(found, 2)] == ["deep/empty.txt", "z.pdf"]


class Ended(BaseException):
    """The end of a run: nothing of ours catches it."""


@pytest.mark.parametrize("nth", [1, 2])
def test_a_job_of_documents_goes_on_after_whole_documents(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    engine = StubEngine()
    own, calls = engine.encode, 0

    def ending(batch: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise Ended
        return own(batch, **options)

    monkeypatch.setattr(engine, "encode", ending)
    with documents(shelf, chunk_size=60, chunk_overlap=0) as found:
        batches.write(tmp_path / "whole", found, rows=2)
        with pytest.raises(Ended):
            batches.write(tmp_path / "out", found, rows=2, engine=engine)
        batches.write(tmp_path / "out", found, rows=2)
    made = batches.read(tmp_path / "out")
    assert made.column("position").to_pylist() == list(range(6))
    assert batches.shards(tmp_path / "out") == batches.shards(tmp_path / "whole")


def test_a_document_that_is_another_by_now_is_an_error(shelf: Path) -> None:
    with documents(shelf) as found:
        (shelf / "b.txt").write_text("other", encoding="utf-8")
        (shelf / "deep/a.md").unlink()
        assert [row["problem"] for row in rows(found)[:2]] == ["file-changed", "no-file"]


@pytest.mark.parametrize("is_empty", [False, True], ids=["gone", "another in its place"])
def test_documents_lost_with_their_folder_end_the_run(shelf: Path, *, is_empty: bool) -> None:
    with documents(shelf) as found:
        shelf.rename(shelf.with_name("moved"))
        if is_empty:  # as is the folder that a share was mounted on
            shelf.mkdir()
        with pytest.raises(DiskError, match="cannot be read any more"):
            rows(found)
        shelf.with_name("moved").rename(shelf)
        assert len(rows(found)) == 4


@pytest.mark.parametrize(
    "failure", [OSError(errno.EMFILE, "Too many open files"), Problem("no-permission", "no")]
)
def test_a_file_that_could_be_read_at_the_start_ends_the_run(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    (shelf / "a.txt").write_text("zero", encoding="utf-8")
    with documents(shelf) as found:
        monkeypatch.setattr(AllowedDirs, "read", raising(failure))
        with pytest.raises(DiskError, match=r"a\.txt cannot be read any more"):
            rows(found)


@pytest.mark.parametrize("kind", ["system-limit", "bundle-gone", "out-of-memory"])
def test_what_the_machine_lacks_is_no_error_of_a_document(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with documents(shelf) as found:
        with monkeypatch.context() as patch:
            patch.setattr("sidecar.documents.chunking.read", raising(Problem(kind, "no room")))
            with pytest.raises(ModelError, match="no room"):
                rows(found)
        assert len(rows(found)) == 4


def raising(failure: Exception) -> Any:
    def fail(*_given: object, **_options: object) -> NoReturn:
        raise failure

    return fail


def test_a_document_over_a_limit_is_an_error_of_its_own(shelf: Path) -> None:
    with documents(shelf, limits=Limits(max_file_bytes=20)) as found:
        assert [row["problem"] for row in rows(found)][:2] == ["too-large", None]


def test_names_and_contents_are_what_a_folder_is_known_by(shelf: Path) -> None:
    def known() -> object:
        with documents(shelf) as found:
            return found.facts[0]["sha256"]

    before = known()
    (shelf / "b.txt").rename(shelf / "c.txt")
    renamed = known()
    (shelf / "c.txt").write_text("other", encoding="utf-8")
    assert len({before, renamed, known()}) == 3


def test_documents_of_several_folders_have_the_folders_names(shelf: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.txt").write_text("five", encoding="utf-8")
    with documents(shelf, other) as found:
        names = {row["id"] for row in rows(found)}
    assert {"shelf/b.txt", "other/b.txt"} <= names


def test_folders_of_one_name_are_refused_and_dots_have_names(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = tmp_path / "else/shelf"
    same.mkdir(parents=True)
    monkeypatch.chdir(shelf)
    with pytest.raises(UsageError, match="have one name"), documents(Path(), same):
        pass
    with documents(Path(), same.parent) as found:
        assert rows(found)[0]["id"] == "shelf/b.txt"


def test_a_folder_that_cannot_be_listed_is_told(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.lstat", denied)
    with pytest.raises(DiskError, match="cannot be read"), documents(shelf):
        pass


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("part.parquet", "*.parquet"),
        ("lang=de/year=2001/part-0.c000.snappy.parquet", "*/*/*.parquet"),
        ("deep/rows.jsonl.gz", "*/*.jsonl.gz"),
        ("notes.docx", "*.parquet"),
    ],
)
def test_a_folder_without_documents_is_refused(tmp_path: Path, name: str, pattern: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    (tmp_path / "link.pdf").symlink_to(name)
    with pytest.raises(UsageError, match="no documents") as caught, documents(tmp_path):
        pass
    assert caught.value.why.endswith("1 other files are there, and 1 links, which are not followed")
    assert caught.value.next_step.endswith(f"{tmp_path}/{pattern}")


def test_what_a_folder_has_beside_documents_is_counted(shelf: Path) -> None:
    found = Folders([shelf], max_bytes=1000)
    assert found.summary() == "4 documents; left out: 1 other files, 1 links"
    (shelf / "loop").symlink_to(shelf)
    assert Folders([shelf], max_bytes=1000).summary().endswith("2 links")
    assert Folders([shelf / "deep"], max_bytes=1000).summary() == "2 documents"
