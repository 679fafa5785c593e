"""The CPython that is locked for this machine's target, as the one that runs the builder.

It is the archive that a bundle's runtime comes from, in the same store, here unpacked whole: with
venv and pip. It lies in bundle/out/bootstrap under the first digits of its sha256.
"""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.artifacts.layout import entry_path
from bundler.atomic import disk_error
from bundler.bootstrap import download, interpreters
from bundler.bootstrap.lockedruntime import locked_runtime, strings
from bundler.bootstrap.pipoptions import pip_options
from bundler.bootstrap.unpack import unpack
from bundler.console import Lines
from bundler.errors import IntegrityError, UnreachableError, UnsupportedError
from bundler.staging import publish, stage_beside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bundler.bootstrap.lockedruntime import LockedRuntime
    from bundler.bootstrap.platforms import Platform
    from bundler.console import Console
    from bundler.project import Project

NAME_DIGITS = 16
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Standalone:
    """Where the locked runtime comes from and goes to. `mirror` replaces the recipe's address."""

    project: Project
    store: Path
    mirror: str
    is_offline: bool
    environ: Mapping[str, str]
    console: Console
    patience: download.Patience

    def program(self, wanted: Platform) -> Path:
        """Return the program of the CPython locked for `wanted`, fetched and unpacked if need be.

        It appears by a rename: of runs that unpack it at once each finds one that is whole. Raises
        UnreachableError, IntegrityError, DiskError, and UnsupportedError where it does not run.
        """
        locked = locked_runtime(self.project.runtime_lock, wanted.target)
        place = self.project.out / "bootstrap" / locked.sha256[:NAME_DIGITS]
        program = place / ("python.exe" if wanted.system == "win32" else "bin/python3.11")
        if self._problem(program, wanted):
            self._make(locked, place, lambda: not self._problem(program, wanted))
        problem = self._problem(program, wanted)
        if problem:
            raise UnsupportedError(
                f"the locked CPython {locked.version} does not run on this machine",
                why=problem,
                next_step=f"remove {place} if it was touched, or install CPython 3.11 with venv",
            )
        return program

    def _problem(self, program: Path, wanted: Platform) -> str:
        if not program.is_file():
            return f"there is no {program}"
        facts = interpreters.ask([str(program)], self.environ)
        return interpreters.shortcoming(facts, wanted) if facts else "it does not start"

    def _make(self, locked: LockedRuntime, place: Path, runs: Callable[[], bool]) -> None:
        """Unpack the archive to `place`, unless what another run put there `runs`."""
        archive = self._archive(locked)
        self.console.say(f"unpacking CPython {locked.version}, which runs the builder (once)")
        try:
            with stage_beside(place) as stage:
                unpack(archive, stage)
                # What is in use by another run must stay where it is.
                if not runs():
                    publish(stage, place)
        except tarfile.TarError as error:
            raise IntegrityError(
                f"{locked.name} cannot be unpacked", why=f"{type(error).__name__}: {error}"
            ) from error
        except OSError as error:
            raise disk_error(error, place.parent, purpose=f"CPython {locked.version}") from error

    def _archive(self, locked: LockedRuntime) -> Path:
        """Return the archive in the store, with the locked content."""
        entry = entry_path(self.store, locked.sha256)
        if entry.is_file():
            if _sha256(entry) == locked.sha256:
                return entry
            self.console.say(f"fetch {locked.name}: its stored copy was damaged; fetching it again")
            entry.unlink()
        if self.is_offline:
            raise UnreachableError(
                f"{locked.name} is not in the store",
                why=f"this run is offline, and {self.store} has no {locked.name}",
            )
        sources = strings(self.project.recipe).get("sources", {})
        url = locked.url(self.mirror or sources.get("runtime", ""))
        self.console.say(f"fetching CPython {locked.version}, which runs the builder (once)")
        return download.fetch(
            download.Wanted(locked.name, url, locked.sha256),
            self.store,
            download.route(pip_options(self.environ), url),
            Lines(self.console, "fetch"),
            self.patience,
        )


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in iter(lambda: stream.read(CHUNK_BYTES), b""):
            found.update(chunk)
    return found.hexdigest()
