"""How many of the recorded mutants the unit tests of their package kill: `ci/count mutants`.

A mutant is one line of one function, changed in one place. It is found by both, not by its file, so
that the list outlives moves; one whose line is no longer there is told of and not counted.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "tests/mutants.json"
# Of a mutant that makes its tests wait for ever.
MOST_S = 1800
Outcome = Literal["killed", "survived", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A line of a function, without its indentation, and what it becomes."""

    function: str
    line: str
    into: str

    def apply(self, tree: Path) -> Path | None:
        """Change the line below `tree`; return its file, None unless there is just one."""
        found = [place for path in _modules(tree) for place in self._places(path)]
        if len(found) != 1:
            return None
        module, number = found[0]
        lines = module.read_text(encoding="utf-8").split("\n")
        lines[number] = lines[number].replace(self.line, self.into)
        module.write_text("\n".join(lines), encoding="utf-8")
        return module

    def _places(self, module: Path) -> Iterator[tuple[Path, int]]:
        text = module.read_text(encoding="utf-8")
        if self.line not in text:
            return
        lines, name = text.split("\n"), self.function.rpartition(".")[2]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
                for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                    if lines[number].strip() == self.line:
                        yield module, number


def _modules(tree: Path) -> list[Path]:
    return [path for part in ("build", "service") for path in sorted((tree / part).rglob("*.py"))]


def tests_of(module: Path, tree: Path) -> list[str]:
    """Return the unit tests of the package of `module`: of one that lies at the top, its own."""
    _, package, *inner = module.relative_to(tree).parts
    folder = tree / "tests/unit" / package
    if len(inner) > 1 and (folder / inner[0]).is_dir():
        return [str(folder / inner[0])]
    own = folder.glob(f"test_{module.stem}*.py")
    return [str(path) for path in sorted(own) or sorted(folder.glob("test_*.py"))]


def passes(tests: Iterable[Path | str], tree: Path) -> bool:
    """Return whether unit tests pass on a clone of the checkout, in MOST_S."""
    options = ["-q", "-x", "-n", "2", "-p", "no:randomly"]
    paths = os.pathsep.join(str(tree / part) for part in ("build", "service"))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return not subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=tree,
            env=environment,
            capture_output=True,
            timeout=MOST_S,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        return False


def outcome(mutant: Mutant, tree: Path) -> Outcome:
    """Return what becomes of a mutant in a clone of the checkout, which is as before afterwards."""
    before = {path: path.read_bytes() for path in _modules(tree)}
    module = mutant.apply(tree)
    if module is None:
        return "missing"
    try:
        return "survived" if passes(tests_of(module, tree), tree) else "killed"
    finally:
        module.write_bytes(before[module])


def main() -> int:
    """Run the tests of every recorded mutant on a clone of the checkout, and count."""
    argparse.ArgumentParser(prog="ci/count mutants", description=__doc__).parse_args()
    mutants = [Mutant(**entry) for entry in json.loads(RECORDED.read_bytes())]
    counts: Counter[Outcome] = Counter()
    with TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder) / "checkout"
        # A clone, as tests ask git for what is tracked; below no long path, as sockets have none.
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tree)], check=True)
        tests = {path for module in _modules(tree) for path in tests_of(module, tree)}
        if not passes(sorted(tests), tree):
            sys.stderr.write("the unit tests fail without any mutant\n")
            return 1
        for mutant in mutants:
            found = outcome(mutant, tree)
            counts[found] += 1
            sys.stdout.write(f"{found:8}  {mutant.function}: {mutant.line}  ->  {mutant.into}\n")
            sys.stdout.flush()
    tried = counts["killed"] + counts["survived"]
    sys.stdout.write(f"killed {counts['killed']} of {tried}; missing {counts['missing']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
