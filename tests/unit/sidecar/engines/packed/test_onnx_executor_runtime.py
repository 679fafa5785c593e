from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[5]
SERVICE = ROOT / "service"
PROGRAM = (
    "from sidecar.engines.packed.onnx_executor import onnxruntime; onnxruntime.SessionOptions()"
)


def test_loading_it_leaves_no_file_anywhere(tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    told = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM],
        env=told | {"PYTHONPATH": str(SERVICE), "ORT_DISABLE_TELEMETRY": "0"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(tmp_path.rglob("*")) == [home, temporary]


def test_nothing_else_loads_it() -> None:
    """Whoever imported it first would have it report."""
    importers = set()
    for folder in (SERVICE, ROOT / "build"):
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom)
                    else []
                )
                if any(name.split(".")[0] == "onnxruntime" for name in names):
                    importers.add(path.relative_to(ROOT).as_posix())
    assert importers == {"service/sidecar/engines/packed/onnx_executor.py"}
