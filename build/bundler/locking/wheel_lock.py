"""Refreshing pdm.lock for every target: pdm resolves, in a folder of its own, and we check."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import tomlkit
from unearth import Link

from bundler.bootstrap.platforms import run_program
from bundler.errors import UnreachableError, UnsupportedError, UsageError
from bundler.locks.wheels import parse_lock, select
from bundler.profiles import GROUPS
from bundler.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from bundler.artifacts.sources import Indexes

# pdm's own names. Its `linux` means glibc 2.17, for which torch has no wheels.
PLATFORMS = {
    "linux-x64": "manylinux_2_28_x86_64",
    "linux-arm64": "manylinux_2_28_aarch64",
    "mac-arm64": "macos_14_0_arm64",
    "win-x64": "windows_amd64",
}
TORCH = "torch-*+cpu-*.whl"
# How pdm begins the lines that say why it stopped.
PROBLEM = re.compile(r"\[\w+\]: |ERROR: |Unable to find a resolution")
SIGNS_OF_NO_NETWORK = ("ConnectError", "ConnectTimeout", "Name or service", "Connection refused")


def configuration(indexes: Indexes, torch_index: str) -> str:
    """Return a pdm.toml that says where torch's CPU build is: a folder that has it, or its index.

    It stays out of pyproject.toml and of git: in there its address would enter the lock's hash, and
    a lock made with a folder would not be valid anywhere else.
    """
    url = next((place for place in indexes.find_links if _holds_torch(place)), None)
    if url is None:
        url = f"{torch_index.rstrip('/')}/torch/"
    elif "://" not in url:
        url = Path(url).absolute().as_uri()
    return tomlkit.dumps({"pypi": {"pytorch": {"url": url, "type": "find_links"}}})


def _holds_torch(place: str) -> bool:
    link = Link(place if "://" in place else Path(place).absolute().as_uri())
    return link.is_file and any(link.file_path.glob(TORCH))


def refresh(
    project: Path,
    settings: str,
    *,
    platforms: Mapping[str, str],
    say: Callable[[str], None],
    groups: Collection[str] = GROUPS,
    python: str = sys.executable,
) -> tuple[str, Mapping[str, int]]:
    """Return a new pdm.lock of `project` for `platforms`, by target, and how many wheels each gets.

    What each gets are the wheels of `groups`; all groups are locked.

    Nothing is written: pdm works on a copy of pyproject.toml, so that neither a half-made lock nor
    a virtual environment is ever left in the checkout. `python` has pdm installed. Raises
    UsageError, UnreachableError, UnsupportedError, and what the lock's own gates raise.
    """
    with tempfile.TemporaryDirectory(prefix="lock.") as name:
        folder = Path(name)
        shutil.copyfile(project / "pyproject.toml", folder / "pyproject.toml")
        (folder / "pdm.toml").write_text(settings, encoding="utf-8")
        lock = folder / "pdm.lock"
        for target, platform in platforms.items():
            say(f"wheels: resolving for {target} (minutes)")
            _run_pdm(folder, platform, python, append=lock.exists())
        text = lock.read_text(encoding="utf-8")
    wheels, missing = check(text, platforms, groups)
    for target, why in missing.items():
        raise UnsupportedError(
            f"the new lock does not serve {target}",
            why=why,
            next_step="check pyproject.toml; the old lock was kept",
        )
    return text, wheels


def check(
    text: str, targets: Iterable[str], groups: Collection[str] = GROUPS
) -> tuple[Mapping[str, int], Mapping[str, str]]:
    """Return how many wheels of `groups` each target gets from a lock, and why others get none.

    Raises UsageError and PolicyError if the lock is not one to be used at all.
    """
    lock = parse_lock(text)
    wheels, missing = {}, {}
    for target in targets:
        try:
            wheels[target] = len(select(lock, TARGETS[target], groups=groups))
        except UnsupportedError as error:
            missing[target] = error.what
    return wheels, missing


def _run_pdm(folder: Path, platform: str, python: str, *, append: bool) -> None:
    command = [python, "-m", "pdm", "lock", "--project", str(folder), "--group", ":all"]
    command += [f"--platform={platform}", "--python===3.11.*", "--implementation=cpython"]
    command += ["--append"] if append else []
    environment = _environment(os.environ, python)
    done = run_program(command, cwd=folder, env=environment, is_merged=True)
    if done.returncode == 0:
        return
    said = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    problems = [line for line in said if PROBLEM.match(line)] or said[-1:]
    is_cut_off = any(sign in line for line in problems for sign in SIGNS_OF_NO_NETWORK)
    raise (UnreachableError if is_cut_off else UsageError)(
        f"pdm cannot lock for {platform}",
        why="; ".join(problems) or f"it ended with {done.returncode}",
        next_step="check the network, `pdm config` and the dependencies in pyproject.toml",
    )


def _environment(inherited: Mapping[str, str], python: str) -> dict[str, str]:
    """Return the environment for pdm: the user's, without what would tie the lock to a project."""
    own = {"PDM_PROJECT", "PDM_LOCKFILE", "PDM_OVERRIDE", "VIRTUAL_ENV", "PYTHONPATH"}
    return {
        **{name: value for name, value in inherited.items() if name not in own},
        "PDM_CHECK_UPDATE": "0",
        "PDM_IGNORE_SAVED_PYTHON": "1",
        "PDM_NON_INTERACTIVE": "1",
        "PDM_PYTHON": python,
        "PDM_USE_VENV": "0",
    }
