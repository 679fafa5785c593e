"""Show what would be assembled, and from which bytes. Nothing is downloaded.

Two plans compare with a text diff: python3 build plan --json > before.json
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bundler.commands.options import add_plan_options, check_plan
from bundler.console import print_lines

if TYPE_CHECKING:
    import argparse

    from bundler.console import Console
    from bundler.project import Project


check = check_plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_plan_options(parser)
    parser.add_argument("--json", action="store_true", help="the whole plan, for review and diff")


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Print the plan."""
    from bundler.build_context import BuildContext, BuildOptions

    plan = BuildContext.gather(BuildOptions.of(options), project, console).plan_only()
    if options.json:
        document = {"id": plan.id, **plan.document()}
        print_lines([json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)])
        return 0
    runtime = plan.document()["runtime"]
    rows = [
        ("plan", plan.id),
        ("target", plan.target),
        ("version", plan.version),
        ("profile", f"{plan.profile}, {len(plan.rules)} rules"),
        ("runtime", f"CPython {runtime['version']}, {runtime['source']}" if runtime else "none"),
        ("wheels", f"{len(plan.wheels)}"),
        *(("model", f"{model.name} = {model.repository}") for model in plan.models),
    ]
    print_lines(f"{name:9}{value}" for name, value in rows)
    return 0
