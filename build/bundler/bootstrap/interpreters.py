"""The CPython 3.11 of this machine: on PATH, by Windows' launcher, or among pyenv's; and its start.

A name proves nothing: pyenv's shims stand on PATH for versions that are not active, Windows has
programs that open a shop, and Debian's Python comes without venv. So each one is tried out.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundler.bootstrap.platforms import BITS, MACHINES, PYTHON, output, run_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bundler.bootstrap.platforms import Platform
    from bundler.project import Project

SERIES = ".".join(str(part) for part in PYTHON)
TRIAL_S = 60.0
# On Debian and its kin ensurepip is a package of its own, and venv does nothing without it.
DEBIAN_PACKAGE = f"python{SERIES}-venv"


def without_python(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` without what changes how a Python starts and where it finds modules."""
    return {name: value for name, value in environ.items() if not name.startswith("PYTHON")}


def own_facts() -> dict[str, Any]:
    """Return what a Python is judged by. Its source is also run alone, by other Pythons."""
    # What makes the project's environment, and what pip cannot work without.
    modules = ("venv", "ensurepip", "_ssl", "_ctypes", "zlib")
    return {
        "implementation": sys.implementation.name,
        "version": list(sys.version_info[:3]),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "machine": platform.machine().lower(),
        "executable": sys.executable,
        "missing": [name for name in modules if importlib.util.find_spec(name) is None],
    }


TRIAL = f"""\
from __future__ import annotations
import importlib.util, json, platform, sys
{inspect.getsource(own_facts)}
print(json.dumps(own_facts()))
"""


def own_shortcoming(wanted: Platform) -> str:
    """Return why this Python cannot run the builder, nothing if it can."""
    return shortcoming(own_facts(), wanted)


def shortcoming(facts: Mapping[str, Any], wanted: Platform) -> str:
    """Return why a Python of which `facts` are true cannot run the builder, nothing if it can."""
    version = ".".join(str(part) for part in facts["version"])
    if facts["implementation"] != "cpython" or tuple(facts["version"][:2]) != PYTHON:
        return f"it is {facts['implementation']} {version}, not CPython {SERIES}"
    machine = MACHINES.get(facts["machine"], facts["machine"])
    if (machine, facts["bits"]) != (wanted.machine, BITS):
        return f"it is built for {facts['bits']}-bit {machine}, not for {wanted.machine}"
    if facts["missing"]:
        package = f", which is in {DEBIAN_PACKAGE}" if "ensurepip" in facts["missing"] else ""
        return f"it comes without {', '.join(facts['missing'])}{package}"
    return ""


def find(wanted: Platform, environ: Mapping[str, str]) -> tuple[Path | None, list[str]]:
    """Return a CPython 3.11 that can run the builder, or None, and why others could not."""
    passed_over: list[str] = []
    for command in _candidates(environ):
        facts = ask(command, environ)
        problem = "it does not start" if facts is None else shortcoming(facts, wanted)
        if facts is not None and not problem:
            return Path(facts["executable"] or command[0]), passed_over
        passed_over.append(f"{' '.join(command)}: {problem}")
    return None, passed_over


def ask(command: list[str], environ: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the facts of the Python that `command` starts, None if it starts none."""
    try:
        done = run_program(
            [*command, "-I", "-B", "-"], text=TRIAL, env=without_python(environ), timeout_s=TRIAL_S
        )
        done.check_returncode()
        found: dict[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return found


def _candidates(environ: Mapping[str, str]) -> Iterator[list[str]]:
    """Yield commands that may start a CPython 3.11, the likeliest first."""
    is_windows = sys.platform == "win32"
    folders = [Path(entry) for entry in environ.get("PATH", "").split(os.pathsep) if entry]
    seen = set()
    for program in (folder / f"python{SERIES}{'.exe' * is_windows}" for folder in folders):
        if program.is_absolute() and program not in seen and os.access(program, os.X_OK):
            seen.add(program)
            yield [str(program)]
    if is_windows:
        for launcher in (folder / "py.exe" for folder in folders):
            if launcher.is_file():
                yield [str(launcher), f"-{SERIES}"]
                break
    for program in _pyenv(environ, is_windows=is_windows):
        if os.access(program, os.X_OK):
            yield [str(program)]


def _pyenv(environ: Mapping[str, str], *, is_windows: bool) -> Iterator[Path]:
    """Yield pyenv's CPythons 3.11, newest first, active or not."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home raises where there is none
    default = home / ".pyenv" / "pyenv-win" if is_windows else home / ".pyenv"
    root = Path(environ.get("PYENV_ROOT") or environ.get("PYENV") or default)
    found = [
        (int(path.name.rpartition(".")[2]), path)
        for path in root.glob(f"versions/{SERIES}.*")
        if path.name.rpartition(".")[2].isdecimal()
    ]
    for _, path in sorted(found, reverse=True):
        yield path / "python.exe" if is_windows else path / "bin" / f"python{SERIES}"


# By the program that installs: what it calls CPython 3.11.
INSTALLERS = {
    "linux": {
        "dnf": f"sudo dnf install python{SERIES}",
        "zypper": f"sudo zypper install python{SERIES.replace('.', '')}",
    },
    "darwin": {"brew": f"brew install python@{SERIES}"},
    "win32": {"winget": f"winget install Python.Python.{SERIES}"},
}
UV = f"uv run --no-project --python {SERIES} python build"


def ways(
    command: str,
    *,
    system: str = sys.platform,
    which: Callable[[str], str | None] = shutil.which,
    has_package: Callable[[], bool] | None = None,
) -> list[str]:
    """Return the command lines that help on `system`; `command` is the builder's that was asked."""
    found = [
        line for program, line in INSTALLERS.get(system, {}).items() if which(program) is not None
    ]
    if system == "linux" and which("apt-cache") and (has_package or debian_has_it)():
        found.append(f"sudo apt install {DEBIAN_PACKAGE}")
    is_here = which("uv") is not None
    return [*found, f"{UV} {command}" + ("" if is_here else "   (with uv: pip install uv)")]


def debian_has_it() -> bool:
    """Return whether apt knows the package: newer Debians and Ubuntus have newer Pythons alone."""
    told = output("/usr/bin/apt-cache", "policy", DEBIAN_PACKAGE, LC_ALL="C", PATH="/usr/bin:/bin")
    return "Candidate:" in told and "Candidate: (none)" not in told


def become(program: Path, project: Project, arguments: list[str]) -> int:
    """Run the same command in `program`; where exec is unknown, return its exit code.

    No variable that changes how a Python starts, or where it finds modules, goes along.
    """
    command = [str(program), str(project.root / "build"), *arguments]
    environment = without_python(os.environ)
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
