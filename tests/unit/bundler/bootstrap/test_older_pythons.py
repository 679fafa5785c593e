from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from bundler.bootstrap import _strings
from bundler.locks.runtime import parse_lock
from bundler.project import Project

BUILD = Path(__file__).parents[4] / "build"
# In a process of its own: what it changes is the whole process's. Python 3.9 has no slots.
PROGRAM = """
import dataclasses, sys
known = dataclasses.dataclass

def of_39(cls=None, *, init=True, repr=True, eq=True, order=False, unsafe_hash=False, frozen=False):
    options = dict(init=init, repr=repr, eq=eq, order=order, frozen=frozen)
    return known(cls, **options) if cls else known(**options)

dataclasses.dataclass = of_39
sys.modules.pop("tomllib", None)
from bundler.bootstrap import prepare_older_python
prepare_older_python()
from dataclasses import dataclass
import tomllib

@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    name: str

@dataclass
class Bare:
    name: str

text = 'x = "0"\\n[a.b]\\ny = "1"  # why\\nz = 2\\nlist = [\\n  "c",\\n]\\n'
assert tomllib.loads(text) == {"a.b": {"y": "1"}}
print(Plain(name="a").name, Bare("b").name)
try:
    Plain(name="a").name = "c"
except dataclasses.FrozenInstanceError:
    print("frozen")
"""


def test_newer_options_are_passed_over_and_older_ones_kept() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=BUILD, check=True, capture_output=True, text=True
    )
    assert done.stdout == "a b\nfrozen\n"


def test_of_the_lock_and_the_recipe_every_string_on_a_line_is_read() -> None:
    project = Project.here()
    lock, recipe = (path.read_text("utf-8") for path in (project.runtime_lock, project.recipe))
    assert _strings(lock) == tomllib.loads(lock)
    found, raw = _strings(recipe), tomllib.loads(recipe)
    assert found["sources"] == raw["sources"]
    assert found["bundle"]["default_profile"] == raw["bundle"]["default_profile"]
    for spec in parse_lock(lock).values():
        assert spec.address(raw["sources"]["runtime"]) == spec.url


def test_a_python_without_ctypes_still_reads_the_command_line() -> None:
    # One that was built without libffi must come to where it is told what it lacks.
    program = "import sys; sys.modules['ctypes'] = None; import bundler.cli; bundler.cli.parser()"
    environment = {**os.environ, "PYTHONPATH": str(BUILD.with_name("service"))}
    subprocess.run([sys.executable, "-c", program], cwd=BUILD, check=True, env=environment)
