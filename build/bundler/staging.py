"""A folder that is filled beside its place, and takes the place when it is whole.

Its name holds the place's, so that people and other runs see what it belongs to. Windows, where a
path has 259 characters, gets a short one: of the mark a letter, of the place's name a digest.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import time
from typing import TYPE_CHECKING

from bundler import checkpoints
from bundler.atomic import ABANDONED_AFTER_S, rename, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARK = ".sidecar-stage-"
OLD = ".sidecar-old-"
SHORT = {MARK: ".s", OLD: ".o"}
IS_WINDOWS = os.name == "nt"
TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST})


@contextlib.contextmanager
def stage_beside(destination: Path) -> Iterator[Path]:
    """Give an empty folder on the same file system; it and its kin are gone afterwards.

    What a killed run left beside `destination` is swept first. The folder is locked while its
    process lives, in whatever container that is; the lock says no more than "do not sweep this".
    Kin are folders called like the stage, a dot, and a word; a digit is a word.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    sweep(destination)
    with contextlib.ExitStack() as held:
        stage = _create(destination, held)
        try:
            yield stage
        finally:
            for path in _beside(destination, MARK):
                if _owner(path) == stage:
                    shutil.rmtree(path, ignore_errors=True)


def sweep(destination: Path) -> None:
    """Remove what dead runs left beside `destination`; bring back a bundle that was set aside.

    A run killed between the two renames of `publish` leaves no bundle at its place: the old one
    returns, so that nothing is lost.
    """
    for mark in (OLD, MARK):
        for path in _beside(destination, mark):
            with contextlib.ExitStack() as held:
                if not _is_abandoned(_owner(path), held):
                    continue
                if mark == OLD and not destination.exists():
                    rename(path, destination)
                else:
                    shutil.rmtree(path, ignore_errors=True)


def publish(stage: Path, destination: Path) -> None:
    """Put `stage` in the place of `destination`.

    Two renames: a reader sees the old bundle, for a moment none, then the new one; never a
    mixture. A kill between them is healed by `sweep`; where the second one fails the old bundle
    returns at once. If another run publishes in between, the last one stays. Raises OSError.
    """
    aside: Path | None = None
    with contextlib.ExitStack() as held:
        while True:
            _hold(destination, held)
            moved = _name(destination, OLD)
            try:
                rename(destination, moved)
            except FileNotFoundError:
                pass
            else:
                if aside is not None:
                    shutil.rmtree(aside, ignore_errors=True)
                aside = moved
                checkpoints.reach("assemble.aside")
            try:
                rename(stage, destination)
                break
            except OSError as error:
                if error.errno in TAKEN:
                    continue
                if aside is not None:
                    rename(aside, destination)
                raise
        checkpoints.reach("assemble.published")
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)


def _name(destination: Path, mark: str) -> Path:
    while True:
        random = secrets.token_hex(2 if IS_WINDOWS else 6)
        path = destination.with_name(f"{_head(destination, mark)}-{random}")
        if not path.exists():
            return path


def _head(destination: Path, mark: str) -> str:
    """Return what the names begin with of all that runs for `destination` have beside it."""
    if not IS_WINDOWS:
        return f"{mark}{destination.name}"
    # Names that differ by case are one name there.
    digest = hashlib.sha256(destination.name.casefold().encode("utf-8", "surrogatepass"))
    return f"{SHORT[mark]}{digest.hexdigest()[:6]}"


def _beside(destination: Path, mark: str) -> list[Path]:
    """Return what runs for this very destination, and no other, have beside it."""
    spelled = re.compile(re.escape(f"{_head(destination, mark)}-") + r"[0-9a-f]+(\.\w+)?")
    if not destination.parent.is_dir():
        return []
    return sorted(path for path in destination.parent.iterdir() if spelled.fullmatch(path.name))


def _owner(path: Path) -> Path:
    """Return the stage that `path` is, or is kin of."""
    head, _, tail = path.name.rpartition("-")
    return path.with_name(f"{head}-{tail.partition('.')[0]}")


def _create(destination: Path, held: contextlib.ExitStack) -> Path:
    while True:
        stage = _name(destination, MARK)
        try:
            stage.mkdir()
        except FileExistsError:
            continue
        # A sweeper may have come between the two calls: then the folder is no longer ours.
        if _hold(stage, held) is not False and stage.is_dir():
            return stage


def _is_abandoned(folder: Path, held: contextlib.ExitStack) -> bool:
    """Return whether no living run uses `folder`; where locks do not work, after a day."""
    try:
        age_s = time.time() - folder.stat().st_mtime
    except OSError:
        return True
    owned = _hold(folder, held)
    return age_s > ABANDONED_AFTER_S if owned is None else owned


def _hold(folder: Path, held: contextlib.ExitStack) -> bool | None:
    """Lock `folder` until `held` closes; return whether it is ours, None if nothing can tell."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    held.callback(os.close, descriptor)
    return try_lock(descriptor)
