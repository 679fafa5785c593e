"""Every command that the documents show is run by a test, or excused here with a reason."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.cli import COMMANDS

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md"),
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The beginning of a command, and the test that runs it.
RUN_BY = {
    "python3 build update-size": "tests/smoke/test_release.py",
    "python3 build release --dry-run": "tests/smoke/test_release.py",
    "python3 build verify bundle/out/release": "tests/unit/bundler/test_commands_release.py",
    "python3 build up -- --allow-dir": "tests/smoke/test_up.py",
    "python3 build up": "tests/smoke/test_up.py",
    "python3 build assemble --target mac-arm64": "tests/smoke/test_foreign_bundles.py",
    "python3 build assemble": "tests/smoke/conftest.py",
    "python3 build smoke bundle/out/linux-x64-lean": "tests/smoke/test_lean.py",
    "python3 build diff": "tests/unit/bundler/test_commands_bundle.py",
    "python3 build image": "tests/integration/conftest.py",
    "python3 build electron": "tests/integration/test_electron_builder.py",
    "python3 build bench --quick": "tests/smoke/test_bench.py",
    "python3 build bench --replay": "tests/smoke/test_bench.py",
    "bundle/out/linux-x64/python/bin/python3.11 -I -B": "tests/smoke/test_lifecycle.py",
    "node bundle/electron/example/serve.js": "bundle/electron/test/example.test.js",
    "npm pack ./bundle/electron": "bundle/electron/test/package.test.js",
    "npm install --prefix": "bundle/electron/test/package.test.js",
    "ci/base": "tests/integration/conftest.py",
    "docker run": "tests/integration/test_container.py",
    "curl http://127.0.0.1:8421/embed": "tests/smoke/test_up.py",
}
NOT_RUN = {
    "python3 build test": "it is the command that runs this",
    "python3 build bench": "takes long; the quick one does the same with fewer texts",
    "python3 build bench --twin": "makes a gigabyte of weights; tests do the same with a tiny twin",
    "python3 build lock --models multilingual-mpnet": "asks the hub for a gigabyte",
    "python3 build up --model multilingual-mpnet": "needs the lock of the line before",
    "python3 build image --target linux-x64 --target linux-arm64": "linux-arm64 is not locked",
    "ci/base arm64": "needs packages of another architecture",
}


def shown() -> list[str]:
    """Return each command of the documents' shell blocks, in one line, without its remark."""
    found = []
    for document in DOCUMENTS:
        for block in BLOCK.findall((ROOT / document).read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.sub(r"\s{2,}#.*$", "", line)
                if command.strip():
                    found.append(" ".join(command.split()))
    return found


@pytest.mark.parametrize("command", sorted(set(shown())))
def test_a_command_in_the_documents_is_run_somewhere_or_excused(command: str) -> None:
    if command in NOT_RUN:
        return
    place = next((where for start, where in RUN_BY.items() if command.startswith(start)), None)
    assert place is not None, f"no test is named for: {command}"
    words = command.split()
    named = words[2] if words[:2] == ["python3", "build"] else words[0].rpartition("/")[2]
    text = (ROOT / place).read_text(encoding="utf-8")
    assert named in text or named.startswith("python3."), f"{place} does not run {named}"


def test_nothing_is_excused_that_nobody_shows() -> None:
    assert set(shown()) >= set(NOT_RUN)


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
