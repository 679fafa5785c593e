"""What a Python is and has: asked of this one as a function, of any other as a program."""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
from typing import Any

# What makes the project's environment, and what pip cannot work without.
MODULES = ("venv", "ensurepip", "_ssl", "_ctypes", "zlib")


def facts() -> dict[str, Any]:
    """Return what `interpreters` judges a Python by."""
    return {
        "implementation": sys.implementation.name,
        "version": list(sys.version_info[:3]),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "machine": platform.machine().lower(),
        "executable": sys.executable,
        "missing": [name for name in MODULES if importlib.util.find_spec(name) is None],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(facts()))
