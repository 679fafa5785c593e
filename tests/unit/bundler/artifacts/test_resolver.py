from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from bundler.artifacts.resolver import Resolver
from bundler.artifacts.sources import UrlSource
from bundler.artifacts.store import Store
from bundler.console import Console
from bundler.errors import UsageError
from bundler.locks.runtime import read_lock
from bundler.project import Project

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = Project.here()
SPEC = read_lock(PROJECT.runtime_lock)["linux-x64"]
RELEASE = "https://releases.example/download"


def resolver(tmp_path: Path, **given: Any) -> Resolver:
    return Resolver(
        project=PROJECT,
        store=Store(tmp_path),
        console=Console(io.StringIO()),
        addresses={"runtime": RELEASE},
        mirrors=given,
        is_offline=False,
    )


@pytest.mark.parametrize("mirror", ["", "file:///srv/pbs", "https://me:s3cret@m.example/x/"])
def test_a_mirror_takes_the_place_of_the_releases_address(tmp_path: Path, mirror: str) -> None:
    given = {"runtime": mirror} if mirror else {}
    (source,) = resolver(tmp_path, **given).runtime(SPEC).sources
    assert isinstance(source, UrlSource)
    rest = SPEC.url.rpartition("/")[2]
    assert source.url == f"{(mirror or RELEASE).rstrip('/')}/{SPEC.tag}/{rest}"
    assert "%2B" in rest


def test_an_endpoint_of_the_hub_that_is_no_address_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://[hub")
    with pytest.raises(UsageError, match="an address of HF_ENDPOINT is none"):
        _ = resolver(tmp_path).hub
