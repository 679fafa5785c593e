"""The real electron-builder, from npm, and an app that it packages on this machine.

Electron itself is not fetched: what electron-builder copies in its place does not run.
"""

from __future__ import annotations

import hashlib
import os
import plistlib
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.project import Project
from tests.support.lacking import lack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PROJECT = Project.here()
SOURCES = PROJECT.root / "tests" / "support" / "electron-app"
COPIED = ("package.json", "main.js", "electron-builder.yml", "own.txt", "certify.cjs")
NEXT = "app-builder-lib@27.0.0-alpha.8"
NEXT_SHA256 = "92eed379c546c4ab563ba18ba9b25dea4685d2280214713ece6e9debe60f0c5e"
HELPERS = ("", " (GPU)", " (Plugin)", " (Renderer)")
OUTPUTS = {
    "linux-x64": "linux-unpacked",
    "linux-arm64": "linux-arm64-unpacked",
    "win-x64": "win-unpacked",
    "mac-arm64": "mac-arm64",
}


def installed() -> Path:
    """Return the folder node_modules with electron-builder, installed once for every lock.

    Skips where there is no Node, or its packages cannot be had.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        lack("there is no Node with npm here")
    lock = (SOURCES / "package-lock.json").read_bytes()
    folder = PROJECT.out / "cache" / "electron-builder" / hashlib.sha256(lock).hexdigest()[:16]
    modules = folder / "node_modules"
    if (folder / "complete").is_file():
        return modules
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(SOURCES / name, folder / name)
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
    done = subprocess.run(
        ["npm", "ci", *options], cwd=folder, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode:
        lack(f"npm has no electron-builder for us: {done.stderr.strip()[-300:]}")
    (folder / "complete").touch()
    return modules


def next_schema(folder: Path) -> bytes:
    """Return the schema of configurations of the version to come, from the newest of its trials.

    Its other packages are not all in the registry. Skips where it cannot be had.
    """
    options = ("--ignore-scripts", "--prefer-offline", "--pack-destination", folder)
    done = subprocess.run(
        ["npm", "pack", NEXT, *options], capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode:
        lack(f"npm has no {NEXT} for us: {done.stderr.strip()[-300:]}")
    (archive,) = folder.glob("*.tgz")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == NEXT_SHA256
    with tarfile.open(archive) as members:
        file = members.extractfile("package/scheme.json")
        assert file is not None
        return file.read()


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """What electron-builder did: how it ended, what it said, and where the resources are."""

    code: int
    said: str
    resources: Path


@dataclass(frozen=True, kw_only=True)
class App:
    """An app's folder, and the electron-builder that packages it."""

    root: Path
    modules: Path

    @classmethod
    def make(cls, root: Path, modules: Path) -> App:
        """Write the app's files."""
        root.mkdir()
        for name in COPIED:
            shutil.copyfile(SOURCES / name, root / name)
        return cls(root=root, modules=modules)

    @property
    def integration(self) -> Path:
        """Where `python3 build electron` is to write."""
        return self.root / "build" / "sidecar"

    def package(
        self,
        target: str,
        *options: str,
        environment: Mapping[str, str] | None = None,
    ) -> Packaged:
        """Run electron-builder for one target, to a folder, with Electron's stand-in."""
        system, _, architecture = target.partition("-")
        electron = self.root.parent / f"electron-{system}"
        if not electron.exists():
            self._stand_in(electron, system)
        program = self.modules / "electron-builder" / "cli.js"
        arguments = [f"--{system}", "dir", f"--{architecture}", "--publish", "never"]
        done = subprocess.run(
            ["node", program, *arguments, f"-c.electronDist={electron}", *options],
            cwd=self.root,
            env={**_environment(), **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        output = self.root / "dist" / OUTPUTS[target]
        inside = "Packaged.app/Contents/Resources" if system == "mac" else "resources"
        return Packaged(code=done.returncode, said=done.stdout, resources=output / inside)

    def _stand_in(self, folder: Path, system: str) -> None:
        """Write what electron-builder looks for in Electron's own distribution."""
        folder.mkdir()
        match system:
            case "linux":
                (folder / "electron").write_bytes(b"\x7fELF")
                (folder / "electron").chmod(0o755)
            case "win":
                node(SOURCES / "program.cjs", self.modules, folder / "electron.exe")
            case _:
                contents = folder / "Electron.app" / "Contents"
                _mac_program(contents, "Electron")
                (contents / "Resources").mkdir()
                for helper in HELPERS:
                    name = f"Electron Helper{helper}"
                    _mac_program(contents / "Frameworks" / f"{name}.app" / "Contents", name)


def _mac_program(contents: Path, name: str) -> None:
    (contents / "MacOS").mkdir(parents=True)
    (contents / "MacOS" / name).write_bytes(b"\xcf\xfa\xed\xfe" + bytes(28))
    (contents / "MacOS" / name).chmod(0o755)
    facts = {"CFBundleExecutable": name, "CFBundleIdentifier": "org.example.stand-in"}
    (contents / "Info.plist").write_bytes(plistlib.dumps(facts))


def pretending(log: Path, identity: str = "", team: str = "not set") -> dict[str, str]:
    """Return an environment in which electron-builder signs as on a Mac, with stand-ins.

    Its keychain has one `identity`, of `team`, or none; `log` gets each call to sign.
    """
    return {
        "NODE_OPTIONS": f'--require "{SOURCES / "mac" / "pretend.cjs"}"',
        "CSC_IDENTITY_AUTO_DISCOVERY": "true",
        "MAC_LOG": str(log),
        "MAC_IDENTITY": identity,
        "MAC_TEAM": team,
    }


def _environment() -> dict[str, str]:
    """Return an environment in which nothing is signed, and nothing decides by being CI."""
    unset = ("CSC_", "WIN_CSC_", "USE_HARD_LINKS", "NODE_OPTIONS", "NODE_PATH", "GITHUB_BASE_REF")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
    return {**kept, "CSC_IDENTITY_AUTO_DISCOVERY": "false"}


def node(*arguments: str | os.PathLike[str]) -> str:
    """Run a script that must succeed, and return what it printed."""
    return ran(arguments, check=True).stdout


def ran(
    arguments: Sequence[str | os.PathLike[str]],
    *,
    check: bool = False,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a script by Node."""
    return subprocess.run(
        ["node", *arguments],
        capture_output=True,
        encoding="utf-8",
        check=check,
        env={**os.environ, **(environment or {})},
    )
