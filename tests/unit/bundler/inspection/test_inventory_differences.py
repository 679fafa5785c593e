from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundler.inspection.inventory import PAPERS, compare, lines, take_stock
from tests.support.miniature import Miniature

if TYPE_CHECKING:
    from pathlib import Path

    from bundler.inspection.inventory import Difference, Inventory


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Inventory, Inventory]:
    """Return a bundle, and one with another service, another diet and one model less."""
    root = tmp_path_factory.mktemp("differences")
    miniature = Miniature.make(root / "project")
    miniature.assemble(root / "a")
    miniature.write_service("sidecar/cli.py", "def main() -> int:\n    return 12345\n")
    miniature.write_service("sidecar/more.py", "MORE = 1\n")
    miniature.assemble(root / "b", profile="none", models=("tiny",))
    return take_stock(root / "a"), take_stock(root / "b")


@pytest.fixture(scope="module")
def difference(pair: tuple[Inventory, Inventory]) -> Difference:
    return compare(*pair)


def test_a_bundle_is_the_same_as_itself(pair: tuple[Inventory, Inventory]) -> None:
    difference = compare(pair[0], pair[0])
    assert (difference.fields, difference.components) == ({}, ())
    assert list(lines(difference, with_names=True)) == ["the same"]


def test_two_bundles_made_alike_are_the_same(
    pair: tuple[Inventory, Inventory], tmp_path: Path
) -> None:
    Miniature.make(tmp_path / "project").assemble(tmp_path / "bundle")
    assert compare(pair[0], take_stock(tmp_path / "bundle")).document() == {
        "fields": {},
        "components": [],
    }


def test_another_version_of_a_package_is_named(pair: tuple[Inventory, Inventory]) -> None:
    before = pair[0]
    sources = (
        replace(source, version="1.1") if source.package == "feather" else source
        for source in before.sources
    )
    fields = compare(before, replace(before, sources=tuple(sources))).fields
    assert fields == {"sources.feather": ("1.0", "1.1")}


def test_what_was_planned_otherwise_is_named(difference: Difference) -> None:
    fields = difference.fields
    assert fields["profile"] == ("safe", "none")
    assert fields["models.wheeled.repository"] == ("example/wheeled", None)
    assert "plan" in fields
    assert "components.service.inputs" in fields
    assert "components.python.inputs" not in fields


def test_files_are_told_by_component(difference: Difference) -> None:
    found = {component.name: component for component in difference.components}
    assert set(found) == {"packages", "models", "service", PAPERS}
    service = found["service"]
    assert [entry.path for entry in service.added] == [
        "embedding_sidecar/sidecar/__pycache__/more.cpython-311.pyc",
        "embedding_sidecar/sidecar/more.py",
    ]
    assert [new.path for _, new in service.changed] == [
        "embedding_sidecar/sidecar/__pycache__/cli.cpython-311.pyc",
        "embedding_sidecar/sidecar/cli.py",
    ]
    assert found["models"].removed
    assert not found["models"].added


def test_growth_is_the_bytes_after_less_those_before(
    pair: tuple[Inventory, Inventory], difference: Difference
) -> None:
    before, after = (sum(o.entry.size for o in inv.files.values()) for inv in pair)
    assert sum(component.growth for component in difference.components) == after - before


def test_turned_round_what_came_has_gone(pair: tuple[Inventory, Inventory]) -> None:
    there, back = compare(*pair), compare(pair[1], pair[0])
    assert [c.added for c in there.components] == [c.removed for c in back.components]
    assert [c.growth for c in there.components] == [-c.growth for c in back.components]


def test_names_are_listed_only_when_asked_for(difference: Difference) -> None:
    short, long = (list(lines(difference, with_names=names)) for names in (False, True))
    assert len(short) == len(difference.fields) + len(difference.components)
    assert any(line.startswith("  + embedding_sidecar/sidecar/more.py") for line in long)
    assert any(line.startswith("  ~ embedding_sidecar/sidecar/cli.py") for line in long)
    assert any(line.startswith("  - models/golden/wheeled.json") for line in long)


def test_a_statement_that_is_gone_reads_as_nothing(difference: Difference) -> None:
    assert "models.wheeled.repository: example/wheeled -> nothing" in lines(
        difference, with_names=False
    )


def test_the_document_lists_every_path(difference: Difference) -> None:
    document = json.loads(json.dumps(difference.document()))
    service = next(c for c in document["components"] if c["name"] == "service")
    assert "embedding_sidecar/sidecar/more.py" in service["added"]["paths"]
    assert document["fields"]["profile"] == {"before": "safe", "after": "none"}
