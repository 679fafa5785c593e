"""How a release was made, as an in-toto statement with SLSA's provenance inside.

Pure but for what git says of the checkout: the same arguments give the same bytes. It is not
signed; the pipeline attests the artifacts. Sources: in-toto Statement v1, SLSA Provenance v1.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundler.release.verify_sidecar import PROVENANCE, STATEMENT
from sidecar.manifest import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

BUILD_TYPE = "urn:sidecar:build:release:v1"
LOCAL_BUILDER = "urn:sidecar:builder:local"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, BUILD_TYPE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseBuild:
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


def render_statement(build: ReleaseBuild, subjects: Mapping[str, str]) -> bytes:
    """Return the statement about `subjects`, the sha256 of every artifact by its name.

    Its invocation's name follows from everything else in it: no clock and no chance is asked.
    """
    source = {"name": "source", "digest": {"gitCommit": build.commit}}
    if build.source is not None:
        source["uri"] = build.source
    inputs = [
        {"name": name, "digest": {"sha256": build.inputs[name]}} for name in sorted(build.inputs)
    ]
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": dict(build.asked),
        "internalParameters": dict(build.found),
        "resolvedDependencies": inputs if build.commit is None else [source, *inputs],
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


def read_checkout(root: Path) -> tuple[str | None, list[str]]:
    """Return the commit of the checkout at `root`, and of no other around it, if git knows one.

    Beside it stands why a release cannot be made of it, if so.
    """
    commit = _git(root, "rev-parse", "HEAD")
    top = _git(root, "rev-parse", "--show-toplevel")
    if not commit or top is None or Path(top).resolve() != root.resolve():
        return None, ["the sources are not a git checkout"]
    is_clean = not _git(root, "status", "--porcelain")
    return commit, [] if is_clean else ["the checkout has uncommitted changes"]


def _git(root: Path, *arguments: str) -> str | None:
    # A hook of another repository that runs this has variables which name that one.
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],  # noqa: S607 - git is wherever it is
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    except OSError:
        return None
    return None if done.returncode else done.stdout.strip()
