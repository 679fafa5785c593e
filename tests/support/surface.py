"""tests/surface.txt, all that users may rely on: `ci/surface` writes it, a fact a line, sorted."""

from __future__ import annotations

import argparse
import ast
import collections.abc
import dataclasses
import inspect
import json
import os
import re
import tomllib
import typing
from typing import TYPE_CHECKING, Any, cast

from bundler import cli as building
from bundler import errors as building_errors
from bundler.digests import Digest
from bundler.errors import BundlerError
from bundler.locks import models, runtime
from bundler.locks.models import ModelSpec
from bundler.locks.runtime import RuntimeSpec
from sidecar import cli, errors, manifest
from sidecar.errors import ServiceError
from sidecar.process.stdio import PipeEventWriter
from tests.support import surface_http
from tests.support.failures import codes, keys, service_code
from tests.support.pages import ROOT
from tests.support.surface_http import kind_of, members

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LIST = ROOT / "tests/surface.txt"
COMMAND = "ci/surface"
HEAD = f"""\
# What users may rely on, as the code says it; written by `{COMMAND}`, never by hand.
# A line that goes or changes breaks somebody: CHANGELOG.md says so.
"""
DIGEST = "0" * 64
ELECTRON = ROOT / "bundle/electron"
# Tables of the recipe whose keys are names of things: which there are is data, and no contract.
NAMED = {
    *("audit.win.introduced", "diet.contents", "diet.contents.*.without", "diet.rules"),
    *("diet.rules.*.saves", "licences.spellings", "models.catalogue", "runtime.libraries"),
    *("scan.accepted", "targets", "targets.*.without"),
}

# Of the Node package's declarations, which tsc writes (types/*.d.ts).
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
EXPORT = re.compile(
    r"export (?:declare )?(type|class|const|function) (\w+)(.*?)"
    r"(?=^export |^import |^declare |\Z)",
    re.DOTALL | re.MULTILINE,
)
REEXPORT = re.compile(r"export \{ ([\w, ]+) \} from '\./(\w+)\.js'")
IMPORTED = re.compile(r"import\('\./(\w+)\.js'\)\.(\w+)")
OPENING, CLOSING = "{([<", "})]>"


def text() -> str:
    """Return the whole list."""
    return HEAD + "".join(f"{line}\n" for line in sorted(set(_lines())))


def _lines() -> Iterator[str]:
    yield from surface_http.lines()
    yield from (f"option of the service: {option}" for option in _options(cli.parser()))
    yield from (f"option of the service's embed: {o}" for o in _options(cli.embed_parser()))
    yield from _commands()
    yield from _exit_codes()
    yield from _announced()
    yield from _variables()
    yield from _files()
    yield from _node()


def _commands() -> Iterator[str]:
    """Yield the builder's commands and their options, those of `bench` apart: it is no contract."""
    (commands,) = (a for a in building.parser()._actions if isinstance(a.choices, dict))
    for name, parser in dict(commands.choices or {}).items():
        yield f"command: {name}"
        if name != "bench":
            yield from (f"option of {name}: {option}" for option in _options(parser))


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    excluding = {
        action.option_strings[0]: [other.option_strings[0] for other in group._group_actions]
        for group in parser._mutually_exclusive_groups
        for action in group._group_actions
    }
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        said = [" ".join(action.option_strings) or f"argument {action.metavar or action.dest}"]
        takes_value = action.nargs != 0
        if action.choices:
            said[0] += f" {'|'.join(sorted(map(str, action.choices)))}"
        elif takes_value and action.option_strings:
            said[0] += " VALUE"
        if takes_value and action.nargs is not None:
            said.append(f"nargs {action.nargs}")
        if isinstance(action, argparse._AppendAction):
            said.append("repeatable")
        if action.required:
            said.append("required")
        if takes_value and action.default not in (None, [], argparse.SUPPRESS):
            said.append(f"default {action.default}")
        others = excluding.get(action.option_strings[0], []) if action.option_strings else []
        said += [f"excludes {name}" for name in others if name != action.option_strings[0]]
        yield ", ".join(said)


def _exit_codes() -> Iterator[str]:
    for program, found in (
        ("the service", codes(errors, ServiceError)),
        ("the builder", codes(building_errors, BundlerError)),
    ):
        yield from (f"exit code of {program}: {code:2} {name}" for name, code in found.items())


def _announced() -> Iterator[str]:
    """Yield what the lines on stdout hold, by type: keys of the dictionaries that are announced."""
    reader, writer = os.pipe()
    try:
        PipeEventWriter(writer).write_event("ready", {})
        prefix, _, line = os.read(reader, 1 << 10).decode().partition("{")
    finally:
        os.close(reader)
        os.close(writer)
    yield from (f"stdout: {prefix} {key}" for key in json.loads("{" + line))
    for module in service_code():
        for function in ast.walk(module):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _announced_by(function)


def _announced_by(function: ast.AST) -> Iterator[str]:
    for node in ast.walk(function):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="write_event"), args=[ast.Constant(str(event)), data]
            ):
                yield f"stdout: {event}"
                for held in (data, *_assigned(data, function)):
                    yield from (f"stdout: {event} data.{key}" for key in keys(held))
            case _:
                pass


def _assigned(name: ast.expr, function: ast.AST) -> Iterator[ast.expr]:
    """Yield what is assigned, or added with |=, to a variable."""
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[target], value=value):
                pass
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                pass
            case ast.AugAssign(target=target, value=value):
                pass
            case _:
                continue
        if isinstance(name, ast.Name) and isinstance(target, ast.Name) and name.id == target.id:
            yield value


def _variables() -> Iterator[str]:
    """Yield the service's variables of the environment."""
    for module in service_code():
        for node in ast.walk(module):
            match node:
                case ast.Constant(str(name)) if re.fullmatch(r"SIDECAR_[A-Z_]+", name):
                    yield f"variable of the service: {name}"
                case _:
                    pass


def _files() -> Iterator[str]:
    """Yield the keys of the recipe as it is, and of samples of what the builder writes."""
    recipe = tomllib.loads((ROOT / "bundle/recipe.toml").read_text(encoding="utf-8"))
    yield from (f"recipe.toml: {key}" for key in members(recipe, named=NAMED))
    locked = tomllib.loads(models.render_models([_sample(ModelSpec)]))
    yield from (f"models.lock.toml: {key}" for key in members(locked))
    runtimes = tomllib.loads(runtime.render({"linux-x64": _sample(RuntimeSpec)}))
    yield from (f"runtime.lock.toml: {key}" for key in members(runtimes, named={""}))
    written = dataclasses.replace(_sample(manifest.Manifest), schema=manifest.SCHEMA)
    read = json.loads(manifest.encode(written))
    yield f"{manifest.MANIFEST}: schema = {read['schema']}"
    yield from (f"{manifest.MANIFEST}: {key}" for key in members(read, named={"floor"}))
    (row,) = json.loads(manifest.encode_entries([_sample(manifest.FileEntry)]))
    columns = ", ".join(kind_of(value) for value in row)
    yield f"{manifest.MANIFESTS}/COMPONENT.json: a list of [{columns}]"


def _sample(kind: Any) -> Any:
    """Return a value of a type that says something in every field."""
    if kind is Digest:
        return Digest(sha256=DIGEST, size=1)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(
            kind, {**vars(collections.abc), **vars(inspect.getmodule(kind))}
        )
        fields = {field.name: _sample(hints[field.name]) for field in dataclasses.fields(kind)}
        return cast("Any", kind)(**fields)
    first, *others = typing.get_args(kind) or (kind,)
    match typing.get_origin(kind):
        case None:
            return {int: 1, float: 0.5, str: "a"}[kind]
        case collections.abc.Mapping:
            return {"a": _sample(*others)}
        case origin:
            return (_sample(first),) if origin is tuple else _sample(first)


def _node() -> Iterator[str]:
    package: Mapping[str, Any] = json.loads((ELECTRON / "package.json").read_text(encoding="utf-8"))
    yield f"node: package {package['name']}, {package['type']}, node {package['engines']['node']}"
    yield from (f"node: entry {entry}" for entry in package["exports"])
    yield from (f"node: {line}" for line in _exported(ELECTRON / "types"))
    source = (ELECTRON / "src/errors.js").read_text(encoding="utf-8")
    table = source.partition("EXIT_CODES = ")[2].partition("});")[0]
    for code, kind in re.findall(r"^ +(\d+): \['([A-Z_]+)'", table, re.MULTILINE):
        yield f"node: exit code {code:>2} {kind}"
    hooks = (ELECTRON / "builder/hooks.mjs").read_text(encoding="utf-8")
    for name in re.findall(r"^export (?:async function |\{ )(\w+)", hooks, re.MULTILINE):
        yield f"node: hook {name}"


def _exported(folder: Path) -> Iterator[str]:
    """Yield a line for each member of what `folder`/index.d.ts exports.

    Types that those name, and that are not exported themselves, are among them.
    """
    modules = {
        path.name.partition(".")[0]: COMMENT.sub("", path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.d.ts"))
    }
    declared = {
        (module, name): (kind, " ".join(rest.split()))
        for module, text in modules.items()
        for kind, name, rest in EXPORT.findall(text)
    }
    waiting = [
        (module, name.strip())
        for names, module in REEXPORT.findall(modules["index"])
        for name in names.split(",")
    ]
    yield from (f"export {name}" for _, name in waiting)
    aliases = [(module, name) for module, name in declared if module == "index"]
    yield from (f"export type {name}" for _, name in aliases)
    waiting += aliases
    seen = set()
    while waiting:
        entry = waiting.pop()
        if entry in seen or entry not in declared:
            continue
        seen.add(entry)
        module, name = entry
        kind, rest = declared[entry]
        waiting += IMPORTED.findall(rest)
        waiting += [(module, word) for word in re.findall(r"\b[A-Z]\w+", IMPORTED.sub("", rest))]
        rest = IMPORTED.sub(r"\2", rest)
        if rest.rstrip(" ;") != f"= {name}":  # the same type under its own name
            yield from _members(kind, name, rest.strip())


def _members(kind: str, name: str, rest: str) -> Iterator[str]:
    """Yield a line for each member of a declaration, or choice of a union, or one for the whole."""
    if kind == "class":
        head, _, body = rest.partition("{")
        yield f"class {name} {head}".rstrip()
        yield from (f"class {name}: {member}" for member in _parts(body.rpartition("}")[0], ";"))
        return
    rest = rest.rstrip(" ;")
    if kind != "type":
        yield f"{kind} {name}{rest}"
        return
    for choice in _parts(rest.removeprefix("= "), "|"):
        is_object = choice.startswith("{") and choice.endswith("}")
        members = list(_parts(choice[1:-1], ";")) if is_object else []
        if not members or members[0].startswith("type:"):
            yield f"type {name}: {choice}"
        else:
            yield from (f"type {name}: {member}" for member in members)


def _parts(text: str, separator: str) -> Iterator[str]:
    """Yield what `separator` parts in `text`, outside of all brackets; not what is private."""
    depth, part = 0, ""
    for before, character in zip(" " + text, text, strict=False):
        if character in OPENING:
            depth += 1
        elif character in CLOSING and before != "=":
            depth -= 1
        if character == separator and not depth:
            yield from _public(part)
            part = ""
        else:
            part += character
    yield from _public(part)


def _public(part: str) -> Iterator[str]:
    part = part.strip()
    if part and not part.startswith("#"):
        yield part


if __name__ == "__main__":
    LIST.write_text(text(), encoding="utf-8", newline="\n")
