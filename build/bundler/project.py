"""Where things lie in a checkout, and what lies at the places that people name.

Standard library only: this is known before anything is installed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import UsageError

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
