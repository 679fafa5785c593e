from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from sidecar.errors import UnsupportedError
from sidecar.process import min_system
from sidecar.process.cpu_features import CpuFeatures

# What the site-packages of an environment may run at every start of Python, by .pth files.
HOOKS = {"_distutils_hack", "_virtualenv", "sitecustomize", "usercustomize"}
NEEDS = {"glibc": "2.28", "glibc forced by": "python/lib/libtorch.so"}


@pytest.mark.parametrize("version", ["2.28", "2.36", "2.100", "3.0"])
def test_a_system_at_or_above_the_floor_passes(version: str) -> None:
    min_system.require(NEEDS, ("glibc", version))


@pytest.mark.parametrize("version", ["2.27", "2.9", "1.99"])
def test_an_older_system_is_named_with_the_floor_and_the_file(version: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        min_system.require(NEEDS, ("glibc", version))
    message = caught.value.render()
    assert caught.value.exit_code == 10
    assert "needs glibc 2.28 or newer" in message
    assert f"this system has glibc {version}; python/lib/libtorch.so" in message
    assert "next: " in message


def test_a_system_without_glibc_is_told_so() -> None:
    with pytest.raises(UnsupportedError, match=r"glibc 2\.28") as caught:
        min_system.require(NEEDS, ("glibc", ""))
    assert "this system has no glibc" in caught.value.why


def test_a_floor_of_another_system_does_not_matter() -> None:
    min_system.require({"macOS": "99.0"}, ("glibc", "2.28"))
    min_system.require({}, ("glibc", ""))


@pytest.mark.skipif(sys.platform != "linux", reason="asks this system's own C library")
def test_this_system_knows_its_own_version() -> None:
    name, version = min_system.present()
    assert name == "glibc"
    assert [int(part) for part in version.split(".")] > [2, 0]


@pytest.mark.parametrize("level", [None, 2, 3, 4])
def test_a_processor_that_is_new_enough_or_does_not_tell_passes(level: int | None) -> None:
    min_system.require_processor(CpuFeatures(level=level))


def test_an_older_processor_is_named_with_what_it_lacks() -> None:
    with pytest.raises(UnsupportedError, match="x86-64-v2 or newer") as caught:
        min_system.require_processor(CpuFeatures(level=1))
    assert caught.value.exit_code == 10
    assert "x86-64-v1" in caught.value.why
    assert "SSE4.2" in caught.value.why
    assert caught.value.next_step


@pytest.mark.parametrize("form", ["", "embed_server.py"])
def test_an_old_processor_exits_10_before_any_native_import(form: str) -> None:
    service = Path(min_system.__file__).parents[2]
    command = [sys.executable, "-I", "-B", "-X", "importtime", str(service / form), "--port", "0"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"SIDECAR_CPU_LACKS": "x86-64-v2"},
    )
    lines = done.stderr.splitlines()
    said = [json.loads(line) for line in lines if not line.startswith("import time:")]
    assert done.returncode == 10, done.stderr
    assert done.stdout == ""
    assert [line["exit_code"] for line in said] == [10]
    assert said[0]["message"].startswith("this program needs a processor")
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time")}
    assert "sidecar.process.min_system" in imported
    packages = {name.partition(".")[0] for name in imported} & set(packages_distributions())
    assert packages <= HOOKS


def test_the_program_says_it_before_it_takes_the_port_or_loads_anything(tmp_path: Path) -> None:
    service = Path(min_system.__file__).parents[2]
    bundle = tmp_path / "bundle"
    place = bundle / "embedding_sidecar"
    place.mkdir(parents=True)
    for path in service.rglob("*.py"):
        target = place / path.relative_to(service)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    manifest = {
        "schema": 1,
        "plan": "0" * 64,
        "papers": "",
        "target": "linux-x64",
        "version": "0",
        "profile": "safe",
        "runtime": {"version": "3.11.9", "source": "host", "executable": "python/bin/python3.11"},
        "default_model": None,
        "models": [],
        "components": [],
        "documents": [],
        "floor": dict.fromkeys(("glibc", "macOS", "Windows"), "99.0"),
        "unreleasable": [],
    }
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    command = [sys.executable, "-I", "-B", str(place), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 10, done.stderr
    assert "99.0 or newer" in done.stderr
    assert done.stdout == ""
