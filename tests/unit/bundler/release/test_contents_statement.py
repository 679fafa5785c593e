from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from bundler.release.contents import (
    BUILD_TYPE,
    LOCAL_BUILDER,
    ReleaseContents,
    compressor_versions,
    render_statement,
)

EDITION = ReleaseContents(
    bundles=(),
    bases={},
    epoch=0,
    asked={"targets": ["linux-x64"]},
    found={"missing": []},
    inputs={"pdm.lock": "b" * 64, "bundle/models.lock.toml": "a" * 64},
    commit="c" * 40,
)
SUBJECTS = {"b.zip": "2" * 64, "a.tar.zst": "1" * 64}


def made(edition: ReleaseContents = EDITION) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(render_statement(edition, SUBJECTS))
    return document


def test_it_is_a_statement_of_provenance() -> None:
    document = made()
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://slsa.dev/provenance/v1"
    assert set(document["predicate"]) == {"buildDefinition", "runDetails"}


def test_subjects_come_by_name_with_their_digests() -> None:
    assert made()["subject"] == [
        {"name": "a.tar.zst", "digest": {"sha256": "1" * 64}},
        {"name": "b.zip", "digest": {"sha256": "2" * 64}},
    ]


def test_the_definition_names_the_commit_and_every_lock() -> None:
    definition = made(replace(EDITION, source="git+https://example.invalid/r"))["predicate"][
        "buildDefinition"
    ]
    assert definition["buildType"] == BUILD_TYPE
    assert definition["externalParameters"] == {"targets": ["linux-x64"]}
    assert definition["resolvedDependencies"] == [
        {
            "name": "source",
            "digest": {"gitCommit": "c" * 40},
            "uri": "git+https://example.invalid/r",
        },
        {"name": "bundle/models.lock.toml", "digest": {"sha256": "a" * 64}},
        {"name": "pdm.lock", "digest": {"sha256": "b" * 64}},
    ]


def test_an_unknown_commit_is_left_out() -> None:
    definition = made(replace(EDITION, commit=None))["predicate"]["buildDefinition"]
    assert [one["name"] for one in definition["resolvedDependencies"]] == [
        "bundle/models.lock.toml",
        "pdm.lock",
    ]


def test_the_builder_is_named() -> None:
    assert made()["predicate"]["runDetails"]["builder"] == {
        "id": LOCAL_BUILDER,
        "version": compressor_versions(),
    }
    other = made(replace(EDITION, builder="https://example.invalid/w"))
    assert other["predicate"]["runDetails"]["builder"]["id"] == "https://example.invalid/w"


def invocation(edition: ReleaseContents, subjects: dict[str, str]) -> str:
    details = json.loads(render_statement(edition, subjects))["predicate"]["runDetails"]
    return str(details["metadata"]["invocationId"])


def test_the_invocation_follows_from_all_the_rest_and_nothing_else() -> None:
    first = invocation(EDITION, SUBJECTS)
    assert first.startswith("urn:uuid:")
    assert invocation(EDITION, dict(reversed(SUBJECTS.items()))) == first
    others = {
        invocation(replace(EDITION, commit="d" * 40), SUBJECTS),
        invocation(replace(EDITION, builder="urn:other"), SUBJECTS),
        invocation(EDITION, {**SUBJECTS, "a.tar.zst": "3" * 64}),
    }
    assert len({first, *others}) == 4
