"""Bytecode for every source file of a tree, the same bytes whatever machine or order made it.

Files are hash-based and unchecked (PEP 552): nothing looks at times, so copying and signing a
bundle never makes Python write into it. The file name inside is relative, which serves every
target; Python puts the real path in when it imports, so tracebacks find their lines.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, cast

from bundler.errors import DiskError, UsageError
from bundler.targets import PYTHON
from bundler.tree import compiler
from sidecar.process.children import needed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TAG = f"cpython-{PYTHON[0]}{PYTHON[1]}"
BATCH_FILES = 32
SITE_PACKAGES = "site-packages/"
Job = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What was done: POSIX paths from the root of the bytecode written, sorted, and its bytes.

    `skipped` names sources that do not compile (templates, test data) with Python's reason.
    """

    written: tuple[str, ...]
    size: int
    skipped: tuple[tuple[str, str], ...]


def compile_tree(
    root: Path,
    *,
    interpreter: Path,
    jobs: int,
    prefix: str = "",
    on_file: Callable[[str], None] = lambda _: None,
) -> Compiled:
    """Compile every .py file below `root` with `interpreter`, a Python 3.11, in `jobs` processes.

    Bytecode that was there goes first. A file's name in its code is its path below the nearest
    site-packages, or below `root`, after `prefix`. `on_file` hears each source's path when it is
    done, from this thread. A killed run leaves a tree to compile again, so compile before a tree
    is published. Raises UsageError for another Python, DiskError.
    """
    sources = _sources(root)
    for folder in sorted(root.rglob("__pycache__"), reverse=True):
        shutil.rmtree(folder)
    for folder in {(root / path).parent for path in sources}:
        (folder / "__pycache__").mkdir()
    batches = [sources[at : at + BATCH_FILES] for at in range(0, len(sources), BATCH_FILES)]
    written, skipped, size = [], [], 0
    with ExitStack() as stack:
        pool = _Pool(stack, interpreter, max(1, min(jobs, len(batches))))
        requests = [[_job(root, path, prefix) for path in batch] for batch in batches]
        for batch, reasons in zip(batches, pool.answers(requests), strict=True):
            for path, reason in zip(batch, reasons, strict=True):
                if reason:
                    skipped.append((path, reason))
                else:
                    written.append(bytecode_path(path))
                    size += (root / written[-1]).stat().st_size
                on_file(path)
    for path, _ in skipped:
        cache = (root / path).parent / "__pycache__"
        if cache.is_dir() and not any(cache.iterdir()):
            cache.rmdir()
    return Compiled(written=tuple(sorted(written)), size=size, skipped=tuple(skipped))


def bytecode_path(source: str) -> str:
    """Return where the bytecode of the POSIX path `source` lies (PEP 3147)."""
    folder, slash, name = source.rpartition("/")
    return f"{folder}{slash}__pycache__/{name.removesuffix('.py')}.{TAG}.pyc"


def _sources(root: Path) -> list[str]:
    """Return the POSIX paths of the sources below `root`, sorted."""
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if path.is_file() and "__pycache__" not in path.parts
    )


def _job(root: Path, path: str, prefix: str) -> Job:
    """Return the source, the output and the name in the code, for the worker."""
    name = prefix + path.rpartition(SITE_PACKAGES)[2]
    return str(root / path), str(root / bytecode_path(path)), name


class _Pool:
    """Worker processes, each used by one thread at a time."""

    def __init__(self, stack: ExitStack, interpreter: Path, size: int) -> None:
        """Start `size` workers, stopped when `stack` closes. Raises UsageError."""
        self._size = size
        self._idle: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
        for _ in range(size):
            worker = _start(interpreter)
            stack.callback(_stop, worker)
            version = tuple(_answer(worker, interpreter))
            if version[:2] != PYTHON:
                raise _unusable(interpreter, f"it is Python {'.'.join(map(str, version))}")
            self._idle.put(worker)

    def answers(self, requests: Sequence[list[Job]]) -> Iterator[list[str]]:
        """Yield the workers' answers, in the order of `requests`."""
        with ThreadPoolExecutor(max_workers=self._size) as threads:
            yield from threads.map(self._ask, requests)

    def _ask(self, request: list[Job]) -> list[str]:
        worker = self._idle.get()
        try:
            stdin = cast("IO[str]", worker.stdin)
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            return [str(reason) for reason in _answer(worker, Path(str(worker.args)))]
        finally:
            self._idle.put(worker)


def _start(interpreter: Path) -> subprocess.Popen[str]:
    """Start a worker that sees no settings of ours. Raises UsageError."""
    flags = ("-s", "-S", "-P", "-B", "-X", "utf8", "-W", "ignore")
    try:
        return subprocess.Popen(
            [interpreter, *flags, compiler.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONHASHSEED": "0", **needed(os.environ)},
            encoding="utf-8",
        )
    except OSError as error:
        raise _unusable(interpreter, error.strerror or str(error)) from error


def _stop(worker: subprocess.Popen[str]) -> None:
    """End a worker and wait for it, whatever it is doing."""
    worker.kill()
    worker.communicate()


def _answer(worker: subprocess.Popen[str], interpreter: Path) -> list[object]:
    """Return what the worker says next. Raises DiskError where it cannot write, UsageError."""
    line = cast("IO[str]", worker.stdout).readline()
    if not line:
        raise _unusable(interpreter, f"it ended early, with code {worker.wait()}")
    answer = json.loads(line)
    if isinstance(answer, str):
        raise DiskError(
            "bytecode cannot be written",
            why=answer,
            next_step="free some space and run the same command again",
        )
    return list(answer)


def _unusable(interpreter: Path, why: str) -> UsageError:
    """Return the error for an interpreter that does not work."""
    return UsageError(
        f"{interpreter.name} cannot compile for this bundle",
        why=why,
        next_step=f"pass a Python {PYTHON[0]}.{PYTHON[1]} that starts",
    )
