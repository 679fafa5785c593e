from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from bundler.assembly.assemble import assemble
from bundler.assembly.build_report import read_report
from bundler.assembly.metadata import audited
from bundler.console import Progress
from bundler.digests import Digest
from bundler.errors import PolicyError, UsageError
from bundler.plan import COMPONENTS
from bundler.verify import verify
from sidecar.manifest import MANIFEST, MANIFESTS, Manifest, read, read_entries
from tests.support.miniature import EPOCH, REVISION, Miniature, snapshot
from tests.support.modeless import forget_modes
from tests.support.tinybinaries import elf
from tests.support.tinywheel import tiny_wheel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SITE = "python/lib/python3.11/site-packages"


@pytest.fixture
def miniature(tmp_path: Path) -> Miniature:
    return Miniature.make(tmp_path / "project")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that every test has a copy of: a copy is quicker than assembling."""
    root = tmp_path_factory.mktemp("original")
    Miniature.make(root / "project").assemble(root / "bundle")
    return root / "bundle"


@pytest.fixture
def bundle(tmp_path: Path, original: Path) -> Path:
    shutil.copytree(original, tmp_path / "bundle")
    return tmp_path / "bundle"


def owners(bundle: Path) -> dict[str, str]:
    manifest = read(bundle)
    return {e.path: c.name for c in manifest.components for e in read_entries(bundle, c)}


def test_a_bundle_holds_every_component_and_verifies(bundle: Path) -> None:
    manifest = verify(bundle, Progress()).manifest
    assert tuple(component.name for component in manifest.components) == COMPONENTS
    assert manifest.default_model == "tiny"
    assert [model.name for model in manifest.models] == ["tiny", "wheeled"]
    assert manifest.unreleasable == ()
    assert manifest.runtime.source == "standalone"


def test_each_file_lies_where_the_layout_says_and_belongs_to_its_component(bundle: Path) -> None:
    belongs = owners(bundle)
    assert belongs["python/bin/python3.11"] == "python"
    assert belongs[f"{SITE}/heavy_weight/native.so"] == "heavy"
    assert belongs[f"{SITE}/feather/__pycache__/barb.cpython-311.pyc"] == "packages"
    assert belongs["embedding_sidecar/__main__.py"] == "service"
    assert belongs[f"models/hub/models--example--tiny/snapshots/{REVISION}/config.json"] == "models"
    assert belongs["models/golden/wheeled.json"] == "models"
    refs = bundle / "models/hub/models--example--tiny/refs/main"
    assert refs.read_text(encoding="ascii") == REVISION


def test_a_model_out_of_a_wheel_has_the_files_its_lock_names_and_no_code(bundle: Path) -> None:
    folder = bundle / read(bundle).models[1].snapshot
    assert sorted(path.name for path in folder.iterdir()) == [
        "1_Pooling",
        "config.json",
        "model.safetensors",
    ]


def test_a_model_may_be_declared_to_have_fewer_dimensions(
    tmp_path: Path, miniature: Miniature
) -> None:
    recipe = miniature.project.recipe
    text = recipe.read_text(encoding="utf-8")
    assert miniature.assemble(tmp_path / "usual").manifest.models[0].least_dim is None
    declared = text.replace("[models.catalogue.tiny]", "[models.catalogue.tiny]\nleast_dim = 1")
    recipe.write_text(declared, encoding="utf-8")
    assert miniature.assemble(tmp_path / "declared").manifest.models[0].least_dim == 1


def test_what_the_diet_takes_is_gone_from_tree_record_and_lists(
    tmp_path: Path, miniature: Miniature
) -> None:
    miniature.assemble(tmp_path / "bundle")
    (source,) = (s for s in read_report(tmp_path / "bundle")["packages"].sources)
    assert [(one.rule.name, one.path) for one in source.left_out if one.rule] == [
        ("tests", f"{SITE}/feather/tests/test_barb.py")
    ]
    site = tmp_path / "bundle" / SITE
    assert not (site / "feather/tests").exists()
    assert "test_barb" not in (site / "feather-1.0.dist-info/RECORD").read_text(encoding="utf-8")
    miniature.assemble(tmp_path / "bundle", profile="none")
    assert (site / "feather/tests/test_barb.py").is_file()


def test_every_file_and_folder_has_the_same_date_and_a_mode_of_two(bundle: Path) -> None:
    for path, (content, mode, date) in snapshot(bundle).items():
        assert date == EPOCH, path
        assert mode & 0o777 == 0o755 if content == "folder" else mode & 0o777 in (0o644, 0o755)
    assert (bundle / "python/bin/python3.11").stat().st_mode & 0o777 == 0o755


def test_assembling_the_same_again_makes_nothing_and_asks_for_nothing(
    bundle: Path, miniature: Miniature
) -> None:
    before = {path: path.stat().st_ino for path in bundle.rglob("*")}
    assembled = miniature.assemble(bundle)
    assert assembled.made == ()
    assert miniature.asked == []
    assert {path: path.stat().st_ino for path in bundle.rglob("*")} == before


def test_a_changed_service_remakes_the_service_only(bundle: Path, miniature: Miniature) -> None:
    untouched = bundle / SITE / "heavy_weight/native.so"
    papers = (bundle / "sbom.cdx.json").read_bytes()
    inode = untouched.stat().st_ino
    old = {component.name: component.digest for component in read(bundle).components}
    miniature.write_service("sidecar/cli.py", "def main() -> int:\n    return 3\n")
    assembled = miniature.assemble(bundle)
    assert assembled.made == ("service",)
    assert miniature.asked == [("service",)]
    assert untouched.stat().st_ino == inode
    assert "return 3" in (bundle / "embedding_sidecar/sidecar/cli.py").read_text(encoding="utf-8")
    assert (bundle / "sbom.cdx.json").read_bytes() == papers
    new = {component.name: component.digest for component in verified(bundle).components}
    assert {name for name in new if new[name] != old[name]} == {"service"}


def verified(bundle: Path) -> Manifest:
    return verify(bundle, Progress()).manifest


@pytest.mark.parametrize(("damaged", "audits"), [("service", 0), ("heavy", 1)])
def test_native_files_are_audited_anew_where_they_were_remade(
    bundle: Path, miniature: Miniature, monkeypatch: pytest.MonkeyPatch, damaged: str, audits: int
) -> None:
    seen = []

    def audit(*given: Any) -> Mapping[str, str]:
        seen.append(given)
        return audited(*given)

    monkeypatch.setattr("bundler.assembly.assemble.audited", audit)
    floor = read(bundle).floor
    file = next(bundle / path for path, owner in owners(bundle).items() if owner == damaged)
    file.write_bytes(b"damaged")
    assert miniature.assemble(bundle).made == (damaged,)
    assert (len(seen), read(bundle).floor) == (audits, floor)


def test_a_removed_file_of_the_service_leaves_the_bundle(
    bundle: Path, miniature: Miniature
) -> None:
    (miniature.project.service / "sidecar/cli.py").unlink()
    assert miniature.assemble(bundle).made == ("service",)
    assert [path.name for path in bundle.rglob("*cli*")] == []
    verified(bundle)


@pytest.mark.parametrize(
    ("path", "component"),
    [
        ("python/lib/python3.11/os.py", "python"),
        (f"{SITE}/heavy_weight/native.so", "heavy"),
        (f"{SITE}/feather/barb.py", "packages"),
        ("models/golden/tiny.json", "models"),
        ("embedding_sidecar/__main__.py", "service"),
    ],
)
def test_a_damaged_component_is_remade_though_the_plan_is_the_same(
    bundle: Path, miniature: Miniature, path: str, component: str
) -> None:
    before = snapshot(bundle)
    (bundle / path).write_bytes(b"x" * (bundle / path).stat().st_size)
    assert miniature.assemble(bundle).made == (component,)
    assert snapshot(bundle) == before


def test_a_lost_executable_bit_is_put_right(bundle: Path, miniature: Miniature) -> None:
    before = snapshot(bundle)
    (bundle / "python/bin/python3.11").chmod(0o644)
    assert miniature.assemble(bundle).made == ("python",)
    assert snapshot(bundle) == before


@pytest.mark.parametrize("bits", [0o644, 0o755])
def test_on_a_disk_without_modes_a_bundle_is_taken_over_and_verifies(
    bundle: Path, miniature: Miniature, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    before = {path: content for path, (content, _, _) in snapshot(bundle).items()}
    told: list[str] = []
    progress = Progress()
    progress.note = lambda name, text: told.append(f"{name}: {text}")  # type: ignore[method-assign]
    forget_modes(bits, monkeypatch.setattr)
    assert miniature.assemble(bundle).made == ()
    (bundle / "embedding_sidecar/__main__.py").write_bytes(b"")
    assembled = assemble(miniature.plan(), miniature.gather, bundle, progress)
    assert assembled.made == ("service",)
    verified(bundle)
    assert {path: content for path, (content, _, _) in snapshot(bundle).items()} == before
    assert [line for line in told if "keeps no executable bits" in line]


@pytest.mark.parametrize("name", ["NOTICES.txt", "sbom.cdx.json"])
def test_a_damaged_paper_is_written_anew_and_no_component_with_it(
    bundle: Path, miniature: Miniature, name: str
) -> None:
    before = snapshot(bundle)
    (bundle / name).write_bytes(b"something else")
    assert miniature.assemble(bundle).made == ()
    assert snapshot(bundle) == before


@pytest.mark.parametrize("name", [MANIFEST, f"{MANIFESTS}/heavy.json"])
def test_a_bundle_whose_manifest_is_damaged_is_made_anew(
    bundle: Path, miniature: Miniature, name: str
) -> None:
    before = snapshot(bundle)
    (bundle / name).write_bytes(b"{")
    miniature.assemble(bundle)
    assert snapshot(bundle) == before


def test_what_does_not_belong_into_a_bundle_goes(bundle: Path, miniature: Miniature) -> None:
    before = snapshot(bundle)
    (bundle / "python/left.log").write_text("written by something\n", encoding="utf-8")
    (bundle / "empty").mkdir()
    assert miniature.assemble(bundle).made == ()
    assert snapshot(bundle) == before


def test_libraries_of_a_left_out_runtime_are_granted(tmp_path: Path, miniature: Miniature) -> None:
    wheel = next(miniature.inputs.glob("heavy_weight-*.whl"))
    lock = miniature.project.wheel_lock.read_text(encoding="utf-8")
    before = Digest.of_file(wheel).sha256
    modules = {"heavy_weight/__init__.py": "MASS = 'heavy'\n"}
    library = elf(needed=["libpython3.11.so.1.0"])
    tiny_wheel(
        miniature.inputs,
        "heavy_weight",
        "2.0",
        tag="cp311-cp311-manylinux_2_17_x86_64",
        modules=modules,
        extra={"heavy_weight/native.so": library},
    )
    lock = lock.replace(before, Digest.of_file(wheel).sha256)
    miniature.project.wheel_lock.write_text(lock, encoding="utf-8")
    told: list[str] = []
    progress = Progress()
    progress.note = lambda name, text: told.append(f"{name}: {text}")  # type: ignore[method-assign]
    planned = miniature.plan(parts=("wheels", "service"))
    with pytest.raises(PolicyError, match="binary audit"):
        assemble(planned, miniature.gather, tmp_path / "bundle", progress)
    text = miniature.project.recipe.read_text(encoding="utf-8")
    text = text.replace('floor = "2.28"', 'floor = "2.28"\nruntime = ["libpython3*"]')
    miniature.project.recipe.write_text(text, encoding="utf-8")
    planned = miniature.plan(parts=("wheels", "service"))
    assemble(planned, miniature.gather, tmp_path / "bundle", progress)
    assert told == ["audit: presumably of the runtime, which is left out: libpython3.11.so.1.0"]
    assert "cpython" not in (tmp_path / "bundle" / "sbom.cdx.json").read_text(encoding="utf-8")
    assert "CPython" not in (tmp_path / "bundle" / "NOTICES.txt").read_text(encoding="utf-8")


def test_parts_asked_for_are_all_there_is(tmp_path: Path, miniature: Miniature) -> None:
    assembled = miniature.assemble(tmp_path / "bundle", parts=("service", "models"))
    assert assembled.made == ("models", "service")
    assert assembled.manifest.unreleasable == ("parts were left out: runtime, wheels",)
    assert not (tmp_path / "bundle" / "python").exists()
    verified(tmp_path / "bundle")


def test_a_part_added_later_leaves_the_others_as_they_are(
    tmp_path: Path, miniature: Miniature
) -> None:
    miniature.assemble(tmp_path / "bundle", parts=("service", "models"))
    assembled = miniature.assemble(tmp_path / "bundle")
    assert assembled.made == ("python", "heavy", "packages")
    miniature.assemble(tmp_path / "other")
    assert snapshot(tmp_path / "bundle") == snapshot(tmp_path / "other")


@pytest.mark.parametrize(
    "files", [["thesis.txt"], [MANIFEST], [MANIFEST, "icons/icon.png"], ["manifests/a.json"]]
)
def test_a_folder_of_something_else_is_refused_and_stays(
    tmp_path: Path, miniature: Miniature, files: list[str]
) -> None:
    foreign = tmp_path / "foreign"
    for name in files:
        (foreign / name).parent.mkdir(parents=True, exist_ok=True)
        # Browser extensions have a manifest.json as well.
        (foreign / name).write_text(json.dumps({"manifest_version": 3}), encoding="utf-8")
    before = snapshot(foreign)
    with pytest.raises(UsageError, match="not a bundle"):
        miniature.assemble(foreign)
    assert snapshot(foreign) == before
    assert miniature.asked == []


def test_a_failure_leaves_the_old_bundle_and_nothing_beside_it(
    bundle: Path, miniature: Miniature
) -> None:
    before = snapshot(bundle)
    miniature.write_service("readme.md", "no source\n")
    miniature.write_service("sidecar/cli.py", "CHANGED = 1\n")
    with pytest.raises(PolicyError, match="is not source"):
        miniature.assemble(bundle)
    assert snapshot(bundle) == before
    assert sorted(os.listdir(bundle.parent)) == ["bundle", "project"]  # noqa: PTH208


def test_a_path_that_two_components_bring_is_refused(tmp_path: Path, miniature: Miniature) -> None:
    add_to_heavy(miniature, "feather/__init__.py")
    with pytest.raises(UsageError, match="two components bring"):
        miniature.assemble(tmp_path / "bundle")


def test_a_path_that_a_kept_component_has_already_is_refused(
    bundle: Path, miniature: Miniature
) -> None:
    before = snapshot(bundle)
    add_to_heavy(miniature, "feather/__init__.py")
    with pytest.raises(UsageError, match="two components bring"):
        miniature.assemble(bundle)
    assert snapshot(bundle) == before


def test_names_in_two_components_that_differ_by_case_alone_are_refused(
    tmp_path: Path, miniature: Miniature
) -> None:
    add_to_heavy(miniature, "Feather/extra.py")
    with pytest.raises(PolicyError, match="differ by case alone"):
        miniature.assemble(tmp_path / "bundle")


def add_to_heavy(miniature: Miniature, path: str) -> None:
    """Lock another heavy wheel, one that also has a file at `path`."""
    from tests.support.miniature import package  # noqa: PLC0415
    from tests.support.tinywheel import tiny_wheel  # noqa: PLC0415

    wheel = tiny_wheel(
        miniature.inputs,
        "heavy_weight",
        "3.0",
        modules={"heavy_weight/__init__.py": "", path: "OTHER = 1\n"},
    )
    (feather,) = miniature.inputs.glob("feather*.whl")
    text = '[metadata]\ncontent_hash = ""\n' + package("feather", "1.0", [feather])
    text += package("heavy-weight", "3.0", [wheel])
    miniature.project.wheel_lock.write_text(text, encoding="utf-8")


def test_a_bundle_that_was_moved_is_taken_over_where_it_is_now(
    tmp_path: Path, bundle: Path, miniature: Miniature
) -> None:
    shutil.move(bundle, tmp_path / "moved")
    assert miniature.assemble(tmp_path / "moved").made == ()
