"""Runs another program and writes down every file it opens and every module it looks for.

A script for the interpreter of a bundle, standard library only:
`python -I -B tracer.py REPORT ROOT PROGRAM [ARGUMENT...]`. REPORT gets one JSON list a line, of the
kind and the name: a path below ROOT that was opened, or listed, or a module that was looked for.
Interpreters that the program starts with a script of their own are traced, too.

Extension modules and libraries count as opened when they are asked for by name. What the system's
loader or native code opens by itself is not heard of, nor a mere look at whether a file is there.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

OPENED = frozenset({"open", "ctypes.dlopen"})
LISTED = frozenset({"os.listdir", "os.scandir"})


class TraceReport:
    """The report of one process and its children: one line per name, written as it is learnt.

    A process that ends without ceremony has still said all that it did.
    """

    def __init__(self, path: str, root: str) -> None:
        """Append to `path` what is below `root`."""
        self.path = path
        self.root = os.path.join(root, "")  # noqa: PTH118 - no module that a program may lack
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._known: set[tuple[str, str]] = set()

    def add(self, kind: str, name: str) -> None:
        """Write `name` down unless it was before."""
        if (kind, name) in self._known:
            return
        self._known.add((kind, name))
        os.write(self._descriptor, f"{json.dumps([kind, name])}\n".encode())

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take one of the interpreter's audit events (PEP 578); it must never raise."""
        if event == "import":
            self.add("module", arguments[0])
            self._reach("open", arguments[1])
        elif event in OPENED:
            self._reach("open", arguments[0])
        elif event in LISTED:
            self._reach("list", arguments[0])

    def _reach(self, kind: str, place: object) -> None:
        """Note a path below the root; a descriptor, or nothing, is passed over."""
        if not isinstance(place, (str, bytes, os.PathLike)):
            return
        path = os.path.abspath(os.fsdecode(place))  # noqa: PTH100
        if path.startswith(self.root):
            self.add(kind, path[len(self.root) :].replace(os.sep, "/"))

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Note what importlib itself looks for, which no event tells; find nothing."""
        del path, target
        self.add("module", name)

    def follow(self, command: Sequence[Any]) -> list[Any]:
        """Return `command` with this tracer before the script, if it starts our interpreter."""
        words = list(command)
        if not words or words[0] != sys.executable:
            return words
        for place, word in enumerate(words[1:], start=1):
            if word in {"-c", "-m", "-X", "-W"}:
                break
            if not str(word).startswith("-"):
                return [*words[:place], __file__, self.path, self.root, *words[place:]]
        return words


def main() -> None:
    """Trace the program in the arguments; end as it ends."""
    report = TraceReport(sys.argv[1], sys.argv[2])
    del sys.argv[:3]
    start = subprocess.Popen.__init__

    def followed(self: Any, args: Any, *rest: Any, **options: Any) -> None:  # noqa: ANN401
        start(
            self, report.follow(args) if isinstance(args, list | tuple) else args, *rest, **options
        )

    subprocess.Popen.__init__ = followed  # type: ignore[method-assign]
    finder: Any = report
    sys.meta_path.insert(0, finder)
    sys.addaudithook(report.hear)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
