"""What runs in whatever Python starts the builder keeps to Python 3.9; the entrance to 2.7."""

from __future__ import annotations

import ast
import fnmatch
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
ENTRANCE = ROOT / "build" / "__main__.py"
FOLDERS = (ROOT / "build", ROOT / "service")
OLDEST = (3, 9)
# Of the standard library: what came after 3.9.
NEWER_MODULES = {"tomllib"}
NEWER_NAMES = {
    "contextlib": {"aclosing", "chdir"},
    "dataclasses": {"KW_ONLY"},
    "datetime": {"UTC"},
    "enum": {"StrEnum", "verify", "ReprEnum"},
    "hashlib": {"file_digest"},
    "itertools": {"pairwise", "batched"},
    "types": {"NoneType", "UnionType", "EllipsisType"},
    "typing": {
        *("Self", "TypeAlias", "ParamSpec", "Concatenate", "TypeGuard", "assert_never", "Never"),
        *("LiteralString", "reveal_type", "NotRequired", "Required", "Unpack", "override"),
        "dataclass_transform",
    },
}
NEWER_ATTRIBUTES = {"bit_count", "hardlink_to", "walk", "orig_argv", "stdlib_module_names"}
NEWER_KEYWORDS = {
    "dataclass": {"slots", "kw_only", "match_args", "weakref_slot"},
    "field": {"kw_only"},
    "zip": {"strict"},
    "TemporaryDirectory": {"ignore_cleanup_errors", "delete"},
    "rmtree": {"onexc"},
}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), feature_version=OLDEST)


def is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def running(tree: ast.Module) -> list[ast.AST]:
    """Return every node but those that only a type checker reads."""
    found: list[ast.AST] = []
    waiting: list[ast.AST] = [node for node in tree.body if not is_for_types(node)]
    while waiting:
        node = waiting.pop()
        found.append(node)
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns"}:
                continue
            children = value if isinstance(value, list) else [value]
            waiting += [child for child in children if isinstance(child, ast.AST)]
    return found


def imports(nodes: list[ast.AST]) -> set[str]:
    """Return the modules that `nodes` import, with what might be a module of a package."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def source(module: str) -> Path | None:
    for folder in FOLDERS:
        path = folder.joinpath(*module.split("."))
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def at_start(tree: ast.Module) -> list[ast.AST]:
    """Return what runs when the module is imported: nothing inside functions."""
    found: list[ast.AST] = []
    waiting: list[ast.AST] = [node for node in tree.body if not is_for_types(node)]
    while waiting:
        node = waiting.pop()
        found.append(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += list(ast.iter_child_nodes(node))
    return found


def modules(folder: str) -> set[str]:
    return {
        f"bundler.{folder}.{path.stem}" for path in (FOLDERS[0] / "bundler" / folder).glob("*.py")
    }


def reached(start: set[str]) -> dict[str, Path]:
    """Return every module of ours that those in `start` import before there is another Python.

    Those of bootstrap are run, others imported; what a function of another imports is not reached.
    """
    found: dict[str, Path] = {}
    waiting = set(start)
    while waiting:
        module = waiting.pop()
        path = source(module)
        if path is None or module in found:
            continue
        found[module] = path
        tree = parsed(path)
        nodes = running(tree) if "bootstrap" in module else at_start(tree)
        waiting |= imports(nodes)
        waiting |= {module.rpartition(".")[0]} - {""}
    return {name: path for name, path in found.items() if not name.endswith(".__init__")}


RUN = reached({"bundler.cli", *modules("bootstrap")})
REACHED = RUN | reached(modules("commands"))
# What `prepare_older_python` gives.
GIVEN = {"dataclass(slots)", "dataclass(kw_only)", "tomllib"}


def test_the_command_line_and_all_of_bootstrap_are_looked_at() -> None:
    assert {"bundler.cli", "bundler.bootstrap.standalone", "sidecar.process.cpu_features"} <= set(
        RUN
    )
    assert {"bundler.commands.up", "bundler.recipe"} <= set(REACHED) - set(RUN)


@pytest.mark.parametrize("module", sorted(REACHED))
def test_a_module_uses_nothing_that_python_3_9_lacks(module: str) -> None:
    tree = parsed(REACHED[module])
    nodes = running(tree) if "bootstrap" in module else at_start(tree)
    problems = []
    for node in nodes:
        if isinstance(node, ast.Import):
            problems += [alias.name for alias in node.names if alias.name in NEWER_MODULES]
        elif isinstance(node, ast.ImportFrom):
            newer = NEWER_NAMES.get(node.module or "", set())
            problems += [alias.name for alias in node.names if alias.name in newer]
        elif isinstance(node, ast.Attribute):
            problems += [node.attr] if node.attr in NEWER_ATTRIBUTES else []
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            newer = NEWER_KEYWORDS.get(name, set())
            problems += [f"{name}({word.arg})" for word in node.keywords if word.arg in newer]
            if name in {"isinstance", "issubclass"} and isinstance(node.args[1], ast.BinOp):
                problems.append(ast.unparse(node))
    assert set(problems) <= GIVEN


@pytest.mark.parametrize("module", sorted(REACHED))
def test_a_module_imports_the_standard_library_and_ours_alone(module: str) -> None:
    tree = parsed(REACHED[module])
    nodes = running(tree) if "bootstrap" in module else at_start(tree)
    tops = {name.partition(".")[0] for name in imports(nodes)}
    assert tops - {"bench", "bundler", "sidecar"} <= sys.stdlib_module_names


@pytest.mark.parametrize("module", sorted(RUN))
def test_a_module_is_linted_for_python_3_9(module: str) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["ruff"]["per-file-target-version"]
    patterns = {pattern for pattern, version in patterns.items() if version == "py39"}
    path = REACHED[module].relative_to(ROOT).as_posix()
    assert any(matches(path, pattern) for pattern in patterns), path


def matches(path: str, pattern: str) -> bool:
    """Return whether a pattern with at most one {group,of,names} is that of `path`."""
    head, _, rest = pattern.partition("{")
    names, _, tail = rest.partition("}")
    spelled = [f"{head}{name}{tail}" for name in names.split(",")]
    return any(fnmatch.fnmatchcase(path, one) for one in spelled)


def test_a_type_checker_finds_nothing_newer_than_the_oldest_that_it_knows() -> None:
    folder = ROOT / "build" / "bundler" / "bootstrap"
    command = [sys.executable, "-m", "mypy", "--python-version", "3.10", "--no-error-summary"]
    command += ["--cache-dir", str(ROOT / "bundle/out/cache/mypy-oldest"), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    # It follows imports inside functions, too, that only the builder's own Python comes to.
    ours = [path.relative_to(ROOT).as_posix() for path in RUN.values()]
    lines = done.stdout.splitlines()
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    found = [line for line in lines if line.partition(":")[0] in ours and ": error: " in line]
    assert [line for line in found if '"tomllib"' not in line] == []


def test_the_entrance_can_be_read_by_any_python() -> None:
    tree = ast.parse(ENTRANCE.read_text(encoding="utf-8"))
    first = next(node for node in tree.body if isinstance(node, ast.Import))
    assert [alias.name for alias in first.names] == ["sys"]
    after = tree.body[tree.body.index(first) + 1]
    assert isinstance(after, ast.If)
    assert "version_info" in ast.unparse(after.test)
    newer = (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.Match)
    assert not [node for node in ast.walk(tree) if isinstance(node, newer)]
