"""Libraries of another program's that the environment brings into the service."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import stub_service
from tests.support.running import ended, running
from tests.support.tinybinaries import elf

if TYPE_CHECKING:
    from pathlib import Path


SERVICE = [sys.executable, "-I", "-B", str(stub_service.ROOT / "service"), "--port", "0"]
HASHING = [*SERVICE, "--engine", "hash"]
SONAME = "libstdc++.so.6"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the variables are those of ld.so")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a library that has the name of the compiler's and nothing in it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no compiler here")
    words = [compiler, "-shared", "-fPIC", "-x", "c", "-", f"-Wl,-soname,{SONAME}"]
    words += ["-o", str(tmp_path / SONAME)]
    subprocess.run(words, input=b"int nothing_of_it;", check=True, capture_output=True)
    return tmp_path


@pytest.mark.parametrize("variable", ["LD_LIBRARY_PATH", "LD_PRELOAD"])
def test_a_foreign_library_exits_10_and_is_named_with_its_variable(
    folder: Path, variable: str
) -> None:
    value = folder if variable == "LD_LIBRARY_PATH" else folder / SONAME
    done = ended(HASHING, environment={variable: str(value)})
    last = json.loads(done.stderr.splitlines()[-1])
    assert (done.returncode, last["exit_code"]) == (10, 10)
    assert (last["variable"], last["library"]) == (variable, SONAME)
    assert SONAME in last["message"]
    assert f"env -u {variable}" in last["next"]
    assert "Traceback" not in done.stderr


def test_a_foreign_file_that_is_no_library_is_named_as_text_too(tmp_path: Path) -> None:
    (tmp_path / SONAME).write_bytes(b"\x7fELF")
    command = [*HASHING, "--log-format", "text"]
    done = ended(command, environment={"LD_LIBRARY_PATH": f"/nowhere:{tmp_path}"})
    assert done.returncode == 10
    assert f"  why: {tmp_path / SONAME}: " in done.stderr


def test_a_foreign_library_that_nothing_needs_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "libother.so.1").write_bytes(elf(soname="libother.so.1"))
    with running(HASHING, environment={"LD_LIBRARY_PATH": str(tmp_path)}) as service:
        service.wait_ready()
        assert "LD_LIBRARY_PATH may load" in service.log
        assert service.stop() == 0


def test_a_foreign_library_that_python_itself_needs_is_named_too(folder: Path) -> None:
    needed = subprocess.run(
        [sys.executable, "-c", "import _ctypes; print(open('/proc/self/maps').read())"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = re.search(r"libffi\.so\.\d+", needed)
    if found is None:
        pytest.skip("this Python has libffi in itself")
    stray = (folder / SONAME).rename(folder / found[0])
    done = ended(HASHING, environment={"LD_LIBRARY_PATH": str(folder), "LD_PRELOAD": str(stray)})
    last = json.loads(done.stderr.splitlines()[-1])
    assert (done.returncode, last["library"]) == (10, stray.name)
    assert "Traceback" not in done.stderr
