"""Compare the problems and exit codes of the documents with those of the code."""

from __future__ import annotations

import re

from bundler import errors as building
from bundler.errors import BundlerError
from sidecar import cli, errors
from sidecar.documents import pdf_process
from sidecar.errors import ServiceError
from tests.support.failures import ROUTED, codes, raised
from tests.support.pages import ROOT

PAGE = "docs/troubleshooting.md"


def table(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the rows of the first table below `heading`."""
    text = (ROOT / page).read_text(encoding="utf-8").partition(f"\n{heading}\n")[2]
    rows = re.search(r"^\|.*?\n\|[-:| ]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert rows is not None
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[1].splitlines()]


def documented(page: str, heading: str) -> set[tuple[int, str]]:
    return {
        (int(status), kind)
        for status, kinds, *_ in table(page, heading)
        for kind in re.findall(r"`([^`]+)`", kinds)
    }


def test_problem_kinds_are_those_of_the_table() -> None:
    kinds = set(raised()) | ROUTED
    assert len(kinds) > 25
    listed = documented(PAGE, "## Problems") - {(422, "document-…")}
    assert listed == {(s, k) for s, k in kinds if not k.startswith("document-")}


def test_refusals_of_documents_are_those_of_the_table() -> None:
    listed = documented("docs/files.md", "## What is refused")
    words = {(422, pdf_process.refusal(word).kind) for word in pdf_process.REFUSALS}
    documents = {(s, k) for s, k in listed if k.startswith("document-")}
    assert documents == words | {(422, "document-timeout"), (503, "document-busy")}
    assert listed - documents <= set(raised())


def test_exit_codes_are_those_of_the_tables() -> None:
    service = {*codes(errors, ServiceError).values(), 0}
    both = service | set(codes(building, BundlerError).values())
    rows = {row[0] for row in table(PAGE, "## The process ended")}
    numbers = {int(number) for row in rows for number in re.findall(r"\d+", row)} - {128}
    assert numbers == both
    assert {int(row[0]) for row in table("docs/commands.md", "## Exit codes")} == both
    told = re.findall(r"(?:^|  )\s*(\d+)  ", cli.EXIT_CODES, re.MULTILINE)
    assert {int(number) for number in told} == service
