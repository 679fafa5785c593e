from __future__ import annotations

import plistlib
from typing import TYPE_CHECKING

import pytest

from bundler.bundle import ListedBundle, read_bundle
from bundler.electron.integration import (
    FIXED,
    AppPaths,
    Integration,
    compose,
    place,
    top_names,
    write,
)
from bundler.errors import UsageError, VerificationError
from bundler.project import Project
from bundler.targets import TARGETS
from tests.support import smallbundle

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATES = Project.here().root / "bundle" / "electron" / "builder"
PLACE = AppPaths(bundles="../out", integration="build/sidecar")


def small(root: Path, *names: str) -> list[ListedBundle]:
    return [read_bundle(smallbundle.make(root, name)) for name in names]


def composed(root: Path, *names: str) -> Integration:
    return compose(small(root, *names), PLACE, TEMPLATES)


def test_the_same_bundles_in_any_order_make_the_same_bytes(tmp_path: Path) -> None:
    one = composed(tmp_path / "one", "linux-x64", "mac-arm64", "win-x64")
    other = composed(tmp_path / "other", "win-x64", "mac-arm64", "linux-x64")
    assert one == other


def test_everything_is_there_and_the_page_names_it_all(tmp_path: Path) -> None:
    files = composed(tmp_path, "linux-x64", "mac-arm64", "win-x64").files
    lists = {"signed/mac-arm64.tsv", "signed/win-x64.tsv"}
    kinds = ("app", "app.no-team", "python", "python.mas", "python.no-team")
    rights = {f"entitlements.{kind}.plist" for kind in kinds}
    assert set(files) == {*FIXED, *lists, *rights, "electron-builder.yml", "README.md"}
    page = files["README.md"].decode()
    assert all(f"`{name}`" in page for name in set(files) - lists - {"README.md"})
    assert "extends: build/sidecar/electron-builder.yml" in page
    assert "mac-arm64: 3 Mach-O files, 1 of them programs" in page
    assert "python/python.exe" in page
    assert "linux-x64: nothing is signed" in page


def test_python_gets_the_right_that_a_macs_library_asks_for(tmp_path: Path) -> None:
    files = smallbundle.contents(TARGETS["mac-arm64"])
    name = next(name for name in files if name.endswith("er/native.so"))
    files[name] += smallbundle.JIT
    root = smallbundle.make(tmp_path, "mac-arm64", files)
    made = compose([read_bundle(root)], PLACE, TEMPLATES)
    rights = plistlib.loads(made.files["entitlements.python.plist"])
    assert list(rights) == ["com.apple.security.cs.allow-jit"]
    assert "`allow-jit`: native.so asks" in made.files["README.md"].decode()


def test_the_names_at_the_top_are_those_of_all_bundles(tmp_path: Path) -> None:
    found = top_names(small(tmp_path, "linux-x64"))
    assert found[:4] == ("python", "embedding_sidecar", "models", "manifests")
    assert found[4:] == ("manifest.json", "sbom.cdx.json", "NOTICES.txt")


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="is not a bundle that can be read"):
        read_bundle(tmp_path)


def test_places_are_seen_from_the_apps_folder(tmp_path: Path) -> None:
    bundles = small(tmp_path / "out", "linux-x64", "win-x64")
    app = tmp_path / "app"
    found = place(bundles, app, app / "build" / "sidecar", source=None)
    assert found == AppPaths(bundles="../out", integration="build/sidecar")
    elsewhere = place(bundles, app, app / "build" / "sidecar", source="${env.BUNDLES}")
    assert elsewhere.bundles == "${env.BUNDLES}"


def test_bundles_on_another_drive_of_windows_are_named_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def relative(path: Path, start: Path) -> str:
        if path.is_relative_to(start):
            return str(path.relative_to(start))
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr("bundler.electron.integration.os.path.relpath", relative)
    bundles = small(tmp_path / "out", "linux-x64")
    app = tmp_path / "app"
    found = place(bundles, app, app / "sidecar", source=None)
    assert found == AppPaths(bundles=(tmp_path / "out").as_posix(), integration="sidecar")


def renamed(bundle: ListedBundle, name: str) -> ListedBundle:
    root = bundle.root.rename(bundle.root.with_name(name))
    return read_bundle(root)


def test_a_profile_behind_the_target_is_part_of_the_pattern(tmp_path: Path) -> None:
    bundles = [renamed(one, f"{one.root.name}-lean") for one in small(tmp_path, "linux-x64")]
    assert place(bundles, tmp_path, tmp_path / "s", source=None).suffix == "-lean"


def test_a_folder_that_is_not_named_by_its_target_is_refused(tmp_path: Path) -> None:
    bundles = [renamed(one, "sidecar") for one in small(tmp_path, "linux-x64")]
    with pytest.raises(UsageError, match="not named by its target"):
        place(bundles, tmp_path, tmp_path / "s", source=None)


def test_bundles_that_no_one_pattern_names_are_refused(tmp_path: Path) -> None:
    one, other = small(tmp_path, "linux-x64", "win-x64")
    apart = small(tmp_path / "apart", "mac-arm64")
    for bundles in ([one, renamed(other, "win-x64-lean")], [one, one], [one, *apart]):
        with pytest.raises(UsageError, match="cannot be one app's"):
            place(bundles, tmp_path, tmp_path / "s", source=None)


def test_hooks_outside_of_the_app_are_refused(tmp_path: Path) -> None:
    bundles = small(tmp_path, "linux-x64")
    with pytest.raises(UsageError, match="outside of the app"):
        place(bundles, tmp_path / "app", tmp_path / "elsewhere", source=None)


def test_writing_again_takes_away_lists_of_other_bundles_and_leaves_the_rest(
    tmp_path: Path,
) -> None:
    output = tmp_path / "sidecar"
    write(composed(tmp_path / "one", "mac-arm64", "win-x64"), output)
    (output / "own.txt").write_text("mine")
    write(composed(tmp_path / "two", "win-x64"), output)
    assert [path.name for path in sorted((output / "signed").iterdir())] == ["win-x64.tsv"]
    assert (output / "own.txt").read_text() == "mine"
    assert (output / "sign-bundle.sh").stat().st_mode & 0o111
    assert not list(output.rglob("*.new"))
