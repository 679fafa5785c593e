"""The CPython that is locked for this machine's target, as the one that runs the builder.

It is the archive that a bundle's runtime comes from, in the same store, here unpacked whole: with
venv and pip. It lies in bundle/out/bootstrap under the first digits of its sha256.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from bundler.artifacts.download import Patience
from bundler.artifacts.store import Store
from bundler.atomic import disk_error, publish, stage_beside
from bundler.bootstrap import download, interpreters
from bundler.bootstrap.pip_options import pip_options
from bundler.console import Lines
from bundler.errors import IntegrityError, PolicyError, UnreachableError, UnsupportedError
from bundler.locks.runtime import read_lock
from bundler.project import parse_mirrors, parse_toml, read_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from bundler.bootstrap.platforms import Platform
    from bundler.console import Console
    from bundler.locks.runtime import RuntimeSpec
    from bundler.project import Project

NAME_DIGITS = 16


@dataclass(frozen=True)
class Standalone:
    """Where the locked runtime comes from and goes to. `mirror` replaces the recipe's address."""

    project: Project
    store: Path
    mirror: str
    is_offline: bool
    environ: Mapping[str, str]
    console: Console
    patience: Patience

    def program(self, wanted: Platform) -> Path:
        """Return the program of the CPython locked for `wanted`, fetched and unpacked if need be.

        It appears by a rename: of runs that unpack it at once each finds one that is whole. Raises
        UnreachableError, IntegrityError, DiskError, and UnsupportedError where it does not run.
        """
        runtimes = read_lock(self.project.runtime_lock)
        if wanted.target not in runtimes:
            raise UnsupportedError(
                f"no runtime is locked for {wanted.target}",
                why=f"{self.project.runtime_lock.name} holds {', '.join(runtimes) or 'nothing'}",
                next_step="install CPython 3.11 with venv and pip",
            )
        locked = runtimes[wanted.target]
        place = self.project.out / "bootstrap" / locked.artifact.digest.sha256[:NAME_DIGITS]
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

    def _make(self, locked: RuntimeSpec, place: Path, runs: Callable[[], bool]) -> None:
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
                f"{locked.artifact.name} cannot be unpacked", why=f"{type(error).__name__}: {error}"
            ) from error
        except OSError as error:
            raise disk_error(error, place.parent, purpose=f"CPython {locked.version}") from error

    def _archive(self, locked: RuntimeSpec) -> Path:
        """Return the archive in the store, with the locked content."""
        store, artifact, progress = Store(self.store), locked.artifact, Lines(self.console, "fetch")
        if (held := store.held(artifact, progress)) is not None:
            return held
        if self.is_offline:
            raise UnreachableError(
                f"{artifact.name} is not in the store",
                why=f"this run is offline, and {self.store} has no {artifact.name}",
            )
        url = locked.address(self.mirror or _sources(self.project).get("runtime", ""))
        self.console.say(f"fetching CPython {locked.version}, which runs the builder (once)")
        way = download.route(pip_options(self.environ), url)
        return download.fetch(artifact, url, store, way, progress, self.patience)


def unpack(archive: Path, folder: Path) -> None:
    """Fill `folder`, which is empty, with what `archive` has in its one top folder.

    Raises PolicyError for a member that would leave the folder or is no file, link or folder;
    OSError and tarfile.TarError.
    """
    with tarfile.open(archive, "r:gz") as stream:
        for member in stream:
            path = _inside(member.name)
            if path is None:
                continue
            if any((folder / parent).is_symlink() for parent in path.parents):
                raise _refusal(member.name)
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if member.isdir():
                place.mkdir(exist_ok=True)
                continue
            # Two names of terminals differ in case alone, and a Mac's disk takes them for one.
            place.unlink(missing_ok=True)
            if member.issym():
                _require_inside(PurePosixPath(path.parent, member.linkname), member.name)
                place.symlink_to(member.linkname)
            elif member.isreg() or member.islnk():
                # tarfile finds the data of a hard link where it leads to, in the archive.
                with stream.extractfile(member) as source, place.open("wb") as target:  # type: ignore[union-attr]
                    shutil.copyfileobj(source, target)
                place.chmod(0o755 if member.mode & 0o100 else 0o644)
            else:
                raise _refusal(member.name)


def _inside(name: str) -> PurePosixPath | None:
    """Return where a member goes in the folder, None for the top folder itself."""
    path = PurePosixPath(name)
    _require_inside(path, name)
    return PurePosixPath(*path.parts[1:]) if len(path.parts) > 1 else None


def _require_inside(path: PurePosixPath, name: str) -> None:
    """Raise PolicyError if `path`, with its dots resolved, is not below where it begins."""
    normal = os.path.normpath(path.as_posix())
    if path.is_absolute() or normal.startswith("..") or "\\" in normal or ":" in normal:
        raise _refusal(name)


def _refusal(name: str) -> PolicyError:
    return PolicyError(
        f"the runtime's archive holds {name!r}", why="no runtime has such a file in its archive"
    )


def _sources(project: Project) -> dict[str, str]:
    """Return the addresses in the recipe. Raises UsageError."""
    text = read_text(project.recipe, "git checkout bundle")
    return dict(parse_toml(text, project.recipe.name, "git checkout bundle").get("sources", {}))


def suitable_python(
    project: Project, options: argparse.Namespace, wanted: Platform, console: Console
) -> Path:
    """Return a CPython 3.11 that can run the builder: one of this machine's, or the locked one.

    Raises UnreachableError, with what helps on this system, where there is neither; UsageError,
    UnsupportedError, IntegrityError and DiskError.
    """
    program, passed_over = interpreters.find(wanted, os.environ)
    if program is not None:
        return program
    mirrors = parse_mirrors(getattr(options, "mirror", ()), _sources(project))
    standalone = Standalone(
        project=project,
        store=getattr(options, "store", None) or project.store,
        mirror=mirrors.get("runtime", ""),
        is_offline=getattr(options, "offline", False),
        environ=os.environ,
        console=console,
        # Where there is no network, that is soon told.
        patience=Patience(unheard_tries=3),
    )
    try:
        return standalone.program(wanted)
    except UnreachableError as error:
        found = "".join(f"; passed over {one}" for one in passed_over)
        ways = "".join(f"\n    {way}" for way in interpreters.ways(options.command))
        first = f"{error.next_step}; or " if error.next_step else ""
        raise UnreachableError(
            f"the builder needs CPython {interpreters.SERIES}, and can neither find nor fetch one",
            why=f"{error.what}: {error.why}{found}",
            next_step=f"{first}install one, then run the same command again:{ways}",
        ) from error
