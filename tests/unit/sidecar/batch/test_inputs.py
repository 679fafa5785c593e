from __future__ import annotations

import copy
import errno
import gzip
import json
import os
from typing import TYPE_CHECKING

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sidecar.batch import inputs
from sidecar.batch.inputs import Rows, listed
from sidecar.errors import DiskError, UsageError
from tests.support.batches import files

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [f"r{n}" for n in range(20)]
TEXTS = [f"text {n}, with a comma" for n in range(20)]
TABLE = pa.table({"id": NAMES, "text": TEXTS, "other": range(20)})
LINES = "".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in zip(NAMES, TEXTS, strict=True))
CSV = "id,other,text\r\n" + "".join(f'{i},x,"{t}"\r\n' for i, t in zip(NAMES, TEXTS, strict=True))
FORMS: dict[str, str | bytes | pa.Table] = {
    "rows.parquet": TABLE,
    "rows.jsonl": LINES,
    "rows.csv": CSV,
    "rows.jsonl.gz": gzip.compress(LINES.encode()),
    "MARKED.CSV": b"\xef\xbb\xbf" + CSV.encode(),
    "MARKED.JSONL.GZ": gzip.compress(b"\xef\xbb\xbf" + LINES.encode()),
}


def source(paths: object, text: str = "text", key: str | None = "id") -> Rows:
    return Rows(paths, text_column=text, id_column=key)  # type: ignore[arg-type]


def rows(found: Rows, first: int = 0) -> list[dict[str, object]]:
    tables = [block.table for block in found.blocks(first)]
    return pa.concat_tables(tables).to_pylist() if tables else []


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("first", [0, 1, 7, 13, 19, 20])
def test_rows_are_read_from_any_of_them_on(tmp_path: Path, name: str, first: int) -> None:
    found = source(files(tmp_path, {name: FORMS[name]}))
    expected = [{"id": i, "text": t, "problem": None} for i, t in zip(NAMES, TEXTS, strict=True)]
    assert found.total == 20
    assert rows(found, first) == expected[first:]


# In order, with gaps, and back again: as a cluster reads, and reads again where a node is lost.
PARTS = [(0, 3), (3, 3), (6, 1), (12, 7), (2, 9), (11, 9), (19, 1), (0, 20), (5, 5)]


@pytest.mark.parametrize("name", FORMS)
def test_parts_are_the_same_in_whatever_order(tmp_path: Path, name: str) -> None:
    found = source(files(tmp_path, {name: FORMS[name], "b.jsonl": LINES}))
    whole = rows(found)
    for first, count in (*PARTS, (15, 10), (20, 20), (0, 40)):
        tables = list(found.part(first, count).tables())
        assert pa.concat_tables(tables).to_pylist() == whole[first : first + count], (first, count)


@pytest.mark.parametrize("name", FORMS)
def test_parts_in_order_open_a_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    found = source(files(tmp_path, {name: FORMS[name]}))
    own, begun = Rows._tables, []

    def begin(self: Rows, file: Path, first: int) -> object:
        begun.append(first)
        return own(self, file, first)

    monkeypatch.setattr(Rows, "_tables", begin)
    for first in range(4, 20, 4):
        part = copy.deepcopy(found.part(first, 4))  # as it travels
        assert [row["id"] for row in pa.concat_tables(part.tables()).to_pylist()] == NAMES[
            first : first + 4
        ]
    assert begun == [4]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_a_file_that_lost_rows_since_the_start_ends_a_job(tmp_path: Path, name: str) -> None:
    (path,) = files(tmp_path, {name: FORMS[name]})
    found = source([path])
    lines, table = "".join(CSV.splitlines(keepends=True)[:9]), TABLE[:9]
    files(tmp_path, {"rows.jsonl": LINES[:200], "rows.csv": lines, "rows.parquet": table})
    for read in (found.blocks(0), found.part(0, 20).tables()):
        with pytest.raises(DiskError, match="was changed while the job read it"):
            list(read)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_a_file_with_other_rows_than_at_the_start_ends_a_job(tmp_path: Path, name: str) -> None:
    (path,) = files(tmp_path, {name: FORMS[name]})
    found = source([path])
    reads = found.blocks(0), found.part(0, 20).tables()
    own = path.stat()
    os.utime(path, ns=(own.st_atime_ns, own.st_mtime_ns + 10**9))
    for read in reads:
        with pytest.raises(DiskError, match="was changed while the job read it"):
            list(read)
    os.utime(path, ns=(own.st_atime_ns, own.st_mtime_ns))
    assert len(rows(found)) == 20


UGLY: dict[str, str | bytes | pa.Table] = {
    "a.jsonl": b'\n{"text": "a"}\n \r\n{"text": 5}\nnot json\n\n\n{"text": "\xff"}\n{"text": "b"}',
    "a.csv": b'text\n\n"two\n\nlines"\n1,2\n\xff\n\n"a ""quoted"" word"\n\nb',
}


@pytest.mark.parametrize("name", UGLY)
def test_rows_are_the_same_wherever_reading_begins(tmp_path: Path, name: str) -> None:
    found = source(files(tmp_path, {name: UGLY[name]}), key=None)
    whole = rows(found)
    assert len(whole) == found.total == 5
    assert [rows(found, first) for first in range(6)] == [whole[first:] for first in range(6)]


def test_lines_that_are_passed_over_are_not_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = source(files(tmp_path, {"rows.jsonl": LINES}))
    own, parsed = orjson.loads, []

    def loads(line: bytes) -> object:
        parsed.append(line)
        return own(line)

    monkeypatch.setattr(orjson, "loads", loads)
    rows(found, 17)
    assert parsed == LINES.encode().splitlines(keepends=True)[17:]


def test_files_of_several_kinds_are_read_one_after_the_other(tmp_path: Path) -> None:
    found = source(files(tmp_path, FORMS))
    assert [row["id"] for row in rows(found, 15)] == [*NAMES[15:], *NAMES * 5]
    assert [fact["rows"] for fact in found.facts] == [20] * 6


def test_files_without_rows_stand_among_others(tmp_path: Path) -> None:
    named = {"a.csv": "text\n", "b.csv": "text\nb\n", "c.jsonl": "", "d.csv": "text\n"}
    found = source(files(tmp_path, {**named, "e.csv": "text\ne\nf\n", "g.jsonl": ""}), key=None)
    for first in range(4):
        for count in range(1, 4 - first):
            wanted = ["b", "e", "f"][first : first + count]
            for tables in (found.tables(first, count), found.part(first, count).tables()):
                assert pa.concat_tables(tables).column("text").to_pylist() == wanted


def test_ids_that_are_numbers_stay_numbers(tmp_path: Path) -> None:
    table = pa.table({"key": pa.array([3, None], pa.uint8()), "text": ["a", "b"]})
    assert [row["id"] for row in rows(source(files(tmp_path, {"a.pq": table}), key="key"))] == [
        3,
        None,
    ]
    both = files(tmp_path, {"a.pq": table, "b.jsonl": '{"key": 4, "text": "c"}\n'})
    with pytest.raises(UsageError, match="of several types") as caught:
        source(both, key="key")
    assert caught.value.why == "int64 in a.pq, string in b.jsonl"


def test_an_id_that_is_not_utf8_is_none_and_costs_itself(tmp_path: Path) -> None:
    raw = pa.array([b"a", b"\xff", None, b"b"])
    table = pa.table(
        {"id": pa.Array.from_buffers(pa.string(), 4, raw.buffers()), "text": ["t"] * 4}
    )
    found = rows(source(files(tmp_path, {"a.parquet": table})))
    assert [row["id"] for row in found] == ["a", None, None, "b"]


def test_ids_of_64_bits_without_a_sign_stay_what_they_are(tmp_path: Path) -> None:
    table = pa.table({"id": pa.array([2**64 - 1, 0, None], pa.uint64()), "text": ["a", "b", "c"]})
    found = rows(source(files(tmp_path, {"a.parquet": table})))
    assert [row["id"] for row in found] == [2**64 - 1, 0, None]


@pytest.mark.parametrize("ids", [[1.5, None], [True, False], [b"a", b"b"]], ids=str)
def test_a_column_that_has_no_ids_is_refused_before_any_row(
    tmp_path: Path, ids: list[object]
) -> None:
    table = pa.table({"id": ids, "text": ["a", "b"]})
    with pytest.raises(UsageError, match=r"column id of a\.pq has no ids"):
        source(files(tmp_path, {"a.pq": table}))


def test_without_an_id_column_rows_have_none(tmp_path: Path) -> None:
    found = source(files(tmp_path, {"rows.parquet": TABLE}), key=None)
    assert list(rows(found)[0]) == ["text", "problem"]


def test_the_column_of_ids_may_be_that_of_the_texts(tmp_path: Path) -> None:
    for name in ("rows.parquet", "rows.csv", "rows.jsonl"):
        found = rows(source(files(tmp_path, {name: FORMS[name]}), key="text"))
        assert [row["id"] for row in found] == TEXTS, name


def test_a_line_that_cannot_be_read_costs_itself(tmp_path: Path) -> None:
    lines = b'{"text": "a"}\n\n{"text": 5}\n[1]\nnot json\n{"text": "\xff"}\n'
    lines += b'{"other": 1}\n{"text": "b"}'
    found = rows(source(files(tmp_path, {"a.ndjson": lines}), key=None))
    assert [(row["text"], row["problem"]) for row in found] == [
        ("a", None),
        (None, "bad-value"),
        *[(None, "bad-json")] * 3,
        (None, None),
        ("b", None),
    ]


def test_a_row_of_csv_that_cannot_be_read_costs_itself(tmp_path: Path) -> None:
    data = b'id,text\n1,"two\nlines"\n2\n3,bad \xff byte\n\xff,four\n5,"a ""quoted"" word"\n'
    found = rows(source(files(tmp_path, {"a.csv": data})))
    assert [tuple(row.values()) for row in found] == [
        ("1", "two\nlines", None),
        (None, None, "bad-row"),
        ("3", None, "wrong-encoding"),
        (None, "four", None),
        ("5", 'a "quoted" word', None),
    ]


@pytest.mark.parametrize("rest", ["b", "b\n", '""', 'b""\n\n'])
def test_a_quotation_mark_that_is_never_closed_is_told(tmp_path: Path, rest: str) -> None:
    data = f'id,text\n1,"two\nlines"\n2,"a\n3,{rest}'
    with pytest.raises(UsageError, match=r"a\.csv cannot be read as csv") as caught:
        source(files(tmp_path, {"a.csv": data}))
    assert caught.value.why == "a quotation mark in the row of line 4 is never closed"


@pytest.mark.parametrize("data", ['id,text\n1,"a"', 'id,text\r1,"a"\r', 'id,text\n\n1,"a"\n\n'])
def test_csv_may_end_with_or_without_a_line_end(tmp_path: Path, data: str) -> None:
    assert [row["text"] for row in rows(source(files(tmp_path, {"a.csv": data})))] == ["a"]


def test_ids_of_lines_are_texts_and_nothing_else(tmp_path: Path) -> None:
    lines = '{"id": 1, "text": "a"}\n{"id": true, "text": "b"}\n{"id": [2], "text": "c"}\n'
    assert [row["id"] for row in rows(source(files(tmp_path, {"a.jsonl": lines})))] == [
        "1",
        None,
        None,
    ]


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv"])
@pytest.mark.parametrize(("text", "key"), [("body", None), ("text", "key")])
def test_a_column_that_is_not_there_is_told(
    tmp_path: Path, name: str, text: str, key: str | None
) -> None:
    with pytest.raises(UsageError, match=f"has no column {key or text}") as caught:
        source(files(tmp_path, {name: FORMS[name]}), text, key)
    assert "id, " in caught.value.why


def test_a_file_without_a_head_is_said_to_have_no_columns(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no column text") as caught:
        source(files(tmp_path, {"a.csv": ""}), key=None)
    assert caught.value.why == "its columns are none"


@pytest.mark.parametrize(
    ("line", "why"), [('{"id": 1, "body": "a"}', "their keys are id, body"), ("[1]", "none is a")]
)
def test_lines_without_any_text_are_refused(tmp_path: Path, line: str, why: str) -> None:
    paths = files(tmp_path, {"a.jsonl": f"{line}\n\nno JSON\n", "b.jsonl": line, "c.jsonl": LINES})
    with pytest.raises(UsageError, match="no line has the key text") as caught:
        source(paths[:2], key=None)
    assert caught.value.why.startswith(why)
    assert len(rows(source(paths, key=None))) == 23


def test_a_column_of_numbers_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"column other of rows\.parquet has no texts"):
        source(files(tmp_path, {"rows.parquet": TABLE}), "other")


@pytest.mark.parametrize(
    "named",
    [{"a.parquet": "no Parquet"}, {"a.csv": 'text\n"' + "x" * (inputs.LONGEST_FIELD + 9)}],
    ids=["parquet", "csv"],
)
def test_a_file_that_is_not_what_its_name_says_is_told(
    tmp_path: Path, named: dict[str, str | bytes | pa.Table]
) -> None:
    with pytest.raises(UsageError, match="cannot be read as"):
        source(files(tmp_path, named), key=None)


def test_long_texts_of_parquet_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    long = [f"{n:,} " * 100_000 for n in range(100)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": long}), path, compression="zstd")
    tables = [block.table for block in source([path], key=None).blocks(0)]
    assert pa.concat_tables(tables).column("text").to_pylist() == long
    assert max(table.nbytes for table in tables) < 1.5 * inputs.BLOCK_BYTES


def test_what_a_file_is_known_by_is_its_content(tmp_path: Path) -> None:
    one, same, other = files(
        tmp_path, {"a.csv": "text\na\n", "b.csv": "text\na\n", "c.csv": "text\nb\n"}
    )
    digests = [source([path], key=None).facts[0]["sha256"] for path in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]


def test_inputs_are_files_or_folders_that_are_there(tmp_path: Path) -> None:
    (file,) = files(tmp_path, {"a.csv": "text\n"})
    (tmp_path / "b.docx").touch()
    os.mkfifo(tmp_path / "pipe.csv")
    strange = tmp_path / os.fsdecode(b"\xff.csv")
    strange.touch()
    assert listed([file]).files == (file,)
    assert listed([tmp_path]).folders == (tmp_path,)
    for paths, what in (
        ([file, tmp_path], "jobs of their own"),
        ([tmp_path / "none.csv"], "there is no"),
        ([tmp_path / "b.docx"], "no kind that is read"),
        ([tmp_path / "pipe.csv"], "no regular file"),
        ([strange], "not UTF-8"),
    ):
        with pytest.raises(UsageError, match=what):
            listed(paths)


def test_a_path_that_cannot_be_asked_for_is_told(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="cannot be read") as caught:
        listed([tmp_path / ("a" * 300 + ".csv")])
    assert caught.value.why == os.strerror(errno.ENAMETOOLONG)


def test_what_is_wrong_with_a_page_is_told_in_one_line(tmp_path: Path) -> None:
    (path,) = files(tmp_path, {"a.parquet": TABLE})
    data = path.read_bytes()
    path.write_bytes(data[:4] + b"\xff" * 40 + data[44:])
    with pytest.raises((DiskError, UsageError), match=r"a\.parquet cannot be read") as caught:
        rows(source([path]))
    assert caught.value.why
    assert "\n" not in caught.value.why


@pytest.mark.parametrize("name", ["a.parquet.gz", "a.gz", "a", "a.txt"])
def test_a_name_that_says_no_kind_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no kind that is read"):
        inputs.kind_of(tmp_path / name)
