"""A bundle that was damaged: verify names each place, and the service does not load it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bundler.launch import command
from sidecar.manifest import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def damaged(bundle: Path) -> Iterator[Path]:
    """Give a copy whose files are links to the bundle's; what a test spoils is copied first."""
    place = ROOT / "bundle" / "out" / "scratch" / "damaged"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(bundle, place, copy_function=os.link)
    yield place
    shutil.rmtree(place)


def flip(path: Path) -> None:
    """Change one bit of `path`, leaving the file that it is linked to alone."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)


def model_file(bundle: Path, name: str) -> Path:
    return bundle / read(bundle).models[0].snapshot / name


def add(path: Path) -> None:
    path.with_name("extra.bin").write_bytes(b"more")


@pytest.mark.parametrize(
    ("spoil", "name", "named"),
    [
        (flip, "model.safetensors", "model.safetensors"),
        (Path.unlink, "config.json", "config.json"),
        (add, "config.json", "extra.bin"),
    ],
)
def test_a_damaged_model_is_never_loaded_and_the_file_is_named(
    damaged: Path, bundle: Path, spoil: Callable[[Path], None], name: str, named: str
) -> None:
    target = model_file(damaged, name)
    spoil(target)
    try:
        done = subprocess.run(
            command(damaged, ["--port", "0"]),
            capture_output=True,
            text=True,
            timeout=120,
            env={},
            check=False,
        )
    finally:
        target.unlink(missing_ok=True)
        target.with_name("extra.bin").unlink(missing_ok=True)
        os.link(model_file(bundle, name), target)
    assert done.returncode == 4, done.stderr
    assert named in done.stderr
    assert "model_loaded" not in done.stdout


def test_a_lost_manifest_is_damage_too(damaged: Path) -> None:
    manifest = damaged / "manifest.json"
    starting = command(damaged, ["--port", "0"])
    kept = manifest.read_bytes()
    manifest.unlink()
    try:
        done = subprocess.run(
            starting, capture_output=True, text=True, timeout=120, env={}, check=False
        )
    finally:
        manifest.write_bytes(kept)
    assert done.returncode == 4, done.stderr
    assert "manifest.json" in done.stderr


def test_verify_names_a_flipped_bit_a_missing_file_and_an_extra_one(damaged: Path) -> None:
    flip(damaged / "NOTICES.txt")
    (damaged / "sbom.cdx.json").unlink()
    (damaged / "python" / "stray.txt").write_text("stray", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "build", "verify", str(damaged)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 8
    assert "changed: NOTICES.txt" in done.stderr
    assert "missing: sbom.cdx.json" in done.stderr
    assert "extra: python/stray.txt" in done.stderr
