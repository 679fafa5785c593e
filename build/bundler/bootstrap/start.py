"""The same command again, in a Python that can run the builder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from bundler.artifacts.locations import parse_mirrors
from bundler.bootstrap import download, interpreters
from bundler.bootstrap.standalone import Standalone, strings
from bundler.errors import UnreachableError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from bundler.bootstrap.platforms import Platform
    from bundler.console import Console
    from bundler.project import Project


def become(program: Path, project: Project, arguments: list[str]) -> int:
    """Run the same command in `program`; where exec is unknown, return its exit code.

    No variable that changes how a Python starts, or where it finds modules, goes along.
    """
    command = [str(program), str(project.root / "build"), *arguments]
    environment = interpreters.without_python(os.environ)
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform != "win32":
        os.execve(command[0], command, environment)  # noqa: S606 - no shell is wanted
    return _outwait(command, environment)


def _outwait(command: list[str], environment: dict[str, str]) -> int:
    """Return the exit code of `command`, however often the terminal asks this process to stop.

    Windows gives a Ctrl-C to both processes: the one inside says when it is over.
    """
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGBREAK") if hasattr(signal, name)]
    # Handlers, not SIG_IGN: a child ignores what its parent ignores.
    previous = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        return subprocess.run(command, env=environment, check=False).returncode
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


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
    sources = strings(project.recipe).get("sources", {})
    mirrors = parse_mirrors(getattr(options, "mirror", ()), sources)
    standalone = Standalone(
        project=project,
        store=getattr(options, "store", None) or project.store,
        mirror=mirrors.get("runtime", ""),
        is_offline=getattr(options, "offline", False),
        environ=os.environ,
        console=console,
        patience=download.Patience(),
    )
    try:
        return standalone.program(wanted)
    except UnreachableError as error:
        found = "".join(f"; passed over {one}" for one in passed_over)
        ways = "".join(f"\n    {way}" for way in interpreters.ways(options.command))
        first = f"{error.next_step}; or " if error.next_step else ""
        raise UnreachableError(
            f"the builder needs CPython {interpreters.SERIES}, and can neither find nor fetch one",
            why=f"{error.why}{found}",
            next_step=f"{first}install one, then run the same command again:{ways}",
        ) from error
