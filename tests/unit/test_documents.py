"""What the documents show is so: commands that a test runs, options that exist, links that lead."""

from __future__ import annotations

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
from bundler.release.bundles import wanted
from sidecar import __version__
from tests.support.pages import (
    CONTAINERS,
    CURL,
    DOCUMENTS,
    ELSEWHERE,
    ENDING,
    NOT_RUN,
    ROOT,
    SERVING,
    TAG,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUN = {*ENDING, TAG, *SERVING, CURL, *CONTAINERS}


def test_every_command_in_the_documents_is_run_or_excused_and_no_other_is() -> None:
    assert {*RUN, *ELSEWHERE, *NOT_RUN} == set(shown())


@pytest.mark.parametrize("command", sorted(ELSEWHERE))
def test_what_is_run_elsewhere_is_named_there(command: str) -> None:
    text = (ROOT / ELSEWHERE[command]).read_text(encoding="utf-8")
    for word in command.removeprefix("python3 build ").split()[:2]:
        named = word.rpartition("/")[2]
        assert named in text or word.startswith(("/", "bundle/")), named


def test_the_readme_has_a_row_for_every_command_and_no_other() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `python3 build ([\w-]+)", text, re.MULTILINE)
    assert sorted(rows) == sorted(command.name for command in COMMANDS)


def test_every_option_in_the_readmes_rows_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
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


def test_one_version_is_named_everywhere() -> None:
    package = ROOT / "bundle" / "electron"
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    named = {
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"],
        json.loads((package / "package.json").read_text(encoding="utf-8"))["version"],
        json.loads((package / "package-lock.json").read_text(encoding="utf-8"))["version"],
        re.findall(r"^## ([\d.]+)", changes, re.MULTILINE)[0],
    }
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        named |= set(re.findall(r"(?:sidecar:|sidecar-electron-|\"version\":\")([\d.]+\d)", text))
    assert named == {__version__}


@pytest.mark.parametrize(("language", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_data_that_is_shown_can_be_read(language: str, read: Callable[[str], object]) -> None:
    shown_so = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    blocks = [
        block
        for document in DOCUMENTS
        for block in shown_so.findall((ROOT / document).read_text(encoding="utf-8"))
    ]
    assert blocks
    assert all(isinstance(read(block), dict) for block in blocks)


def test_the_page_on_the_first_release_has_what_release_ends_with() -> None:
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
        wanted(asked, recipe, locked=frozenset())
    assert caught.value.next_step is not None
    command, _, _ = caught.value.next_step.partition(",")
    assert rows[command] == caught.value.exit_code
    assert rows["ci/base amd64"] == UnreachableError.exit_code


def test_a_port_is_published_on_loopback_or_with_a_token() -> None:
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
    assert seen > len(CONTAINERS)


def test_links_between_the_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
            place = (ROOT / document).parent / target if target else ROOT / document
            assert place.exists(), f"{document}: {target}"
            if anchor:
                assert anchor in anchors(place), f"{document}: {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Return what may follow a # in a link to the page, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
