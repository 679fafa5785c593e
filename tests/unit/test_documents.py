"""Check the documents: commands, options, figures, links, and the data that they show."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
import yaml  # type: ignore[import-untyped]

from bundler.cli import COMMANDS, parser
from bundler.errors import BundlerError, UnreachableError
from bundler.recipe import read_recipe
from bundler.release.contents import models_of
from sidecar import __version__
from tests.support.pages import DOCUMENTS, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE = "docs/commands.md"


def test_commands_page_has_a_row_for_every_command() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    rows = re.findall(r"^\| `python3 build ([\w-]+)", text, re.MULTILINE)
    assert sorted(rows) == sorted(command.name for command in COMMANDS)


def test_options_in_the_rows_of_commands_exist() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    for name, row in re.findall(
        r"^\| `python3 build ([\w-]+)[^`]*` \| (.*) \|$", text, re.MULTILINE
    ):
        done = subprocess.run(
            [sys.executable, str(ROOT / "build"), name, "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        for option in re.findall(r"`(--[a-z-]+)", row):
            assert option in done.stdout, f"{name} {option}"


def test_project_and_node_package_have_the_services_version() -> None:
    package = ROOT / "bundle" / "electron"
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    named = {
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"],
        json.loads((package / "package.json").read_text(encoding="utf-8"))["version"],
        json.loads((package / "package-lock.json").read_text(encoding="utf-8"))["version"],
        re.findall(r"^## ([\d.]+)", changes, re.MULTILINE)[0],
    }
    assert named == {__version__}


def test_figures_of_the_readme_are_in_their_records() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Figures")[2].partition("\n\n## ")[0]
    rows = re.findall(
        r"^\| [^|]+ \| ([^|]*\d[^|]*) \| ([^|]*\d[^|]*) \| (.*) \|$", table, re.MULTILINE
    )
    assert len(rows) > 5
    for *cells, links in rows:
        records = "".join(
            (ROOT / path).read_text(encoding="utf-8")
            for path in re.findall(r"\]\((docs/\w+\.md)", links)
        )
        for figure in re.findall(r"[\d.,]+(?: MB)?", " ".join(cells)):
            assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d])", records), figure


@pytest.mark.parametrize(("language", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_json_and_yaml_of_the_documents_parse(language: str, read: Callable[[str], object]) -> None:
    shown = blocks(language)
    assert shown
    assert all(isinstance(read(block), dict) for block in shown)


def test_python_of_the_documents_parses() -> None:
    shown = blocks("python")
    assert shown
    assert all(ast.parse(block).body for block in shown)


def test_first_release_page_has_the_exit_codes_of_release() -> None:
    rows = {
        made: int(code)
        for code, made in re.findall(
            r"^\| [^|]* \| (\d+) \| `([^`]*)`.* \|$",
            (ROOT / "docs" / "first-release.md").read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    }
    recipe = read_recipe(ROOT / "bundle" / "recipe.toml")
    asked = parser().parse_args(["release"])
    with pytest.raises(BundlerError) as caught:
        models_of(recipe, frozenset(), asked.model, is_dry=asked.dry_run)
    assert caught.value.next_step is not None
    command, _, _ = caught.value.next_step.partition(",")
    assert rows[command] == caught.value.exit_code
    assert rows["ci/base amd64"] == UnreachableError.exit_code


def test_ports_are_published_on_loopback_or_with_a_token() -> None:
    """An image listens on every address of its container: only the engine can keep others out."""
    sources = [path.relative_to(ROOT).as_posix() for path in (ROOT / "build").rglob("*.py")]
    seen = 0
    for name in (*DOCUMENTS, *sources, "Dockerfile"):
        text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
        # A drawing may go on in the next line.
        for line in re.findall(r"docker run[^\n]*(?:-p$[^\n]*\n[^\n]*)?", text, re.MULTILINE):
            for port in re.findall(r"(?:-p|--publish)[ =\n]\D*?([\d.]*:?8421:8421)", line):
                seen += 1
                assert port.startswith("127.0.0.1:") or "token" in line.lower(), f"{name}: {line}"
    assert seen > 6


def test_links_between_the_documents_resolve() -> None:
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
            place = (ROOT / document).parent / target if target else ROOT / document
            assert place.exists(), f"{document}: {target}"
            if anchor:
                assert anchor in anchors(place), f"{document}: {target}#{anchor}"


def blocks(language: str) -> list[str]:
    """Return what the documents show in this language."""
    shown_so = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    texts = [(ROOT / document).read_text(encoding="utf-8") for document in DOCUMENTS]
    return [block for text in texts for block in shown_so.findall(text)]


def anchors(page: Path) -> set[str]:
    """Return what may follow a # in a link to the page, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
