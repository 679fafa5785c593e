"""Whether Windows lets this machine's programs use the paths that a bundle needs.

Without the setting LongPathsEnabled, which Windows 10 has had off since 2016, a file's path has at
most 259 characters and a folder's 247 (Microsoft, "Maximum Path Length Limitation"). Python asks
for the longer ones. Not run on Windows; the tests give a registry of their own.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from bundler.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

KEY = r"SYSTEM\CurrentControlSet\Control\FileSystem"
NAME = "LongPathsEnabled"
LONGEST_FILE = 259
LONGEST_FOLDER = 247


def registry() -> Any:  # noqa: ANN401 - a module that other systems do not have
    """Return Windows' registry, the module winreg; None on other systems."""
    return importlib.import_module("winreg") if os.name == "nt" else None


def is_enabled(winreg: Any) -> bool:  # noqa: ANN401 - as above
    """Return whether paths may be longer; a registry that does not say so says no."""
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, KEY) as key:
            value, _ = winreg.QueryValueEx(key, NAME)
    except OSError:
        return False
    return bool(value == 1)


def require_room(folder: Path, paths: Iterable[str], winreg: Any) -> None:  # noqa: ANN401 - as above
    """Raise UsageError if one of `paths`, below `folder`, is too long for this Windows."""
    head = f"{folder}/"
    beyond = [f"{head}{path}" for path in paths if _is_beyond(f"{head}{path}")]
    if not beyond or is_enabled(winreg):
        return
    longest = max(beyond, key=len)
    raise UsageError(
        f"{len(beyond)} paths would be longer than Windows allows on this machine",
        why=f"{longest} has {len(longest)} characters; without long paths a file's may have "
        f"{LONGEST_FILE}, a folder's {LONGEST_FOLDER}",
        next_step=rf"as administrator: reg add HKLM\{KEY} /v {NAME} /t REG_DWORD /d 1 /f"
        "\n        then open a new terminal; or move the checkout to a shorter folder",
    )


def _is_beyond(path: str) -> bool:
    return _units(path) > LONGEST_FILE or _units(path.rpartition("/")[0]) > LONGEST_FOLDER


def _units(text: str) -> int:
    """Return the length as Windows counts it, in units of UTF-16."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
