"""What a bundle was made from and what was left out of it, in a file beside the bundle.

A component that is taken over from the bundle before keeps its part of that bundle's report. A part
is about a component only if both were made from the same inputs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bundler.atomic import replace_files
from bundler.profiles import DietRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SCHEMA = 1
SUFFIX = ".build-report.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """What a bundle lacks of one file of its inputs: `size` bytes, and the rule that says so.

    `path` is where the file is or would be in the bundle. Without a rule no bundle takes it:
    scripts, headers, foreign bytecode, licences that NOTICES.txt carries.
    """

    path: str
    size: int
    rule: DietRule | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """An input of a component, as it was fetched, and what was left out of it."""

    package: str
    version: str
    file: str
    sha256: str
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentReport:
    """A component, what decided it, and what it was made from."""

    inputs: str
    sources: tuple[SourceReport, ...]


def report_path(bundle: Path) -> Path:
    """Return where the report of the bundle at `bundle` lies."""
    return bundle.with_name(f"{bundle.name}{SUFFIX}")


def write_report(path: Path, components: Mapping[str, ComponentReport]) -> None:
    """Write what is known of the components, by name, to `path`. Raises DiskError."""
    documents = {
        name: {
            "inputs": component.inputs,
            "sources": [
                asdict(replace(source, left_out=())) | {"left_out": _by_rule(source.left_out)}
                for source in component.sources
            ],
        }
        for name, component in components.items()
    }
    document = {"schema": SCHEMA, "components": documents}
    replace_files({path: json.dumps(document, indent=1, ensure_ascii=False) + "\n"})


def read_report(bundle: Path) -> dict[str, ComponentReport]:
    """Return what is known of the components of a bundle; nothing without a report."""
    try:
        document = json.loads(report_path(bundle.absolute()).read_bytes())
        if document["schema"] != SCHEMA:
            return {}
        return {
            name: ComponentReport(
                inputs=component["inputs"],
                sources=tuple(
                    SourceReport(**{**raw, "left_out": tuple(_left_out(raw))})
                    for raw in component["sources"]
                ),
            )
            for name, component in document["components"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _by_rule(left_out: Iterable[LeftOut]) -> dict[str, dict[str, Any]]:
    rules: dict[str, dict[str, Any]] = {}
    for one in left_out:
        why = {"action": one.rule.action, "reason": one.rule.reason} if one.rule else {}
        rule = rules.setdefault(one.rule.name if one.rule else "", {**why, "files": []})
        rule["files"].append([one.path, one.size])
    return rules


def _left_out(source: Mapping[str, Any]) -> Iterable[LeftOut]:
    for name, told in source["left_out"].items():
        rule = None
        if name:
            why = {"action": told["action"], "reason": told["reason"]}
            rule = DietRule(name=name, package=source["package"], paths=(), **why)
        for path, size in told["files"]:
            yield LeftOut(path=path, size=size, rule=rule)
