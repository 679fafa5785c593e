from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bundler.targets import host_target
from sidecar.errors import UnreachableError

SERVICE = Path(__file__).parents[3] / "service"


@pytest.fixture
def assembled(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    return runpy.run_path(str(SERVICE / "embed_server.py"), run_name="imported")["assembled"]


def test_the_bundle_of_this_machine_is_found_and_the_whole_one_first(
    assembled: Any, tmp_path: Path
) -> None:
    target = host_target().name
    for name in ("other-x64", f"{target}-lean", target):
        place = tmp_path / "bundle" / "out" / name
        place.mkdir(parents=True)
        if name == "other-x64":
            (place / "manifest.json").touch()
            with pytest.raises(UnreachableError) as caught:
                assembled(tmp_path)
            assert caught.value.next_step.startswith("python3 build assemble")
        else:
            (place / "manifest.json").touch()
            assert assembled(tmp_path) == place


def test_a_checkout_without_a_model_says_which_command_brings_it(tmp_path: Path) -> None:
    (tmp_path / "build" / "bundler").mkdir(parents=True)
    shutil.copytree(SERVICE, tmp_path / "service")
    script = tmp_path / "service" / "embed_server.py"
    done = subprocess.run(
        [sys.executable, script, "--log-format", "text"],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert done.returncode == UnreachableError.exit_code
    assert "python3 build assemble" in done.stderr
