from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bundler.bundle import refuse_foreign, require_bundle
from bundler.errors import UsageError
from sidecar.manifest import MANIFEST, MANIFESTS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a folder that is laid out as a bundle is, at its top."""
    made = tmp_path / "out" / "bundle"
    (made / MANIFESTS).mkdir(parents=True)
    (made / MANIFEST).write_bytes(b"{}")
    return made


def refusal(path: Path) -> UsageError:
    with pytest.raises(UsageError, match="there is no bundle at") as caught:
        require_bundle(path, make="make it")
    return caught.value


def test_a_bundle_is_known_by_its_manifests_or_its_service(bundle: Path, tmp_path: Path) -> None:
    require_bundle(bundle)
    (bundle / "embedding_sidecar").mkdir()
    (bundle / MANIFEST).unlink()
    require_bundle(bundle)
    (tmp_path / "other").mkdir()
    # Browser extensions have a manifest.json as well, and clusters have folders of manifests.
    (tmp_path / "other" / MANIFEST).write_bytes(b"{}")
    assert "no manifest.json with manifests" in refusal(tmp_path / "other").why
    (tmp_path / "other" / MANIFEST).unlink()
    (tmp_path / "other" / MANIFESTS).mkdir()
    assert refusal(tmp_path / "other").next_step == "make it makes one and prints its path"


def test_nothing_and_a_file_are_told_apart(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nothing").why == "nothing is there"
    (tmp_path / "file").write_bytes(b"")
    assert "it is a file" in refusal(tmp_path / "file").why


def test_a_folder_around_a_bundle_leads_to_it(bundle: Path) -> None:
    assert refusal(bundle.parent).next_step == f"name a bundle in it: {bundle}"


def test_a_file_or_a_link_in_the_place_of_the_bundle_is_refused(
    tmp_path: Path, bundle: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(bundle)
    for name in ("file", "link"):
        with pytest.raises(UsageError, match="not a folder"):
            refuse_foreign(tmp_path / name)


def test_an_empty_folder_and_a_bundle_are_places_for_a_bundle(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "empty").mkdir()
    refuse_foreign(tmp_path / "empty")
    refuse_foreign(tmp_path / "none yet")
    refuse_foreign(bundle)
    (bundle / MANIFEST).unlink()
    with pytest.raises(UsageError, match="not a bundle"):
        refuse_foreign(bundle)
