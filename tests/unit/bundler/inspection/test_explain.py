from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundler.artifacts.store import Store
from bundler.errors import UsageError
from bundler.inspection.explain import describe, runtime_omissions, why
from tests.support.miniature import TARGET
from tests.support.stocked import SITE, Stocked

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Stocked:
    return Stocked.make(tmp_path_factory.mktemp("provenance"))


def told(stocked: Stocked, asked: str) -> dict[str, str]:
    """Return what is said of `asked`, by the word each line begins with."""
    answer = why(asked, stocked.bundle, stocked.inventory(), stocked.left_out())
    pairs = (line.partition(" ") for line in describe(answer))
    return {word: rest.strip() for word, _, rest in pairs}


def test_a_file_that_is_there_has_component_package_and_bytes(stocked: Stocked) -> None:
    size = (stocked.bundle / SITE / "feather" / "barb.py").stat().st_size
    assert told(stocked, f"{SITE}/feather/barb.py") == {
        "path": f"{SITE}/feather/barb.py",
        "component": "packages",
        "package": "feather 1.0",
        "bytes": str(size),
    }


@pytest.mark.parametrize(
    "asked",
    [
        "feather/barb.py",
        "./feather//barb.py",
        "lib/python3.11/site-packages/feather/barb.py",
        f"{SITE}/feather/../feather/barb.py",
    ],
)
def test_a_file_may_be_spelled_from_where_people_see_it(stocked: Stocked, asked: str) -> None:
    assert told(stocked, asked)["path"] == f"{SITE}/feather/barb.py"


def test_a_file_may_be_spelled_as_a_path_of_this_machine(
    stocked: Stocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = stocked.bundle / "manifest.json"
    assert told(stocked, str(place))["path"] == "manifest.json"
    monkeypatch.chdir(stocked.bundle.parent)
    assert told(stocked, os.path.relpath(place))["component"] == "papers"


def test_a_removed_file_has_its_rule_the_reason_and_the_bytes_it_had(stocked: Stocked) -> None:
    assert told(stocked, "feather/tests/test_barb.py") == {
        "path": f"{SITE}/feather/tests/test_barb.py",
        "package": "feather 1.0",
        "removed": "24 bytes, by the rule tests",
        "reason": "tests",
    }


def test_a_stripped_file_has_both(stocked: Stocked) -> None:
    left_out = stocked.left_out()
    (omission,) = [o for o in left_out.found if o.rule]
    path = f"{SITE}/heavy_weight/native.so"
    stripped = replace(left_out, found=(replace(omission, path=path, size=9),))
    answer = why("heavy_weight/native.so", stocked.bundle, stocked.inventory(), stripped)
    text = "\n".join(describe(answer))
    assert "component  heavy" in text
    assert "stripped   9 bytes" in text


def test_what_no_bundle_takes_is_said_to_be_so(stocked: Stocked) -> None:
    left_out = stocked.left_out()
    (omission,) = [o for o in left_out.found if o.rule]
    script = replace(omission, path=f"{SITE}/feather-1.0.data/scripts/run", rule=None)
    answer = why(
        "feather-1.0.data/scripts/run",
        stocked.bundle,
        stocked.inventory(),
        replace(left_out, found=(script,)),
    )
    assert any("24 bytes, as in every bundle" in line for line in describe(answer))


def test_an_unknown_file_is_a_usage_error(stocked: Stocked) -> None:
    with pytest.raises(UsageError, match=r"nothing is known of feather/none\.py"):
        told(stocked, "feather/none.py")


def test_what_could_not_be_looked_into_is_named(stocked: Stocked, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        told(replace(stocked, store=Store(tmp_path)), "feather/tests/test_barb.py")
    assert "feather-1.0-py3-none-any.whl" in caught.value.why


def test_what_a_runtime_lost_is_found_in_its_archive(stocked: Stocked) -> None:
    spec = stocked.miniature.locks.runtimes[TARGET.name]
    found = runtime_omissions(spec, TARGET, stocked.store)
    assert found
    assert all(o.rule and o.path.startswith("python/") for o in found)
    there = {o.path for o in found} & stocked.inventory().files.keys()
    # Only bytecode is put back.
    assert all("__pycache__" in path for path in there)


def test_of_a_runtime_that_the_store_lacks_nothing_is_found(
    stocked: Stocked, tmp_path: Path
) -> None:
    spec = stocked.miniature.locks.runtimes[TARGET.name]
    assert runtime_omissions(spec, TARGET, Store(tmp_path)) == ()
