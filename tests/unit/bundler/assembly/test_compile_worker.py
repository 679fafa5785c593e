"""The compiler's own program: what it says on its streams, and what it holds."""

from __future__ import annotations

import io
import json
import marshal
import sys
from types import CodeType
from typing import TYPE_CHECKING

from bundler.assembly import compile_worker

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_every_string_of_the_code_is_held() -> None:
    source = (
        "def f(arg, *, other=('deep', frozenset())):\n    cell = 'text'\n    return lambda: cell\n"
    )
    held: list[object] = []
    compile_worker.hold(compile(source, "name.py", "exec"), held)
    assert {"f", "arg", "other", "cell", "text", "deep", "name.py", "f.<locals>.<lambda>"} <= {
        *held
    }


def load(data: bytes) -> CodeType:
    """Return the code in a .pyc."""
    code = marshal.loads(data[16:])  # noqa: S302
    assert isinstance(code, CodeType)
    return code


def test_bytecode_runs() -> None:
    space: dict[str, object] = {}
    exec(load(compile_worker.bytecode(b"x = 6 * 7", "a.py")), space)  # noqa: S102
    assert space["x"] == 42


def answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], jobs: list[list[str]]
) -> object:
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(jobs)))
    compile_worker.main()
    version, said = json.loads(capsys.readouterr().out)
    assert version == list(sys.version_info[:3])
    return said


def test_it_compiles_what_it_can_and_answers_with_what_it_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad, output = tmp_path / "good.py", tmp_path / "bad.py", tmp_path / "out.pyc"
    good.write_text("x = 1\n")
    bad.write_text("x = = 1\n")
    jobs = [[str(good), str(output), "good.py"], [str(bad), str(output), "bad.py"]]
    assert answer(monkeypatch, capsys, jobs) == ""
    assert output.read_bytes() == compile_worker.bytecode(b"x = 1\n", "good.py")
    jobs = [[str(tmp_path / "missing.py"), str(output), "missing.py"]]
    assert "missing.py" in str(answer(monkeypatch, capsys, jobs))


def test_equal_sets_are_one_object_whatever_the_process_knew_before() -> None:
    source = (
        b"def f(x): return x in {'first_word', 'second_word'}\n"
        b"def g(x): return x in {'second_word', 'first_word'}\n"
        b"def h(x): return x in {1, 2}, x in {1.0, 2.0}\n"
    )
    space: dict[str, object] = {}
    code = load(compile_worker.bytecode(source, "a.py"))
    exec(code, space)  # noqa: S102
    f, g, h = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    assert f.co_consts[1] is g.co_consts[1]
    assert [type(next(iter(c))) for c in h.co_consts if isinstance(c, frozenset)] == [int, float]
    first = compile_worker.bytecode(source, "a.py")
    known = [sys.intern(word) for word in ("first_word", "second_word")]
    assert compile_worker.bytecode(source, "a.py") == first
    assert known
