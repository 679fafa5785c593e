"""What a job reads: files of rows, or folders of documents; a file is known by its digest."""

from __future__ import annotations

import bisect
import copy
import csv
import functools
import hashlib
import io
import itertools
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from sidecar.batch.embedder import as_text, is_of_texts
from sidecar.batch.encoding import NOT_UTF8, strings
from sidecar.errors import DiskError, UsageError

Kind = Literal["parquet", "jsonl", "csv"]
KINDS: dict[str, Kind] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
}
# How files of lines are packed, by the end of their names: Parquet packs its own pages.
PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
BLOCK_ROWS, BLOCK_BYTES = 4_096, 1 << 24  # of Parquet's texts at a time, where its pages tell
READ_BYTES = 1 << 20
MOST_NAMED = 50  # columns in an error
LONGEST_FIELD = (
    1 << 26
)  # of CSV, where a quotation mark that is never closed takes all that follows
END = '"end'  # of CSV: a row of one field
BAD_JSON, BAD_ROW, NOT_TEXT = "bad-json", "bad-row", "bad-value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Rows of `items` members of an input: of as many rows, or of documents with all of theirs.

    The table has the columns id, text and problem, which is the kind of what is wrong with a text
    that is null; of documents also those of their chunks.
    """

    items: int
    table: pa.Table
    is_divisible: bool


class Source(Protocol):
    """Reads a job's inputs, in their order."""

    is_by_row: bool  # every item is one row
    total: int  # items
    facts: list[dict[str, object]]  # what the inputs are known by

    def blocks(self, first: int) -> Iterator[Block]:
        """Yield what there is from the item `first` on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What the command names: files of rows, or else folders."""

    files: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()


def listed(paths: Sequence[Path]) -> Listed:
    """Return `paths` as files or as folders. Raises DiskError, and UsageError for both at once."""
    for path in paths:
        with _blamed(path):
            is_there = path.exists()
        if not is_there:
            what = f"there is no {path}"
            raise UsageError(what, next_step="correct the path of the input")
        if not _is_text(str(path)):
            what = f"{path} has a name that is not UTF-8"
            raise UsageError(what, why="the manifest names it", next_step="rename it")
    folders = tuple(path for path in paths if path.is_dir())
    files = tuple(path for path in paths if not path.is_dir())
    for file in files:
        if not file.is_file():
            what = f"{file} is no regular file"
            raise UsageError(what, why="inputs are read twice", next_step="write it to a file")
    if folders and files:
        what = "files of rows and folders of documents are jobs of their own"
        raise UsageError(what, next_step=f"leave out {folders[0]}")
    for file in files:
        kind_of(file)
    return Listed(files=files, folders=folders)


def kind_of(file: Path) -> Kind:
    """Return how a file of rows is read, by its name. Raises UsageError."""
    name = Path(file.name.lower())
    plain = name.with_suffix("") if name.suffix in PACKED else name
    kind = KINDS.get(plain.suffix)
    if kind is None or (kind == "parquet" and plain != name):
        known = f"{', '.join(KINDS)}; those of lines also with {', '.join(PACKED)}"
        what = f"{file.name} is of no kind that is read"
        raise UsageError(what, why=f"names end in {known}", next_step="convert or rename it")
    return kind


def digest_of(file: Path) -> str:
    """Return the sha256 of a file. Raises OSError."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _fact(file: Path, rows: int) -> dict[str, object]:
    """Return what an input is known by. Raises DiskError."""
    with _blamed(file):
        size, digest = file.stat().st_size, digest_of(file)
    return {"path": str(file), "bytes": size, "sha256": digest, "rows": rows}


class Rows:
    """Reads files of rows; a row that cannot be read is one with a problem."""

    is_by_row = True

    def __init__(self, files: Sequence[Path], *, text_column: str, id_column: str | None) -> None:
        """Read every file once, for its digest and its number of rows. Raises UsageError."""
        self._files = files
        self._text, self._id = text_column, id_column
        self._marks = [_mark(file) for file in files]
        counts = [self._count(file) for file in files]
        self._ends = list(itertools.accumulate(counts))  # of each file among all rows
        self._id_type = self._type_of_ids()
        self.total = sum(counts)
        self._require_key()
        self.facts = [_fact(file, rows) for file, rows in zip(files, counts, strict=True)]

    def blocks(self, first: int) -> Iterator[Block]:
        """Yield the rows from `first` on."""
        for table in self.tables(first, self.total - first):
            yield Block(items=table.num_rows, table=table, is_divisible=True)

    def tables(self, first: int, count: int) -> Iterator[pa.Table]:
        """Yield `count` rows from `first` on. Raises UsageError and DiskError."""
        for place, start, rows in self._spans(first, count):
            file = self._files[place]
            yield from _first_of(self._tables(file, start), rows, file, self._marks[place])

    def none(self) -> pa.Table:
        """Return a table of none of the rows, which has their columns."""
        ids = None if self._id_type is None else pa.array([], self._id_type)
        return self._table(ids, pa.array([], pa.large_string()), None)

    def onward(self, first: int, count: int) -> Iterator[pa.Table]:
        """Yield what `tables` does, by a reader that stays where it is for later rows."""
        for place, start, rows in self._spans(first, count):
            file = self._files[place]
            begin = functools.partial(self._tables, file)
            read = _reader(file, (self._text, self._id)).read(begin, start, rows)
            yield from _first_of(read, rows, file, self._marks[place])

    def __len__(self) -> int:
        """Return how many rows there are."""
        return self.total

    def part(self, first: int, count: int) -> RowsPart:
        """Return what reads `count` rows from `first` on, and knows of their files alone."""
        spans = list(self._spans(first, count))
        files = slice(spans[0][0], spans[-1][0] + 1)
        before = self._begin(spans[0][0])
        made = copy.copy(self)
        # Another process has another working folder.
        made._files = [file.absolute() for file in self._files[files]]  # noqa: SLF001 (its own class)
        made._ends = [end - before for end in self._ends[files]]  # noqa: SLF001
        made._marks = self._marks[files]  # noqa: SLF001
        made.facts, made.total = [], made._ends[-1]  # noqa: SLF001
        return RowsPart(rows=made, first=spans[0][1], count=count)

    def _begin(self, place: int) -> int:
        """Return the first row of the file at `place`."""
        return self._ends[place - 1] if place else 0

    def _spans(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Yield the places of files that have these rows, where they begin in each, how many."""
        end = min(first + count, self.total)
        place = bisect.bisect_right(self._ends, first)
        while first < end:
            taken = min(end, self._ends[place]) - first
            if taken:
                yield place, first - self._begin(place), taken
            first, place = first + taken, place + 1

    def _tables(self, file: Path, first: int) -> Iterator[pa.Table]:
        match kind_of(file):
            case "parquet":
                return self._parquet(file, first)
            case "jsonl":
                return self._of_records(self._jsonl(file, first))
            case "csv":
                return self._of_records(self._csv(file, first))

    def _count(self, file: Path) -> int:
        with _blamed(file):
            match kind_of(file):
                case "parquet":
                    with pq.ParquetFile(file) as opened:
                        self._require(file, opened.schema_arrow.names)
                        kind = opened.schema_arrow.field(self._text).type
                        if not is_of_texts(kind):
                            what = f"the column {self._text} of {file.name} has no texts"
                            step = "name a column of texts: --text-column NAME"
                            raise UsageError(what, why=f"its type is {kind}", next_step=step)
                        return int(opened.metadata.num_rows)
                case "jsonl":
                    with _lines(file) as lines:
                        return sum(1 for line in lines if not line.isspace())
                case "csv":
                    return sum(1 for _ in self._csv(file, 0))

    def _require(self, file: Path, columns: Sequence[str]) -> None:
        for option, column in (("--text-column", self._text), ("--id-column", self._id)):
            if column is not None and columns.count(column) != 1:
                what = f"{file.name} has no column {column}, or more than one"
                why = f"its columns are {', '.join(columns[:MOST_NAMED]) or 'none'}"
                raise UsageError(what, why=why, next_step=f"name one of them: {option} NAME")

    def _require_key(self) -> None:
        """Raise UsageError if no line of any file has a text: its key may be misspelt."""
        keys: dict[str, None] = {}
        for file in self._files:
            if kind_of(file) != "jsonl":
                return
            with _blamed(file), _lines(file) as lines:
                for line in lines:
                    found = _object(line) or {}
                    if self._text in found:
                        return
                    if len(keys) < MOST_NAMED:
                        keys.update(dict.fromkeys(found))
        if self.total:
            what = f"no line has the key {self._text}"
            why = f"their keys are {', '.join(keys)}" if keys else "none is a JSON object"
            raise UsageError(
                what, why=why, next_step="name the key of the texts: --text-column NAME"
            )

    def _type_of_ids(self) -> pa.DataType | None:
        """Return what ids are in all of the files, None where rows have none. Raises UsageError."""
        if self._id is None:
            return None
        types: dict[pa.DataType, Path] = {}
        for file in self._files:
            found = pa.string()
            if kind_of(file) == "parquet":
                kind = pq.read_schema(file).field(self._id).type
                if pa.types.is_integer(kind):
                    found = kind if kind == pa.uint64() else pa.int64()
                elif not is_of_texts(kind):
                    what = f"the column {self._id} of {file.name} has no ids"
                    step = "name a column of texts or whole numbers, or leave out --id-column"
                    raise UsageError(what, why=f"its type is {kind}", next_step=step)
            types.setdefault(found, file)
        if len(types) > 1:
            why = ", ".join(f"{kind} in {file.name}" for kind, file in types.items())
            raise UsageError("ids are of several types", why=why, next_step="embed the files apart")
        return next(iter(types))

    def _parquet(self, file: Path, first: int) -> Iterator[pa.Table]:
        columns = [self._text] if self._id in (None, self._text) else [self._text, self._id]
        with pq.ParquetFile(file, buffer_size=READ_BYTES, pre_buffer=False) as opened:
            groups = list(range(opened.num_row_groups))
            while groups and first >= opened.metadata.row_group(groups[0]).num_rows:
                first -= opened.metadata.row_group(groups.pop(0)).num_rows
            rows = self._rows_at_a_time(opened, groups)
            batches = opened.iter_batches(
                rows, row_groups=groups, columns=columns, use_threads=False
            )
            for batch in batches:
                if first >= batch.num_rows:
                    first -= batch.num_rows
                    continue
                table = pa.Table.from_batches([batch.slice(first)])
                first = 0
                ids = None if self._id is None else table.column(self._id)
                if ids is not None:
                    is_text = self._id_type == pa.string()
                    ids = _utf8(as_text(ids, self._id or "")) if is_text else ids
                    ids = ids.cast(self._id_type)
                yield self._table(ids, as_text(table.column(self._text), self._text), None)

    def _rows_at_a_time(self, opened: pq.ParquetFile, groups: Sequence[int]) -> int:
        """Return how many rows have texts of about BLOCK_BYTES, as far as `groups` say."""
        paths = [opened.schema.column(place).path for place in range(len(opened.schema))]
        place, most = paths.index(self._text), BLOCK_ROWS
        for group in map(opened.metadata.row_group, groups):
            size = group.column(place).total_uncompressed_size
            most = min(most, max(1, BLOCK_BYTES * group.num_rows // max(1, size)))
        return most

    def _table(
        self, ids: pa.Array | None, texts: pa.Array, problems: Sequence[str | None] | None
    ) -> pa.Table:
        said = pa.nulls(len(texts), pa.string())
        if problems is not None:
            said = pa.array(problems, pa.string())
        columns = {} if ids is None else {"id": ids}
        return pa.table({**columns, "text": texts, "problem": said})

    def _of_records(self, records: Iterator[tuple[object, object]]) -> Iterator[pa.Table]:
        """Yield tables of pairs of an id and a text; a text as bytes is the kind of a problem."""
        while some := list(itertools.islice(_bounded(records), BLOCK_ROWS)):
            ids = None
            if self._id is not None:
                ids = pa.array([one for one, _ in some], pa.string())
            texts = [text if isinstance(text, str) else None for _, text in some]
            problems = [text.decode() if isinstance(text, bytes) else None for _, text in some]
            yield self._table(ids, pa.array(texts, pa.large_string()), problems)

    def _jsonl(self, file: Path, first: int) -> Iterator[tuple[object, object]]:
        with _lines(file) as lines:
            filled = (line for line in lines if not line.isspace())
            yield from map(self._record, itertools.islice(filled, first, None))

    def _record(self, line: bytes) -> tuple[object, object]:
        found = _object(line)
        if found is None:
            return None, BAD_JSON.encode()
        own = found.get(self._id) if self._id is not None else None
        is_usual = isinstance(own, str | int) and not isinstance(own, bool)
        text = found.get(self._text)
        if text is not None and not isinstance(text, str):
            text = NOT_TEXT.encode()
        return (str(own) if is_usual else None), text

    def _csv(self, file: Path, first: int) -> Iterator[tuple[object, object]]:
        csv.field_size_limit(LONGEST_FIELD)
        with _lines(file) as lines:
            # Bytes that are no UTF-8 are found where they are, and cost their row alone.
            decoded = io.TextIOWrapper(lines, "utf-8", errors="surrogateescape", newline="")
            rows = _closed(decoded)
            head = next(rows, [])
            self._require(file, head)
            place = head.index(self._text)
            id_place = None if self._id is None else head.index(self._id)
            for row in itertools.islice(filter(None, rows), first, None):
                yield _cell(row, id_place, len(head)), _text(row, place, len(head))


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsPart:
    """Rows of an input, to be read anywhere where its files are."""

    rows: Rows
    first: int
    count: int

    def tables(self) -> Iterator[pa.Table]:
        """Yield them. Where parts are read in order, in one process, it reads a file once."""
        return self.rows.onward(self.first, self.count)


class FileReader:
    """Reads one file, and goes on from where it is for rows that come later."""

    def __init__(self) -> None:
        """Have nothing open."""
        self._tables: Iterator[pa.Table] = iter(())
        self._held: pa.Table | None = None  # the beginning of what is left, or none of it yet
        self._at: int | None = None  # the row that is next

    def read(
        self, begin: Callable[[int], Iterator[pa.Table]], first: int, count: int
    ) -> Iterator[pa.Table]:
        """Yield `count` rows from `first` on; `begin` reads the file from a row on."""
        at = self._at
        if at is None or at > first:
            self._tables, self._held, at = begin(first), None, first
        end = first + count
        while at < end:
            self._at = None  # it is not known where reading fails
            table = self._held or next(self._tables, None)
            if table is None:
                return
            passed = min(max(0, first - at), table.num_rows)
            taken = min(end - at, table.num_rows) - passed
            at += passed + taken
            self._held = table.slice(passed + taken) if passed + taken < table.num_rows else None
            self._at = at
            if taken:
                yield table.slice(passed, taken)


@functools.lru_cache(maxsize=1)
def _reader(file: Path, columns: tuple[str | None, ...]) -> FileReader:
    """Return this process's reader of a file, of which it has one."""
    del file, columns
    return FileReader()


def _object(line: bytes) -> dict[str, object] | None:
    """Return the JSON object of a line, None if it is none."""
    try:
        found = orjson.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _closed(lines: Iterable[str]) -> Iterator[Sequence[str]]:
    """Yield the rows of CSV. Raises csv.Error for a quotation mark that is never closed.

    What follows it would be one text. A line more is a row more, unless it is within that text.
    """
    read = csv.reader(itertools.chain(lines, [END]))
    held: Sequence[str] | None = None
    begins = ends = 0
    for row in read:
        if held is not None:
            yield held
        held, begins, ends = row, ends + 1, read.line_num
    if held != [END[1:]]:
        raise csv.Error(f"a quotation mark in the row of line {begins} is never closed")


def _mark(file: Path) -> tuple[int, int]:
    """Return what changes where a file is written to. Raises DiskError."""
    with _blamed(file):
        found = file.stat()
    return found.st_size, found.st_mtime_ns


def _first_of(
    tables: Iterator[pa.Table], rows: int, file: Path, mark: tuple[int, int]
) -> Iterator[pa.Table]:
    """Yield the first `rows` of `tables`. Raises DiskError if `file` was changed since its mark."""
    left = rows
    with _blamed(file):
        for table in tables:
            if _mark(file) != mark:
                break
            yield table.slice(0, left)
            left -= table.num_rows
            if left <= 0:
                return
    what = f"{file.name} was changed while the job read it"
    step = "run the command again: it goes on, or asks for a new --output if the content is another"
    raise DiskError(what, why="the job is known by its sha256", next_step=step)


def _utf8(ids: pa.Array) -> pa.Array:
    """Return `ids` with null for what is no UTF-8: readers of the output refuse a shard for it."""
    try:
        ids.validate(full=True)
    except pa.ArrowInvalid:
        return pa.array([one if isinstance(one, str) else None for one in strings(ids)])
    return ids


def _cell(row: Sequence[str], place: int | None, width: int) -> str | None:
    if place is None or len(row) != width:
        return None
    return row[place] if _is_text(row[place]) else None


def _text(row: Sequence[str], place: int, width: int) -> str | bytes:
    if len(row) != width:
        return BAD_ROW.encode()
    return row[place] if _is_text(row[place]) else NOT_UTF8.encode()


def _is_text(text: str) -> bool:
    """Return whether there are no bytes in `text` that could not be decoded."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bounded(records: Iterator[tuple[object, object]]) -> Iterator[tuple[object, object]]:
    """Yield records up to one with which they have READ_BYTES characters or more."""
    total = 0
    for record in records:
        yield record
        total += len(record[1]) if isinstance(record[1], str) else 0
        if total >= READ_BYTES:
            return


@contextmanager
def _lines(file: Path) -> Iterator[io.BufferedReader]:
    """Open a file of lines behind its mark, and unpack it if its name says so."""
    packing = PACKED.get(file.suffix.lower())
    with pa.input_stream(str(file), compression=packing) as packed:
        lines = io.BufferedReader(packed, READ_BYTES)
        if lines.peek(len(BOM_UTF8)).startswith(BOM_UTF8):
            lines.read(len(BOM_UTF8))
        yield lines


@contextmanager
def _blamed(file: Path) -> Iterator[None]:
    """Raise what is wrong with `file` as what the command ends with."""
    try:
        yield
    except OSError as error:
        what = f"{file.name} cannot be read"
        why = error.strerror or _in_one_line(error)
        raise DiskError(what, why=why, next_step="check the file") from error
    except (pa.ArrowException, csv.Error) as error:
        what = f"{file.name} cannot be read as {kind_of(file)}"
        why = _in_one_line(error)
        raise UsageError(what, why=why, next_step="correct or leave out the file") from error


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
