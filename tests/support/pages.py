"""The documents, and those of their shell commands that tests/integration/test_pages.py runs."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "bundle/electron/README.md", "ci/README.md"),
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BUNDLE = "bundle/out/linux-x64"
UP = "python3 build up"
CURL = (
    "curl http://127.0.0.1:8421/embed -H 'Content-Type: application/json' "
    """-d '{"texts": ["hello world"]}'"""
)
IMAGE = "sidecar:0.1.0"
DOCKER_RUN = "docker run --rm -p 127.0.0.1:8421:8421"

# Run as they stand there: those that end, in an order in which each finds what it needs, and those
# that serve until they are interrupted.
ENDING = (
    "python3 build assemble",
    "mkdir -p ../my-app",
    "npm pack ./bundle/electron --pack-destination ../my-app",
    "npm install --prefix ../my-app ../my-app/sidecar-electron-0.1.0.tgz",
    "python3 build electron --output ../my-app/build/sidecar",
    "python3 build assemble --profile lean",
    "python3 build smoke bundle/out/linux-x64-lean",
    "python3 build diff bundle/out/linux-x64 bundle/out/linux-x64-lean --names",
    "python3 build update-size bundle/out/linux-x64 bundle/out/linux-x64-lean",
    "python3 build image --profile lean",
)
TAG = f"python3 build image --tag {IMAGE}"
SERVING = (
    UP,
    f"{UP} -- --allow-dir ~/Documents",
    f"{BUNDLE}/python/bin/python3.11 -I -B {BUNDLE}/embedding_sidecar --port 8421",
    "node bundle/electron/example/serve.js bundle/out/linux-x64",
)
CONTAINERS = (
    f"{DOCKER_RUN} {IMAGE}",
    f"{DOCKER_RUN} -v ~/Documents:/documents:ro {IMAGE} --allow-dir /documents",
    f'{DOCKER_RUN} -v ~/token:/token:ro --user "$(id -u):$(id -g)" {IMAGE} --token-file /token',
    f"{DOCKER_RUN} -i {IMAGE} --token-stdin < ~/token",
    f"{DOCKER_RUN} --env SIDECAR_TOKEN {IMAGE}",
    (
        "docker run --rm --publish 127.0.0.1:8421:8421 --read-only --cap-drop ALL "
        "--security-opt no-new-privileges --pids-limit 128 --memory 1536m --memory-swap 1536m "
        f"{IMAGE}"
    ),
)


def shown() -> list[str]:
    """Return each command of the documents' shell blocks, in one line, without its remark."""
    found = []
    for document in DOCUMENTS:
        for block in BLOCK.findall((ROOT / document).read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.sub(r"\s{2,}#.*$", "", line)
                if command.strip():
                    found.append(" ".join(command.split()))
    return found
