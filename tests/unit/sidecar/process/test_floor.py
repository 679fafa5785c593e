from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.errors import UnsupportedError
from sidecar.process import floor

NEEDS = {"glibc": "2.28", "glibc forced by": "python/lib/libtorch.so"}


@pytest.mark.parametrize("version", ["2.28", "2.36", "2.100", "3.0"])
def test_a_system_at_or_above_the_floor_passes(version: str) -> None:
    floor.require(NEEDS, ("glibc", version))


@pytest.mark.parametrize("version", ["2.27", "2.9", "1.99"])
def test_an_older_system_is_named_with_the_floor_and_the_file(version: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        floor.require(NEEDS, ("glibc", version))
    message = caught.value.render()
    assert caught.value.exit_code == 10
    assert "needs glibc 2.28 or newer" in message
    assert f"this system has glibc {version}; python/lib/libtorch.so" in message
    assert "next: " in message


def test_a_system_without_glibc_is_told_so() -> None:
    with pytest.raises(UnsupportedError, match=r"glibc 2\.28") as caught:
        floor.require(NEEDS, ("glibc", ""))
    assert "this system has no glibc" in caught.value.why


def test_a_floor_of_another_system_does_not_matter() -> None:
    floor.require({"macOS": "99.0"}, ("glibc", "2.28"))
    floor.require({}, ("glibc", ""))


@pytest.mark.skipif(sys.platform != "linux", reason="asks this system's own C library")
def test_this_system_knows_its_own_version() -> None:
    name, version = floor.present()
    assert name == "glibc"
    assert [int(part) for part in version.split(".")] > [2, 0]


def test_the_program_says_it_before_it_takes_the_port_or_loads_anything(tmp_path: Path) -> None:
    service = Path(floor.__file__).parents[2]
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
