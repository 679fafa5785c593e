"""How to come by a CPython 3.11 on this system, as commands that work on it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from bundler.bootstrap.interpreters import DEBIAN_PACKAGE, SERIES

if TYPE_CHECKING:
    from collections.abc import Callable

# By the program that installs: what it calls CPython 3.11.
INSTALLERS = {
    "linux": {
        "dnf": f"sudo dnf install python{SERIES}",
        "zypper": f"sudo zypper install python{SERIES.replace('.', '')}",
    },
    "darwin": {"brew": f"brew install python@{SERIES}"},
    "win32": {"winget": f"winget install Python.Python.{SERIES}"},
}
UV = f"uv run --no-project --python {SERIES} python build"


def ways(
    command: str,
    *,
    system: str = sys.platform,
    which: Callable[[str], str | None] = shutil.which,
    has_package: Callable[[], bool] | None = None,
) -> list[str]:
    """Return the command lines that help on `system`; `command` is the builder's that was asked."""
    found = [
        line for program, line in INSTALLERS.get(system, {}).items() if which(program) is not None
    ]
    if system == "linux" and which("apt-cache") and (has_package or debian_has_it)():
        found.append(f"sudo apt install {DEBIAN_PACKAGE}")
    is_here = which("uv") is not None
    return [*found, f"{UV} {command}" + ("" if is_here else "   (with uv: pip install uv)")]


def debian_has_it() -> bool:
    """Return whether apt knows the package: newer Debians and Ubuntus have newer Pythons alone."""
    try:
        done = subprocess.run(
            ["/usr/bin/apt-cache", "policy", DEBIAN_PACKAGE],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return "Candidate:" in done.stdout and "Candidate: (none)" not in done.stdout
