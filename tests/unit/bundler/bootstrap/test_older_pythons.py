from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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

assert not hasattr(tomllib, "loads")
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
