"""Look a bundle's bill of materials up in a database of vulnerabilities. Needs a network.

Names and versions of packages are sent to the address in the recipe, table [scan], or to --address.
Exit code 7 if one is found that the recipe does not accept.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.bundle import SBOM
from bundler.commands.options import own_bundle

if TYPE_CHECKING:
    from bundler.console import Console
    from bundler.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = "a bundle, or its sbom.cdx.json (this machine's bundle in bundle/out)"
    add("path", type=Path, nargs="?", help=text)
    add("--address", type=_address, metavar="URL", help="another database (the recipe's)")


def _address(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        message = "not an address of a server: http:// or https:// is missing"
        raise argparse.ArgumentTypeError(message)
    return text


def check(options: argparse.Namespace, project: Project) -> None:
    """Refuse a path where there is neither a bundle nor a file."""
    _sbom(options, project)


def _sbom(options: argparse.Namespace, project: Project) -> Path:
    path: Path | None = options.path
    return path if path and path.is_file() else own_bundle(project, path) / SBOM


def run(options: argparse.Namespace, project: Project, console: Console) -> int:
    """Ask; print a line for each finding."""
    from bundler.artifacts.network import Network
    from bundler.artifacts.sources import configured_network
    from bundler.bootstrap.pip_options import pip_options
    from bundler.errors import PolicyError
    from bundler.recipe import read_recipe
    from bundler.release.vulnerabilities import ask, purls

    table = read_recipe(project.recipe).sections.get("scan", {})
    names = purls(_sbom(options, project))
    network = configured_network(pip_options(os.environ), Network())
    found = ask(names, options.address or table["address"], network)
    accepted = table.get("accepted", {})
    for purl, name in found:
        told = f"  accepted: {accepted[name]}" if accepted.get(name) else ""
        sys.stdout.write(f"{name}  {purl}{told}\n")
    refused = [name for _, name in found if not accepted.get(name)]
    console.say(f"{len(names)} packages, {len(found)} findings, {len(refused)} not accepted")
    if refused:
        raise PolicyError(
            "the bundle has known vulnerabilities",
            why=", ".join(sorted(set(refused))),
            next_step="python3 build lock --wheels, or a reason in the recipe's [scan.accepted]",
        )
    return 0
