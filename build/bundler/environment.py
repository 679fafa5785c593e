"""The project's own Python environment: made from pdm.lock by hash, kept below bundle/out.

Standard library only: this runs before anything is installed. The command line imports it in any
Python from 3.9, but uses it in CPython 3.11 alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundler.atomic import replace_files
from bundler.bootstrap import connection
from bundler.bootstrap.interpreters import without_python
from bundler.bootstrap.pip_options import pip_environment, pip_options
from bundler.bootstrap.platforms import run_program
from bundler.errors import DiskError, IntegrityError, UnreachableError, UsageError
from bundler.project import parse_toml, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from bundler.project import Project

# torch's CPU wheel is on no index that pip asks by itself, so the builder fetches the wheels of
# this group before pip installs it.
FETCHED = "reference"
# How the platform tag of a wheel begins, and what that system calls itself (PEP 508).
SYSTEMS = {"macosx": "darwin", "manylinux": "linux", "win": "win32"}
TAIL_LINES = 30
MISSED = re.compile(r"No matching distribution found for (\S+)")
UNFETCHED = "Could not fetch URL "
# What must be there is what every platform gets: requirements without a marker.
PROOF = """
import importlib, json, sys
from importlib import metadata
wanted = json.load(sys.stdin)
found = {name: metadata.version(name) for name in wanted}
other = [name for name in wanted if found[name] != wanted[name]]
if other:
    sys.exit(f"{other[0]} is {found[other[0]]}, not {wanted[other[0]]}")
files = (file for name in wanted for file in metadata.files(name) or ())
package = next((file.parts[0] for file in files if file.parts[1:] == ("__init__.py",)), None)
if package:
    importlib.import_module(package)
"""


def folder(project: Project) -> Path:
    """Return where the environment lies."""
    return project.out / "env"


def interpreter(project: Project) -> Path:
    """Return the environment's Python."""
    scripts = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    return folder(project) / scripts


def is_inside(project: Project) -> bool:
    """Return whether this process runs in the environment."""
    return os.path.realpath(sys.prefix) == os.path.realpath(folder(project))


def requirements(project: Project, groups: Iterable[str]) -> str:
    """Return pip's requirements for `groups` of pdm.lock: versions pinned, files hashed."""
    wanted = set(groups)
    entries: dict[str, set[str]] = {}
    remedy = "git checkout pdm.lock"
    lock = parse_toml(read_text(project.wheel_lock, remedy), "pdm.lock", remedy)
    for package in lock["package"]:
        if not wanted & set(package.get("groups", ("default",))):
            continue
        line = f"{package['name']}=={package['version']}"
        if marker := _marker(package, is_split=_is_split(lock["package"], package["name"])):
            line += f" ; {marker}"
        entries.setdefault(line, set()).update(file["hash"] for file in package.get("files", ()))
    return "".join(
        f"{line}" + "".join(f" \\\n    --hash={value}" for value in sorted(hashes)) + "\n"
        for line, hashes in sorted(entries.items())
    )


def _marker(package: Mapping[str, Any], *, is_split: bool) -> str:
    """Return where an entry of the lock holds.

    Of a package at two versions, it is the files that say which version is for which system.
    """
    parts = [package["marker"]] if "marker" in package else []
    if is_split:
        tags = [file["file"].removesuffix(".whl").rpartition("-")[2] for file in package["files"]]
        systems = [
            f'sys_platform == "{system}"'
            for start, system in SYSTEMS.items()
            if any(tag.startswith(start) for tag in tags)
        ]
        parts += [" or ".join(systems)] if systems else []
    return " and ".join(f"({part})" if len(parts) > 1 else part for part in parts)


def _is_split(packages: Iterable[Mapping[str, Any]], name: str) -> bool:
    return len({package["version"] for package in packages if package["name"] == name}) > 1


def ensure(project: Project, groups: Iterable[str], say: Callable[[str], None]) -> None:
    """Make the environment hold `groups`, reusing what is there.

    A stamp names the groups that are whole; it is removed before the environment is made and
    written after each part was imported from, so what a killed run left out is done again; two runs
    at once take turns by a lock on a file. Raises UsageError, UnreachableError, IntegrityError and
    DiskError.
    """
    wanted = sorted(set(groups))
    project.out.mkdir(parents=True, exist_ok=True)
    with _turn(project.out / "env.lock", say):
        stamp = project.out / "env.json"
        installed = _installed(project, stamp)
        missing = [group for group in wanted if group not in installed]
        if not missing:
            return
        everything = sorted(set(installed) | set(missing))
        if not installed:
            say("making the project's own environment in bundle/out/env (once)")
            stamp.unlink(missing_ok=True)
            _create(project)
        links = project.out / "links"
        for part in ([group for group in everything if group != FETCHED], everything):
            if set(part) <= set(installed):
                continue
            options = []
            if FETCHED in part:
                # By name: where the group is not locked, the plan of this profile says so.
                safe = ["--only", "wheels", "--profile", "safe"]
                _run_builder(project, ["fetch", *safe, "--links", str(links)])
                options = ["--find-links", str(links)]
            _install(project, part, options, say)
            _prove(project, part)
            shutil.rmtree(links, ignore_errors=True)
            installed = sorted({*installed, *part})
            record = {"groups": installed, "value": _stamp_value(project, installed)}
            replace_files({stamp: json.dumps(record)})


def _stamp_value(project: Project, groups: Iterable[str]) -> str:
    """Return what an environment with `groups` depends on, as one hash."""
    facts = [sys.version, sys.base_prefix, str(folder(project)), requirements(project, groups)]
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()


def _installed(project: Project, stamp: Path) -> list[str]:
    """Return the groups in the environment; none if it was made from something else."""
    try:
        record = json.loads(stamp.read_text(encoding="utf-8"))
        groups: list[str] = record["groups"]
        if record["value"] != _stamp_value(project, groups) or not interpreter(project).exists():
            return []
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return groups


@contextlib.contextmanager
def _turn(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file at `path`, where the platform has such locks; a wait is told."""
    with path.open("a") as stream:
        try:
            import fcntl  # noqa: PLC0415 - not on Windows

            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another run, which makes the environment")
                fcntl.flock(stream, fcntl.LOCK_EX)
        except (ImportError, OSError):
            pass
        yield


def _create(project: Project) -> None:
    where = folder(project)
    shutil.rmtree(where, ignore_errors=True)
    base = getattr(sys, "_base_executable", sys.executable)
    made = run_program([base, "-m", "venv", where], env=without_python(os.environ), is_merged=True)
    if made.returncode:
        lines = made.stdout.strip().splitlines() or ["venv said nothing"]
        raise UsageError(
            "the project's environment cannot be made",
            why=lines[-1],
            next_step="install Python 3.11 with its venv and pip (on Debian: python3.11-venv)",
        )


def _install(
    project: Project, groups: list[str], options: list[str], say: Callable[[str], None]
) -> None:
    """Let pip install, from where the user's configuration says, and to nowhere else."""
    options_of_pip = pip_options(os.environ)
    named = Path(options_of_pip["cert"]) if "cert" in options_of_pip else None
    certificates = connection.for_pip(_site_packages(project), project.out, named)
    listing = project.out / "requirements.txt"
    listing.write_text(requirements(project, groups), encoding="utf-8")
    environment = pip_environment(os.environ, options_of_pip, certificates)
    pip = [str(interpreter(project)), "-m", "pip", "install", "--no-deps", "--no-input"]
    pip += ["--disable-pip-version-check", "--progress-bar", "off", "--only-binary", ":all:"]
    command = [*pip, "--require-hashes", *options, "-r", str(listing)]
    tail: list[str] = []
    seen = 0
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    ) as running:
        for line in running.stdout or ():
            tail = [*tail[1 - TAIL_LINES :], line.rstrip()]
            # What an index keeps on a disk of this machine is processed, not collected.
            if line.startswith(("Collecting ", "Processing ", "Requirement already satisfied")):
                seen += 1
            elif line.startswith("Installing collected"):
                say(f"environment: installing {seen} packages")
    if running.returncode:
        _explain([*_unfetched(pip, environment, tail), *tail])


def _unfetched(pip: list[str], environment: Mapping[str, str], tail: list[str]) -> list[str]:
    """Return why pip could not read the pages of the package that it found nowhere.

    It says so of a refused page only where it says everything, which for all packages is some
    50 MB. So it is asked once more, for that package alone.
    """
    missed = next(filter(None, map(MISSED.search, reversed(tail))), None)
    if missed is None:
        return []
    done = run_program(
        [*pip, "-vv", "--dry-run", "--ignore-installed", missed[1]],
        env={**environment, "PIP_RETRIES": "0"},
        is_merged=True,
    )
    lines = (line.strip() for line in done.stdout.splitlines())
    return [line for line in lines if line.startswith(UNFETCHED)]


def _site_packages(project: Project) -> Path:
    """Return where the environment's packages lie."""
    inside = "Lib" if os.name == "nt" else f"lib/python{sys.version_info[0]}.{sys.version_info[1]}"
    return folder(project) / inside / "site-packages"


def _prove(project: Project, groups: list[str]) -> None:
    """Raise UsageError unless what was installed is in the environment and can be imported."""
    lines = requirements(project, groups).splitlines()
    pinned = [line.split(" \\")[0] for line in lines if not line.startswith(" ")]
    wanted = dict(line.split("==") for line in pinned if " ; " not in line)
    done = run_program([interpreter(project), "-I", "-B", "-c", PROOF], text=json.dumps(wanted))
    if done.returncode:
        raise UsageError(
            "the project's environment does not hold what pip installed",
            why=(done.stderr.strip().splitlines() or ["it said nothing"])[-1],
            next_step=f"remove {folder(project)}, then run the command again",
        )


def _explain(tail: list[str]) -> None:
    """Turn pip's last words into the error they mean."""
    text = "\n".join(tail)
    reason = next((line for line in reversed(tail) if "ERROR" in line), tail[-1] if tail else "")
    if "DO NOT MATCH THE HASHES" in text:
        raise IntegrityError(
            "a package of the environment is not the one we locked",
            why=reason,
            next_step="check the index that pip is configured for, then run the command again",
        )
    if "No space left" in text:
        raise DiskError(
            "the disk is full", why=reason, next_step="free about 3 GB, then run the command again"
        )
    obstacle = connection.recognise(text)
    if obstacle is not None:
        raise UnreachableError(
            f"a package of the environment could not be installed: {obstacle.name}",
            why=next(line for line in reversed(tail) if obstacle.signs.search(line)),
            next_step=obstacle.next_step,
        )
    if "No matching distribution" in text or "onnection" in text or "esolution" in text:
        unfetched = [line for line in tail if line.startswith(UNFETCHED)]
        raise UnreachableError(
            "a package of the environment could not be installed",
            why=next(iter(unfetched), reason),
            next_step="check the network and `pip config list`, then run the command again",
        )
    raise UsageError("pip could not install the environment", why=reason)


def _run_builder(project: Project, arguments: list[str]) -> None:
    """Run a command of ours in the environment; its own words and exit code stand."""
    done = subprocess.run(
        [str(interpreter(project)), str(project.root / "build"), *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=without_python(os.environ),
    )
    if done.returncode:
        raise SystemExit(done.returncode)
