"""What a bundle was made from and what was left out of it, in a file beside the bundle.

A component that is taken over from the bundle before keeps its part of that bundle's report. A part
is about a component only if both were made from the same inputs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
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
    document = {
        "schema": SCHEMA,
        "components": {
            name: {
                "inputs": component.inputs,
                "sources": [_source_document(source) for source in component.sources],
            }
            for name, component in components.items()
        },
    }
    text = json.dumps(document, indent=1, ensure_ascii=False)
    replace_files({path: f"{text}\n"})


def read_report(bundle: Path) -> dict[str, ComponentReport]:
    """Return what is known of the components of a bundle; nothing without a report."""
    try:
        document = json.loads(report_path(bundle.absolute()).read_bytes())
        if document["schema"] != SCHEMA:
            return {}
        return {
            name: ComponentReport(
                inputs=component["inputs"],
                sources=tuple(_source(source) for source in component["sources"]),
            )
            for name, component in document["components"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _source_document(source: SourceReport) -> dict[str, Any]:
    rules: dict[str, dict[str, Any]] = {}
    for one in source.left_out:
        name = one.rule.name if one.rule else ""
        if name not in rules:
            why = {"action": one.rule.action, "reason": one.rule.reason} if one.rule else {}
            rules[name] = {**why, "files": []}
        rules[name]["files"].append([one.path, one.size])
    return {
        "package": source.package,
        "version": source.version,
        "file": source.file,
        "sha256": source.sha256,
        "left_out": rules,
    }


def _source(raw: Mapping[str, Any]) -> SourceReport:
    return SourceReport(
        package=raw["package"],
        version=raw["version"],
        file=raw["file"],
        sha256=raw["sha256"],
        left_out=tuple(_left_out(raw["package"], raw["left_out"])),
    )


def _left_out(package: str, rules: Mapping[str, Any]) -> Iterable[LeftOut]:
    for name, told in rules.items():
        rule = None
        if name:
            rule = DietRule(
                name=name,
                package=package,
                action=told["action"],
                reason=told["reason"],
                paths=(),
                profiles=(),
            )
        for path, size in told["files"]:
            yield LeftOut(path=path, size=size, rule=rule)
