"""How programs and requests can fail, as the code says: problems by status and kind, exit codes."""

from __future__ import annotations

import ast
from functools import cache
from typing import TYPE_CHECKING

from sidecar.problems import CLIENT_CLOSED, Problem
from sidecar.web.errors import headers_of
from tests.support.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bundler.errors import BundlerError
    from sidecar.errors import ServiceError

ROUTED = {(404, "unknown-path"), (405, "wrong-method")}  # what the framework itself refuses


def raised() -> dict[tuple[int, str], set[str]]:
    """Return the problems that the service's code names, each with the headers written there."""
    found: dict[tuple[int, str], set[str]] = {}
    for module in service_code():
        for node in ast.walk(module):
            match node:
                case ast.Call(
                    func=ast.Name(("Problem" | "_refusal") as name),
                    args=[ast.Constant(str(kind)), *_],
                ):
                    told = {given.arg for given in node.keywords}
                    problem = Problem(kind, "", retry_s=1, closes=True)
                    if problem.status == CLIENT_CLOSED:  # which nobody reads
                        continue
                    headers = set(headers_of(problem))
                    headers -= set() if "retry_s" in told else {"Retry-After"}
                    is_closed = "closes" in told or name == "_refusal"
                    headers -= set() if is_closed else {"Connection"}
                    found.setdefault((problem.status, kind), set()).update(headers)
                case _:
                    pass
    return found


@cache
def service_code() -> tuple[ast.Module, ...]:
    """Return every module of the service, parsed."""
    paths = sorted((ROOT / "service").rglob("*.py"))
    return tuple(ast.parse(path.read_text(encoding="utf-8")) for path in paths)


def keys(node: ast.AST) -> Iterator[str]:
    """Yield the keys that are spelled out in a literal dictionary; none of anything else."""
    for key in node.keys if isinstance(node, ast.Dict) else ():
        match key:
            case ast.Constant(str(name)):
                yield name
            case _:
                pass


def codes(module: object, root: type[ServiceError | BundlerError]) -> dict[str, int]:
    """Return the exit codes of the errors that `module` defines, by the names of their classes."""
    return {
        name: kind.exit_code
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, root)
    }
