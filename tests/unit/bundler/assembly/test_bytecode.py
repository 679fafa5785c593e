"""Bytecode is the same bytes in any order, process and place, and Python just takes it."""

from __future__ import annotations

import importlib.util
import marshal
import os
import random
import subprocess
import sys
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

import pytest

from bundler.assembly import bytecode, compile_worker
from bundler.errors import DiskError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

PYTHON = Path(sys.executable)
SOURCES = {
    "pkg/__init__.py": "from pkg.first import shared_name\n",
    "pkg/first.py": "shared_name = {'a': 1, 'shared_text': 2}\n"
    "def f(shared_arg): return 'é', '-'\n",
    "pkg/second.py": "class C:\n"
    "    def f(self, shared_arg): return shared_arg in {'b', 'a', 'c'}\n",
    "pkg/third.py": "é = 'shared_text'\nsetattr(object, '-', 1) if 0 else None\n"
    "x = (1.5, b'y', ())\n",
    "lib/site-packages/other/mod.py": "def fail():\n    raise ValueError('shown')\n",
}


def make(root: Path, sources: dict[str, str] | None = None) -> Path:
    """Write the sources below `root`."""
    for path, text in (sources or SOURCES).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return root


def load(data: bytes) -> CodeType:
    """Return the code in a .pyc."""
    code = marshal.loads(data[16:])  # noqa: S302
    assert isinstance(code, CodeType)
    return code


def compiled(root: Path) -> dict[str, bytes]:
    """Return the bytecode below `root`."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.pyc")}


def test_every_source_gets_bytecode_and_stays(tmp_path: Path) -> None:
    heard: list[str] = []
    bytecode.compile_tree(make(tmp_path), interpreter=PYTHON, jobs=2, on_file=heard.append)
    assert heard == sorted(SOURCES)
    assert compiled(tmp_path).keys() == {bytecode.bytecode_path(path) for path in SOURCES}
    assert "pkg/__pycache__/first.cpython-311.pyc" in compiled(tmp_path)
    assert all((tmp_path / path).is_file() for path in SOURCES)


def test_bytecode_is_by_hash_and_unchecked(tmp_path: Path) -> None:
    bytecode.compile_tree(make(tmp_path), interpreter=PYTHON, jobs=1)
    for path in SOURCES:
        data = (tmp_path / bytecode.bytecode_path(path)).read_bytes()
        assert data[:4] == importlib.util.MAGIC_NUMBER
        assert data[4:8] == b"\x01\0\0\0"
        assert data[8:16] == importlib.util.source_hash((tmp_path / path).read_bytes())
        load(data)


def test_names_are_relative_and_start_at_site_packages(tmp_path: Path) -> None:
    bytecode.compile_tree(make(tmp_path), interpreter=PYTHON, jobs=1)
    names = {load(data).co_filename for data in compiled(tmp_path).values()}
    assert "other/mod.py" in names
    assert "pkg/first.py" in names
    assert not any(str(tmp_path).encode() in data for data in compiled(tmp_path).values())


def test_reversed_order_other_places_and_job_counts_change_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {
        f"pkg/m{n}.py": f"shared_name = 'shared_text'\nv{n} = shared_arg = {n}\n" for n in range(90)
    }
    one = make(tmp_path / "one", SOURCES | more)
    two = make(tmp_path / "two" / "élan vital", dict(reversed((SOURCES | more).items())))
    bytecode.compile_tree(one, interpreter=PYTHON, jobs=1)
    forward = bytecode._sources
    monkeypatch.setattr(bytecode, "_sources", lambda root: forward(root)[::-1])
    monkeypatch.setattr(bytecode, "BATCH_FILES", 7)
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    bytecode.compile_tree(two, interpreter=PYTHON, jobs=3)
    assert compiled(one) == compiled(two)
    assert len(compiled(one)) == 95


def test_a_process_full_of_other_strings_writes_the_same_bytes() -> None:
    paths = [
        *Path(compile_worker.__file__).parents[1].rglob("*.py"),
        *Path(os.__file__).parent.glob("*.py"),
    ]
    chosen = random.Random(7).sample(sorted(paths), 40)
    sources = [*(path.read_bytes() for path in chosen), *(s.encode() for s in SOURCES.values())]
    script = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "from bundler.assembly import compile_worker as compiler\n"
        "import hashlib\n"
        "compiler.prepare()\n"
        "sources = [bytes.fromhex(line) for line in sys.stdin.read().split()]\n"
        "keep = [compile(s, 'x', 'exec') for s in sources[::-1]] if sys.argv[2] == 'full' else []\n"
        "order = sources if sys.argv[2] == 'full' else sources[::-1]\n"
        "print('\\n'.join(sorted(hashlib.sha256(compiler.bytecode(s, 'n.py')).hexdigest()"
        " for s in order)))\n"
    )
    folder = str(Path(compile_worker.__file__).parents[2])

    def run(state: str, seed: str) -> bytes:
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script, folder, state],
            input="\n".join(source.hex() for source in sources).encode(),
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout

    assert run("full", "1") == run("clean", "2")


def test_marshal_alone_would_depend_on_what_the_process_holds() -> None:
    """The reason for `hold`: if this fails, CPython has changed and `hold` may go."""
    source = "def only_here_once(): return 'neither_this'\n"
    first = marshal.dumps(compile(source, "n.py", "exec"))
    held = [sys.intern("only_here_once"), sys.intern("neither_this")]
    assert marshal.dumps(compile(source, "n.py", "exec")) != first
    assert held


def test_old_bytecode_goes(tmp_path: Path) -> None:
    make(tmp_path)
    stale = tmp_path / "pkg/__pycache__/gone.cpython-39.pyc"
    stale.parent.mkdir()
    stale.write_bytes(b"stale")
    (tmp_path / "pkg/__pycache__/first.cpython-311.pyc").write_bytes(b"stale")
    bytecode.compile_tree(tmp_path, interpreter=PYTHON, jobs=2)
    assert not stale.exists()
    assert b"stale" not in compiled(tmp_path).values()


def test_what_does_not_compile_is_skipped(tmp_path: Path) -> None:
    bad = {
        "templates/old.py": "print 'python 2'\n",
        "pkg/null.py": "x = 1\0\n",
        "pkg/deep.py": f"x = {'-' * 100_000}1\n",
        "pkg/good.py": "x = '\\d'\n",
    }
    make(tmp_path, bad)
    (tmp_path / "pkg/latin.py").write_bytes(b"x = '\xe9'\n")
    bytecode.compile_tree(tmp_path, interpreter=PYTHON, jobs=2)
    assert list(compiled(tmp_path)) == ["pkg/__pycache__/good.cpython-311.pyc"]
    assert not (tmp_path / "templates/__pycache__").exists()


def test_bytecode_runs_whatever_the_times_of_sources(
    tmp_path: Path,
) -> None:
    make(tmp_path)
    bytecode.compile_tree(tmp_path, interpreter=PYTHON, jobs=1)
    site = tmp_path / "lib/site-packages"
    os.utime(site / "other/mod.py", (1, 1))
    before = compiled(tmp_path)
    run = subprocess.run(
        [sys.executable, "-v", "-c", "import other.mod; other.mod.fail()"],
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "mod.cpython-311.pyc matches" in run.stderr
    assert f'File "{site / "other/mod.py"}", line 2, in fail' in run.stderr
    assert "raise ValueError('shown')" in run.stderr
    assert {path: before[path] for path in before} == {
        path: data for path, data in compiled(tmp_path).items() if path in before
    }


def test_an_empty_tree_has_no_bytecode(tmp_path: Path) -> None:
    bytecode.compile_tree(tmp_path, interpreter=PYTHON, jobs=4)
    assert compiled(tmp_path) == {}


def fake_python(folder: Path, lines: Iterable[str]) -> Path:
    """Write a program that says `lines` and ends."""
    program = folder / "python-fake"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("lines", "why"),
    [(['[[3, 12, 1], ""]'], "Python 3.12.1"), ([], "ended early"), (None, "No such")],
)
def test_another_python_exits_2(tmp_path: Path, lines: list[str] | None, why: str) -> None:
    make(tmp_path / "tree")
    program = tmp_path / "missing" if lines is None else fake_python(tmp_path, lines)
    with pytest.raises(UsageError) as caught:
        bytecode.compile_tree(tmp_path / "tree", interpreter=program, jobs=2)
    assert why in caught.value.why
    assert caught.value.exit_code == 2


def test_a_place_that_cannot_be_written_exits_6(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytecode, "bytecode_path", lambda path: f"nowhere/{path}c")
    with pytest.raises(DiskError, match="cannot be written"):
        bytecode.compile_tree(make(tmp_path), interpreter=PYTHON, jobs=2)
