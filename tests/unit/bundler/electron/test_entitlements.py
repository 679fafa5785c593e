from __future__ import annotations

import plistlib
from typing import TYPE_CHECKING

import pytest

from bundler.bundle import read_bundle
from bundler.electron.integration import AppPaths, compose
from bundler.project import Project
from bundler.targets import TARGETS
from tests.support import smallbundle

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATES = Project.here().root / "bundle" / "electron" / "builder"
JIT = "com.apple.security.cs.allow-jit"
UNVALIDATED = "com.apple.security.cs.disable-library-validation"
SANDBOX = {"com.apple.security.app-sandbox", "com.apple.security.inherit"}


def rights(root: Path, target: str = "mac-arm64", *, jit: bool) -> dict[str, set[str]]:
    """Return the rights that are written for a bundle, by the file's name without its ending."""
    files = smallbundle.contents(TARGETS[target])
    name = next(name for name in files if name.endswith("er/native.so"))
    files[name] += smallbundle.JIT if jit else b""
    bundle = read_bundle(smallbundle.make(root, target, files))
    place = AppPaths(bundles="../out", integration="build/sidecar")
    written = compose([bundle], place, TEMPLATES).files
    lists = {name: plistlib.loads(written[name]) for name in written if name.endswith(".plist")}
    assert all(value is True for found in lists.values() for value in found.values())
    return {name[len("entitlements.") : -len(".plist")]: set(lists[name]) for name in lists}


@pytest.mark.parametrize("jit", [False, True])
def test_an_app_compiles_and_python_does_if_a_library_asks(tmp_path: Path, jit: bool) -> None:
    own = {JIT} if jit else set()
    assert rights(tmp_path, jit=jit) == {
        "app": {JIT},
        "app.no-team": {JIT, UNVALIDATED},
        "python": own,
        "python.no-team": own | {UNVALIDATED},
        "python.mas": own | SANDBOX,
    }


def test_what_a_library_for_linux_asks_gives_no_right(tmp_path: Path) -> None:
    assert rights(tmp_path, "linux-x64", jit=True)["python"] == set()
