from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bundler.inspection import tracer
from bundler.inspection.tracer import TraceReport

if TYPE_CHECKING:
    from pathlib import Path


def traced(root: Path, program: str, *arguments: str) -> tuple[set[tuple[str, str]], str, int]:
    """Run `program`, a file below `root`, traced; return the report, its output, its exit code."""
    record = root.with_name("report")
    done = subprocess.run(
        [sys.executable, "-I", "-B", tracer.__file__, record, root, root / program, *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    lines = record.read_text(encoding="utf-8").splitlines()
    return {(kind, name) for kind, name in map(json.loads, lines)}, done.stdout, done.returncode


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder for programs, with some data."""
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    (root / "data" / "here.txt").write_text("here", encoding="utf-8")
    return root


def write(root: Path, name: str, *lines: str) -> None:
    (root / name).write_text("\n".join(lines), encoding="utf-8")


def test_a_program_runs_as_if_it_were_not_traced(root: Path) -> None:
    write(root, "p.py", "import sys", "print(__name__, sys.argv[1:])", "sys.exit(7)")
    _, output, code = traced(root, "p.py", "--a", "b")
    assert (output, code) == ("__main__ ['--a', 'b']\n", 7)


def test_files_are_noted_whether_they_are_there_or_not(root: Path) -> None:
    write(
        root,
        "p.py",
        "import os, contextlib, pathlib",
        "here = pathlib.Path(__file__).parent",
        "open(here / 'data' / '..' / 'data' / 'here.txt').close()",
        "with contextlib.suppress(OSError): open(bytes(here / 'gone.txt'))",
        "with contextlib.suppress(OSError): os.listdir(here / 'nowhere')",
        "list(os.scandir(here / 'data'))",
        "open(os.devnull).close()",
    )
    report, _, code = traced(root, "p.py")
    assert code == 0
    assert {name for kind, name in report if kind == "open"} == {
        "p.py",
        "data/here.txt",
        "gone.txt",
    }
    assert {("list", "nowhere"), ("list", "data")} <= report


def test_modules_are_noted_however_they_are_looked_for(root: Path) -> None:
    write(
        root,
        "p.py",
        "import importlib, importlib.util",
        "for ask in (__import__, importlib.import_module):",
        "    try: ask(f'gone_{ask.__name__}')",
        "    except ImportError: pass",
        "importlib.util.find_spec('probed')",
        "import csv",
        "try: import json.nothing",
        "except ImportError: pass",
    )
    report, _, code = traced(root, "p.py")
    assert code == 0
    wanted = {"gone___import__", "gone_import_module", "probed", "json.nothing", "csv"}
    assert wanted <= {name for kind, name in report if kind == "module"}


def test_what_was_done_before_a_sudden_end_is_noted(root: Path) -> None:
    write(root, "p.py", "import os", "open(__file__ + '.data', 'w')", "os._exit(0)")
    report, _, _ = traced(root, "p.py")
    assert ("open", "p.py.data") in report


def test_children_are_followed(root: Path) -> None:
    write(root, "child.py", "import sys", "open(__file__ + sys.argv[1], 'w').close()")
    write(
        root,
        "p.py",
        "import asyncio, subprocess, sys",
        "child = __file__.replace('p.py', 'child.py')",
        "subprocess.run([sys.executable, '-I', '-B', child, '.one'], check=True)",
        "async def main():",
        "    command = (sys.executable, '-I', child, '.two')",
        "    assert await (await asyncio.create_subprocess_exec(*command)).wait() == 0",
        "asyncio.run(main())",
    )
    report, _, code = traced(root, "p.py")
    assert code == 0
    assert {("open", "child.py.one"), ("open", "child.py.two")} <= report


@pytest.mark.parametrize(
    "command",
    [
        ["/bin/true", "script.py"],
        [sys.executable, "-c", "pass"],
        [sys.executable, "-m", "json"],
        [sys.executable, "-V"],
        [],
    ],
)
def test_other_children_are_started_as_they_are(tmp_path: Path, command: list[str]) -> None:
    report = TraceReport(str(tmp_path / "report"), str(tmp_path))
    assert report.follow(command) == command


def test_a_descriptor_is_no_path(tmp_path: Path) -> None:
    report = TraceReport(str(tmp_path / "report"), str(tmp_path))
    report.hear("open", (3, "r", 0))
    report.hear("os.listdir", (None,))
    report.hear("compile", (b"", str(tmp_path / "x")))
    assert (tmp_path / "report").read_bytes() == b""


def test_a_name_is_noted_once(tmp_path: Path) -> None:
    report = TraceReport(str(tmp_path / "report"), str(tmp_path))
    for _ in range(3):
        report.hear("open", (str(tmp_path / "x"), "r", 0))
        report.find_spec("m")
    lines = (tmp_path / "report").read_text(encoding="utf-8").splitlines()
    assert lines == ['["open", "x"]', '["module", "m"]']
