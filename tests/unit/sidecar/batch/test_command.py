from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING, NoReturn

import pytest

from sidecar import cli
from sidecar.batch import command, job
from sidecar.batch.command import Progress
from sidecar.batch.inputs import Rows
from sidecar.errors import ModelError, UsageError
from sidecar.settings import Settings
from tests.support.batches import files, read
from tests.support.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = ROOT / "service"


def embed(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-B", SERVICE, "embed", "--engine", "hash", *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        env={},
        cwd=cwd,
    )


def test_a_job_tells_what_it_made_and_goes_on(tmp_path: Path) -> None:
    files(tmp_path, {"in.csv": "key,body\na,one two\nb\n"})
    given = ("in.csv", "--output", "out", "--text-column", "body", "--id-column", "key")
    done = embed(*given, cwd=tmp_path)
    told = json.loads(done.stdout)
    assert (done.returncode, told["rows"], told["errors"], told["shards"]) == (0, 2, 1, 1)
    made = read(tmp_path / "out").to_pylist()
    assert [row["error"] for row in made] == [None, "bad-row"]
    assert {row["fingerprint"] for row in made} == {told["fingerprint"]}
    again = embed(*given, cwd=tmp_path)
    assert json.loads(again.stdout) == told
    assert "going on after 2 rows" in again.stderr
    other = embed(*given, "--dtype", "float16", cwd=tmp_path)
    assert (other.returncode, other.stdout) == (2, "")
    assert 'options.dtype was "float32", and is "float16"' in other.stderr


def test_a_run_beside_another_exits_2(tmp_path: Path) -> None:
    files(tmp_path, {"in.csv": "text\na\n"})
    with job.begin(tmp_path / "out", {}):
        done = embed("in.csv", "--output", "out", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "another run writes to out now" in done.stderr


@pytest.mark.parametrize(
    ("streams", "code"),
    [("2>/dev/full", 0), ("2>&- >&-", 0), (">/dev/full 2>said", 6)],
    ids=["full stderr", "closed", "full stdout"],
)
def test_a_job_is_done_whatever_becomes_of_its_streams(
    tmp_path: Path, streams: str, code: int
) -> None:
    files(tmp_path, {"in.csv": "text\na\n"})
    command = [sys.executable, "-I", "-B", str(SERVICE), "embed", "--engine", "hash"]
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {streams}', "sh", *command, "in.csv", "--output", "out"],
        capture_output=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == code
    assert len(read(tmp_path / "out")) == 1
    if code:
        assert "every row is written" in (tmp_path / "said").read_text(encoding="utf-8")


def test_documents_become_a_row_for_each_chunk(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").write_text("some words " * 30, encoding="utf-8")
    done = embed("notes", "--output", "out", "--chunk-size", "100", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = read(tmp_path / "out").to_pylist()
    assert len(made) == json.loads(done.stdout)["rows"] > 3
    assert [row["chunk"] for row in made] == [row["position"] for row in made]
    assert made[0]["text"].startswith("some words")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.csv", "--output", "out"), "there is no none.csv"),
        (("in.csv", "--output", "out", "--text-column", "x"), "no column x"),
        (("in.csv", "--output", "out", "--prompt-name", "query"), "prompt_name"),
        ((".", "--output", "out", "--charset", "klingon"), "charset"),
        (("in.csv", "--output", "out", "--chunk-size", "9"), "--chunk-size is for documents alone"),
        ((".", "--output", "out", "--id-column", "a"), "--id-column is for files of rows alone"),
        (("in.csv",), "--output"),
    ],
    ids=["file", "column", "prompt", "charset", "of documents", "of rows", "output"],
)
def test_what_makes_no_sense_exits_2(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    files(tmp_path, {"in.csv": "text\na\n"})
    done = embed(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output", ["bundle/out", "bundle", "link/out"])
def test_an_output_in_the_bundle_is_refused(tmp_path: Path, output: str) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "bundle")
    told = cli.embed_parser().parse_args(["in.csv", "--output", str(tmp_path / output)])
    with pytest.raises(UsageError, match="is in the bundle"):
        command.run(Settings(bundle=tmp_path / "bundle"), told)


def test_help_names_the_defaults_that_are_its_own() -> None:
    said = " ".join(cli.embed_parser().format_help().split())
    assert "level of the log on stderr (warning)" in said
    assert "an object per line, or text (text)" in said


def test_without_pyarrow_the_profile_that_has_it_is_named(tmp_path: Path) -> None:
    program = (
        "import runpy, sys\n"
        "sys.modules['pyarrow'] = None\n"
        f"sys.argv = ['', 'embed', {str(tmp_path)!r}, '--output', 'out']\n"
        f"runpy.run_path({str(SERVICE)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", program],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "python3 build assemble --profile batch" in done.stderr


class Source:
    total, is_by_row = 1000, True


def progress(*, is_terminal: bool) -> tuple[Progress, list[float], io.StringIO]:
    out, clock = io.StringIO(), [0.0]
    out.isatty = lambda: is_terminal  # type: ignore[method-assign]
    return Progress(out, now=lambda: clock[0]), clock, out


def test_progress_tells_speed_and_time_left_in_lines() -> None:
    told, clock, out = progress(is_terminal=False)
    told.begin(Source(), done=500, rows=500)  # type: ignore[arg-type]
    for _ in range(10):
        clock[0] += 2
        told.add(10, 100)
    assert out.getvalue().splitlines() == [
        "going on after 500 rows",
        "550 rows, 5 rows/s, 50 tokens/s, 1 min 30 s left",
        "600 rows, 5 rows/s, 50 tokens/s, 1 min 20 s left",
    ]


def test_progress_on_a_terminal_is_one_line() -> None:
    told, clock, out = progress(is_terminal=True)
    told.begin(Source(), done=0, rows=0)  # type: ignore[arg-type]
    clock[0] = 1
    told.add(10, 100)
    clock[0] = 7200
    told.end()
    first, second = out.getvalue().split("\r\x1b[K")[1:]
    assert first == "10 rows, 10 rows/s, 100 tokens/s, 1 min 39 s left"
    assert second.endswith("198 h 0 min left\n")


def test_an_error_is_told_below_the_progress(tmp_path: Path) -> None:
    told, _, out = progress(is_terminal=True)
    source = Rows(files(tmp_path, {"in.csv": "text\na\n"}), text_column="text", id_column=None)

    def fail(_: object) -> NoReturn:
        told.add(1, 1)
        raise ModelError("no vectors")

    with pytest.raises(ModelError), job.begin(tmp_path / "out", {}) as work:
        command.embed(work, source, fail, shard_rows=5, progress=told)
    assert out.getvalue().endswith("\n")
