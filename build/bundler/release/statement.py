"""How a release was made, as an in-toto statement with SLSA's provenance inside.

Pure: the same arguments give the same bytes. It is not signed; the pipeline attests the artifacts.
Sources: in-toto Statement v1, SLSA Provenance v1.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bundler.release.verify_sidecar import PROVENANCE, STATEMENT
from sidecar.manifest import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

BUILD_TYPE = "urn:sidecar:build:release:v1"
LOCAL_BUILDER = "urn:sidecar:builder:local"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, BUILD_TYPE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What a release was made from, and by whom.

    `asked` is what the caller chose, `found` what followed on this machine; `inputs` are sha256 by
    name: the locks, the recipe, the image's bases. `source` is the repository's address, if known.
    """

    asked: Mapping[str, object]
    found: Mapping[str, object]
    inputs: Mapping[str, str]
    commit: str | None
    source: str | None = None
    builder: str = LOCAL_BUILDER
    versions: Mapping[str, str] = field(default_factory=dict)


def render(build: Build, subjects: Mapping[str, str]) -> bytes:
    """Return the statement about `subjects`, the sha256 of every artifact by its name.

    Its invocation's name follows from everything else in it: no clock and no chance is asked.
    """
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": dict(build.asked),
        "internalParameters": dict(build.found),
        "resolvedDependencies": _dependencies(build),
    }
    subject = [{"name": name, "digest": {"sha256": subjects[name]}} for name in sorted(subjects)]
    identity = canonical([definition, subject, build.builder]).decode()
    builder: dict[str, Any] = {"id": build.builder}
    if build.versions:
        builder["version"] = dict(build.versions)
    return canonical(
        {
            "_type": STATEMENT,
            "subject": subject,
            "predicateType": PROVENANCE,
            "predicate": {
                "buildDefinition": definition,
                "runDetails": {
                    "builder": builder,
                    "metadata": {"invocationId": f"urn:uuid:{uuid.uuid5(NAMESPACE, identity)}"},
                },
            },
        }
    )


def _dependencies(build: Build) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if build.commit is not None:
        source: dict[str, Any] = {"name": "source", "digest": {"gitCommit": build.commit}}
        if build.source is not None:
            source["uri"] = build.source
        found.append(source)
    found += [
        {"name": name, "digest": {"sha256": build.inputs[name]}} for name in sorted(build.inputs)
    ]
    return found
