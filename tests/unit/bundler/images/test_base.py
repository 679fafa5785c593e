from __future__ import annotations

import gzip
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundler.digests import Digest
from bundler.errors import PolicyError, UsageError
from bundler.images.layers import check_base
from sidecar.manifest import Manifest, Runtime
from tests.support.tinybase import LIBRARIES, tiny_base
from tests.support.tinytar import Entry, write_tar

if TYPE_CHECKING:
    from pathlib import Path

BUNDLE = Manifest(
    plan="0" * 64,
    papers="0" * 64,
    target="linux-x64",
    version="1",
    profile="safe",
    runtime=Runtime(version="3.11.9", source="standalone", executable="python/bin/python3.11"),
    default_model=None,
    models=(),
    components=(),
    floor={"glibc": "2.28", "glibc forced by": "libfake.so.9", "libstdc++.so.6": "GLIBCXX_3.4"},
)


def test_a_base_with_all_that_is_wanted_is_a_layer(tmp_path: Path) -> None:
    path = tiny_base(tmp_path / "b.tar", newest="2.28", more=("libstdc++.so.6",))
    foundation = check_base(path, BUNDLE, "amd64")
    assert foundation.digest == Digest.of_file(path)
    assert b"".join(foundation.pieces()) == path.read_bytes()


def test_a_base_without_a_library_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        check_base(tiny_base(tmp_path / "b.tar"), BUNDLE, "amd64")
    assert caught.value.why == "it has no libstdc++.so.6"


def test_a_base_that_is_too_old_is_refused_and_digits_are_numbers(tmp_path: Path) -> None:
    path = tiny_base(tmp_path / "b.tar", newest="2.9", more=("libstdc++.so.6",))
    with pytest.raises(PolicyError) as caught:
        check_base(path, BUNDLE, "amd64")
    assert "2.9, the bundle wants 2.28" in caught.value.why


def test_a_bundle_that_wants_no_version_takes_any(tmp_path: Path) -> None:
    check_base(tiny_base(tmp_path / "b.tar", newest="2.9"), replace(BUNDLE, floor={}), "amd64")


def test_another_machines_base_is_refused(tmp_path: Path) -> None:
    path = tiny_base(tmp_path / "b.tar", machine="arm64", more=("libstdc++.so.6",))
    with pytest.raises(PolicyError) as caught:
        check_base(path, BUNDLE, "amd64")
    assert "not for amd64" in caught.value.why
    check_base(path, BUNDLE, "arm64")


def test_what_is_no_tar_is_refused(tmp_path: Path) -> None:
    packed = tmp_path / "b.tar.gz"
    packed.write_bytes(gzip.compress(tiny_base(tmp_path / "b.tar").read_bytes()))
    for path in (packed, tmp_path / "none.tar"):
        with pytest.raises(UsageError, match="no base"):
            check_base(path, BUNDLE, "amd64")


@pytest.mark.parametrize("link", ["elsewhere.so", "libc.so.6"], ids=["nowhere", "itself"])
def test_a_base_whose_c_library_is_a_bad_link_is_refused(tmp_path: Path, link: str) -> None:
    entry = Entry(name=f"{LIBRARIES}/libc.so.6", type=tarfile.SYMTYPE, link=link)
    with pytest.raises(UsageError, match="no base"):
        check_base(write_tar(tmp_path / "b.tar", [entry]), BUNDLE, "amd64")
