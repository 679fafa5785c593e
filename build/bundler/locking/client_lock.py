"""Refreshing the locks of the clients of other services that the tests run.

pdm resolves those of Python, and npm those of Node, in folders of their own.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.bootstrap.platforms import run_program
from bundler.errors import UsageError
from bundler.locking import wheel_lock
from bundler.project import parse_toml, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WHEELS = "pdm.lock"
PACKAGES = "package-lock.json"
# What npm reads: .npmrc says that a lock names no registry.
READ_BY_NPM = ("package.json", ".npmrc")
# Where the tests run.
PLATFORMS = {
    name: platform for name, platform in wheel_lock.PLATFORMS.items() if name.startswith("linux-")
}


def refresh(clients: Path, *, say: Callable[[str], None]) -> Mapping[Path, str]:
    """Return new locks of the folder `clients`, by path. Nothing is written.

    Raises UsageError, and what wheel_lock.refresh raises.
    """
    wanted = parse_toml(read_text(clients / "pyproject.toml"), "pyproject.toml")
    text, _ = wheel_lock.refresh(
        clients, "", platforms=PLATFORMS, groups=set(wanted["dependency-groups"]), say=say
    )
    say("clients: resolving for Node")
    return {clients / WHEELS: text, clients / PACKAGES: _packages(clients)}


def _packages(clients: Path) -> str:
    npm = shutil.which("npm")
    if npm is None:
        raise UsageError("there is no npm on PATH", next_step="install Node.js with npm")
    with tempfile.TemporaryDirectory(prefix="lock.") as name:
        folder = Path(name)
        for file in READ_BY_NPM:
            shutil.copyfile(clients / file, folder / file)
        command = [npm, "install", "--package-lock-only", "--ignore-scripts"]
        done = run_program(command, cwd=folder, is_merged=True)
        if done.returncode:
            raise UsageError("npm cannot lock the clients", why=done.stdout.strip()[-500:])
        return (folder / PACKAGES).read_text(encoding="utf-8")


def versions(clients: Path) -> dict[str, str]:
    """Return the locked version of each client that is asked for, by name; npm's with `npm:`.

    It is none where nothing is locked yet.
    """
    found: dict[str, str] = {}
    if (lock := clients / WHEELS).exists():
        wanted = parse_toml(read_text(clients / "pyproject.toml"), "pyproject.toml")
        names = {name for group in wanted["dependency-groups"].values() for name in group}
        packages = parse_toml(read_text(lock), WHEELS)["package"]
        found |= {one["name"]: one["version"] for one in packages if one["name"] in names}
    if (lock := clients / PACKAGES).exists():
        wanted = json.loads(read_text(clients / "package.json"))
        packages = json.loads(read_text(lock))["packages"]
        for name in (*wanted["dependencies"], *wanted["devDependencies"]):
            found[f"npm:{name}"] = packages[f"node_modules/{name}"]["version"]
    return found
