"""The papers of a bundle: what the recipe says of the runtime's inside, for each target."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundler.assembly import metadata
from bundler.errors import IntegrityError, PolicyError
from bundler.project import Project
from bundler.recipe import read_recipe
from tests.support.miniature import Miniature
from tests.support.tinywheel import tiny_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bundler.assembly.components import FetchedInputs
    from bundler.errors import BundlerError
    from bundler.plan import BundlePlan

COMMON = {"bzip2", "expat", "libffi", "mpdecimal", "openssl", "sqlite", "xz"}
INSIDE = {
    "linux-x64": COMMON | {"zlib", "libuuid", "ncurses", "libedit", "libatomic"},
    "linux-arm64": COMMON | {"zlib", "libuuid", "ncurses", "libedit"},
    "mac-arm64": COMMON | {"libuuid"},
    "win-x64": COMMON | {"zlib", "vcruntime"},
}


@pytest.fixture
def miniature(tmp_path: Path) -> Miniature:
    return Miniature.make(tmp_path / "checkout")


def gathered(miniature: Miniature, target: str) -> tuple[BundlePlan, FetchedInputs]:
    """Return a plan for `target`, and inputs with the real recipe's policy."""
    planned = replace(miniature.plan(), target=target)
    policy = read_recipe(Project.here().recipe).sections
    return planned, replace(miniature.gather(()), policy=policy)


@pytest.mark.parametrize("target", INSIDE)
def test_both_papers_list_what_the_runtime_of_a_target_links_in(
    miniature: Miniature, target: str, tmp_path: Path
) -> None:
    planned, fetched = gathered(miniature, target)
    wheels = metadata.read_wheels(planned, fetched)
    metadata.write_documents(planned, fetched, wheels, tmp_path)
    bill = json.loads((tmp_path / "sbom.cdx.json").read_bytes())
    (runtime,) = [one for one in bill["components"] if one["name"] == "cpython"]
    assert {one["name"] for one in runtime["components"]} == INSIDE[target]
    assert all(one["licenses"] for one in runtime["components"])
    text = (tmp_path / "NOTICES.txt").read_text(encoding="utf-8")
    version = planned.runtime.version if planned.runtime else ""
    lines = [line for line in text.splitlines() if line.endswith(f", inside CPython {version}")]
    assert {line.partition(",")[0] for line in lines} == INSIDE[target]


def test_a_part_of_a_wheel_with_a_refused_licence_is_exit_7(
    miniature: Miniature, tmp_path: Path
) -> None:
    wheel = next(miniature.inputs.glob("feather-*.whl"))
    inside = {"components": [{"name": "db", "licenses": [{"license": {"id": "AGPL-3.0-only"}}]}]}
    dist_info = "feather-1.0.dist-info"
    other = tiny_wheel(
        tmp_path, "feather", extra={f"{dist_info}/sboms/x.json": json.dumps(inside).encode()}
    )
    planned, fetched = gathered(miniature, "linux-x64")
    sha256 = next(one.sha256 for one in planned.wheels if one.filename == wheel.name)
    fetched = replace(fetched, files={**fetched.files, sha256: other})
    wheels = metadata.read_wheels(planned, fetched)
    with pytest.raises(PolicyError, match="are refused in every file") as caught:
        metadata.write_documents(planned, fetched, wheels, tmp_path)
    assert caught.value.why == "db: AGPL-3.0-only"


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda data: data[: len(data) // 2], IntegrityError),
        (lambda data: data[10:], IntegrityError),
        (lambda data: data.replace(b"METADATA", b"METADATE"), PolicyError),
    ],
    ids=["cut", "without its beginning", "without METADATA"],
)
def test_a_wheel_that_cannot_be_read_is_named(
    miniature: Miniature, damage: Callable[[bytes], bytes], error: type[BundlerError]
) -> None:
    wheel = next(miniature.inputs.glob("feather-*.whl"))
    planned, fetched = gathered(miniature, "linux-x64")
    wheel.write_bytes(damage(wheel.read_bytes()))
    sha256 = next(one.sha256 for one in planned.wheels if one.filename == wheel.name)
    fetched = replace(fetched, files={**fetched.files, sha256: wheel})
    with pytest.raises(error, match=r"^feather-"):
        metadata.read_wheels(planned, fetched)


def test_the_recipe_itself_refuses_both_licences_of_berkeley_db() -> None:
    table = read_recipe(Project.here().recipe).sections["licences"]
    assert {"AGPL-*", "Sleepycat"} <= set(table["refused"])
