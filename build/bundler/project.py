"""Where things lie in a checkout, and the addresses that people name for the recipe's.

Standard library only: this is known before anything is installed.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import tomllib

from bundler.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VERSION = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)


@dataclass(frozen=True)
class Project:
    """A checkout. Everything made goes below `out`, which git ignores."""

    root: Path

    @classmethod
    def here(cls) -> Project:
        """Return the checkout that this file belongs to."""
        return cls(root=Path(__file__).resolve().parents[2])

    @property
    def service(self) -> Path:
        """The service's sources, shipped as embedding_sidecar/."""
        return self.root / "service"

    @property
    def assembly(self) -> Path:
        """The builder's sources that decide a bundle's bytes."""
        return self.root / "build" / "bundler" / "assembly"

    @property
    def recipe(self) -> Path:
        """The components, the catalogue, the rules."""
        return self.root / "bundle" / "recipe.toml"

    @property
    def runtime_lock(self) -> Path:
        """CPython for every target."""
        return self.root / "bundle" / "runtime.lock.toml"

    @property
    def wheel_lock(self) -> Path:
        """Every wheel, by hash."""
        return self.root / "pdm.lock"

    @property
    def model_lock(self) -> Path:
        """Every model file, by hash."""
        return self.root / "bundle" / "models.lock.toml"

    @property
    def clients(self) -> Path:
        """The clients of other services that the tests run: their locks, and what calls them."""
        return self.root / "tests" / "smoke" / "clients"

    @property
    def golden(self) -> Path:
        """Reference vectors, one file per model."""
        return self.root / "bundle" / "golden"

    @property
    def out(self) -> Path:
        """Everything made here."""
        return self.root / "bundle" / "out"

    @property
    def store(self) -> Path:
        """Verified downloads, by content."""
        return self.out / "store"

    @property
    def version(self) -> str:
        """The version of everything made from this checkout. Raises UsageError."""
        text = (self.service / "sidecar" / "__init__.py").read_text(encoding="utf-8")
        found = VERSION.search(text)
        if found is None:
            raise UsageError("service/sidecar/__init__.py names no __version__")
        return found.group(1)

    def output(self, target: str) -> Path:
        """Where the bundle for `target` goes unless another place is asked for."""
        return self.out / target


def parse_mirrors(given: Iterable[str], sources: Mapping[str, str]) -> Mapping[str, str]:
    """Return the address for each source named in `given`, NAME=ADDRESS. Raises UsageError."""
    mirrors = {}
    for text in given:
        name, _, address = text.partition("=")
        if not address:
            # It may be an address alone, with a password in it.
            raise UsageError(
                "--mirror takes the name of a source and an address",
                why=f"the sources are {', '.join(sorted(sources))}",
                next_step="pass --mirror NAME=ADDRESS",
            )
        if name not in sources:
            raise unknown("source", name, sorted(sources), option="--mirror")
        mirrors[name] = require_address(address, f"--mirror {name}")
    return mirrors


def require_address(address: str, setting: str) -> str:
    """Return the `address` of `setting`. Raises UsageError, without it, if it is none."""
    try:
        urlsplit(address)
    except ValueError as error:
        raise UsageError(
            f"an address of {setting} is none",
            why="its host cannot be read; it is not shown, for it may hold a password",
            next_step=f"correct {setting}",
        ) from error
    return address


def read_text(path: Path, next_step: str = "") -> str:
    """Return the text of a file of the checkout. Raises UsageError, with what brings it back."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"{path.name} cannot be read", why=why, next_step=next_step) from error
    except UnicodeDecodeError as error:
        why = "it is not UTF-8"
        raise UsageError(f"{path.name} cannot be read", why=why, next_step=next_step) from error


def parse_toml(text: str, name: str, next_step: str = "") -> dict[str, Any]:
    """Return the document that `text`, of the file called `name`, is. Raises UsageError."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not TOML", why=str(error), next_step=next_step) from error


def git(root: Path, *words: str) -> tuple[str, ...] | None:
    """Return what git says in the checkout at `root`, by line or NUL; None where it fails."""
    # A hook of another repository that runs this has variables which name that one.
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    try:
        done = subprocess.run(
            ["git", *words],  # noqa: S607 - as PATH has it
            cwd=root,
            env=environment,
            check=True,
            capture_output=True,
            encoding="utf-8",
        )
    except (OSError, subprocess.CalledProcessError, UnicodeDecodeError):
        return None
    return tuple(part for part in done.stdout.replace("\n", "\0").split("\0") if part)
