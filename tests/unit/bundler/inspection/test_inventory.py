from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bundler.errors import VerificationError
from bundler.inspection.inventory import PAPERS, Owner, source_of, take_stock
from tests.support.miniature import REVISION
from tests.support.stocked import SITE, Stocked

if TYPE_CHECKING:
    from pathlib import Path

FEATHER = Owner(name="feather", version="1.0")
HEAVY = Owner(name="heavy-weight", version="2.0")


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Stocked:
    return Stocked.make(tmp_path_factory.mktemp("inventory"))


def test_every_file_on_the_disk_is_in_the_inventory_once(stocked: Stocked) -> None:
    files = [path for path in stocked.bundle.rglob("*") if path.is_file()]
    paths = {path.relative_to(stocked.bundle).as_posix(): path.stat().st_size for path in files}
    owned = stocked.inventory().files
    assert {path: owned[path].entry.size for path in owned} == paths


def test_every_file_of_a_component_has_an_owner(stocked: Stocked) -> None:
    files = stocked.inventory().files.values()
    assert [
        owned.entry.path for owned in files if not owned.package and owned.component != PAPERS
    ] == []


@pytest.mark.parametrize(
    ("path", "component", "package"),
    [
        (f"{SITE}/feather/barb.py", "packages", FEATHER),
        (f"{SITE}/feather/__pycache__/barb.cpython-311.pyc", "packages", FEATHER),
        (f"{SITE}/feather-1.0.dist-info/RECORD", "packages", FEATHER),
        (f"{SITE}/heavy_weight/native.so", "heavy", HEAVY),
        ("python/bin/python3.11", "python", Owner(name="CPython", version="3.11.9")),
        ("embedding_sidecar/sidecar/cli.py", "service", Owner(name="sidecar", version="0.0.1")),
        ("models/golden/tiny.json", "models", Owner(name="example/tiny", version=REVISION)),
        ("manifest.json", PAPERS, None),
        ("manifests/heavy.json", PAPERS, None),
        ("NOTICES.txt", PAPERS, None),
    ],
)  # fmt: skip
def test_a_file_belongs_to_what_brought_it(
    stocked: Stocked, path: str, component: str, package: Owner | None
) -> None:
    owned = stocked.inventory().files[path]
    assert (owned.component, owned.package) == (component, package)


def test_models_do_not_claim_each_others_files(stocked: Stocked) -> None:
    owners = {
        owned.package.name
        for owned in stocked.inventory().component("models")
        if owned.package and "models--example--wheeled" in owned.entry.path
    }
    assert owners == {"example/wheeled"}


def test_the_wheels_of_a_bundle_are_known_by_its_report(stocked: Stocked) -> None:
    found = {Owner(name=one.package, version=one.version) for one in stocked.inventory().wheels()}
    assert found >= {FEATHER, HEAVY}
    assert all(
        (stocked.store.root / "sha256" / one.sha256[:2] / one.sha256).is_file()
        for one in stocked.inventory().wheels()
    )


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("a/__pycache__/b.cpython-311.pyc", "a/b.py"),
        ("__pycache__/b.cpython-311.pyc", "b.py"),
        ("a/__pycache__/b.c.cpython-311.pyc", "a/b.c.py"),
        ("a/b.py", "a/b.py"),
        ("a/__pycache__/notes.txt", "a/__pycache__/notes.txt"),
    ],
)
def test_bytecode_is_told_from_other_files(path: str, source: str) -> None:
    assert source_of(path) == source


def test_a_folder_that_is_no_bundle_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="not a bundle"):
        take_stock(tmp_path)


def test_a_list_that_is_not_the_manifests_cannot_be_read(tmp_path: Path) -> None:
    stocked = Stocked.make(tmp_path)
    (stocked.bundle / "manifests" / "heavy.json").write_text("[]\n", encoding="utf-8")
    with pytest.raises(VerificationError) as caught:
        stocked.inventory()
    assert "manifests/heavy.json" in caught.value.why
