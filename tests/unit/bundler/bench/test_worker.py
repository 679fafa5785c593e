from __future__ import annotations

import os
import sys
from contextlib import closing

import pytest

from bundler.bench.worker import Worker
from bundler.errors import ModelError

ECHO = (
    "import json, sys\n"
    "for line in sys.stdin: print(json.dumps({'got': json.loads(line)}), flush=True)"
)
FAIL = 'import sys\nfor line in sys.stdin: print(\'{"error": "no such folder"}\', flush=True)'
DIE = "import sys\nsys.stdin.readline()\nsys.exit('out of memory')"


def worker(code: str) -> Worker:
    return Worker([sys.executable, "-I", "-c", code], environment=os.environ, name="a program")


def test_each_question_has_its_answer() -> None:
    with closing(worker(ECHO)) as asked:
        assert asked.ask(do="x", texts=["é"]) == {"got": {"do": "x", "texts": ["é"]}}
        assert asked.ask(do="y") == {"got": {"do": "y"}}
    assert asked.process.returncode == 0


def test_a_failure_is_told_in_the_programs_own_words() -> None:
    with closing(worker(FAIL)) as asked, pytest.raises(ModelError) as caught:
        asked.ask(do="x")
    assert caught.value.why == "no such folder"


def test_a_program_that_dies_leaves_its_last_words() -> None:
    with closing(worker(DIE)) as asked, pytest.raises(ModelError, match="exit code 1") as caught:
        asked.ask(do="x")
    assert "out of memory" in caught.value.why
