from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import pytest

from bundler.inspection.inventory import PAPERS
from bundler.inspection.sizes import ComponentSize, PackageSize, Sizes, by_package, table, weigh
from tests.support.stocked import Stocked

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Stocked:
    return Stocked.make(tmp_path_factory.mktemp("sizes"))


@pytest.fixture(scope="module")
def sizes(stocked: Stocked) -> Sizes:
    return weigh(stocked.inventory())


def test_the_whole_is_what_the_disk_holds(stocked: Stocked, sizes: Sizes) -> None:
    files = [path for path in stocked.bundle.rglob("*") if path.is_file()]
    assert sizes.files == len(files)
    assert sizes.size == sum(path.stat().st_size for path in files)


def test_the_components_come_in_the_order_in_which_they_ship(sizes: Sizes) -> None:
    names = [component.name for component in sizes.components]
    assert names == ["python", "heavy", "packages", "models", "service", PAPERS]


def test_packages_add_up_to_their_component(sizes: Sizes) -> None:
    for component in sizes.components[:-1]:
        assert component.size == sum(share.size for share in component.packages)
        assert component.files == sum(share.files for share in component.packages)


def test_packages_come_largest_first_and_what_nothing_claims_is_none(stocked: Stocked) -> None:
    inventory = stocked.inventory()
    found = by_package(inventory.files.values())
    assert sum(package.files for package in found) == len(inventory.files)
    assert [package.size for package in found] == sorted((p.size for p in found), reverse=True)
    assert {"feather 1.0", "no package"} <= {package.label for package in found}


def test_the_document_is_json_and_names_the_reason_of_each_saving(sizes: Sizes) -> None:
    document = json.loads(json.dumps(asdict(sizes)))
    (saving,) = document["savings"]
    assert (saving["rule"], saving["reason"], saving["files"]) == ("tests", "tests", 1)
    assert document["size"] == sum(component["size"] for component in document["components"])
    assert document["components_without_report"] == []


def test_the_table_has_a_row_for_each_component_and_the_savings(sizes: Sizes) -> None:
    lines = list(table(sizes))
    rows = {line.split()[0]: line for line in lines if line}
    assert rows["heavy"].split()[1:] == [
        str(sizes.components[1].files),
        f"{sizes.components[1].size:,}",
    ]
    assert "left out by the profile safe" in "\n".join(lines)
    assert lines[-1].split() == ["all", "1", str(sizes.savings[0].size)]


def test_a_table_without_savings_says_nothing_of_them(sizes: Sizes) -> None:
    assert not any("left out" in line for line in table(replace(sizes, savings=())))


def test_only_the_ten_largest_packages_have_a_row_and_the_rest_share_one(sizes: Sizes) -> None:
    many = tuple(
        PackageSize(name=f"p{number}", version="1", files=1, size=100 - number)
        for number in range(13)
    )
    large = ComponentSize(
        name="packages", files=13, size=sum(share.size for share in many), packages=many
    )
    lines = list(table(replace(sizes, components=(large,), savings=())))
    assert sum(line.startswith("  p") for line in lines) == 10
    (rest,) = [line for line in lines if "more" in line]
    assert rest.split() == ["3", "more", "3", str(90 + 89 + 88)]


def test_weighing_twice_gives_the_same(stocked: Stocked, sizes: Sizes) -> None:
    assert weigh(stocked.inventory()) == sizes


def test_a_bundle_elsewhere_weighs_the_same(stocked: Stocked, sizes: Sizes, tmp_path: Path) -> None:
    stocked.miniature.assemble(tmp_path / "elsewhere")
    other = weigh(replace(stocked, bundle=tmp_path / "elsewhere").inventory())
    assert other == sizes
