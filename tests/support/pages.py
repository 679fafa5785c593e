"""The documents' shell commands, and where each is run."""

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

# Run as they stand there by tests/integration/test_pages.py: those that end, in an order in which
# each finds what it needs, and those that serve until they are interrupted.
ENDING = (
    "python3 build assemble",
    "python3 build electron --output ../my-app/build/sidecar",
    "npm pack ./bundle/electron --pack-destination ../my-app",
    "npm install --prefix ../my-app ../my-app/sidecar-electron-0.1.0.tgz",
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
# Run by another test, with options that make it shorter or keep its files apart.
ELSEWHERE = {
    "ci/base": "tests/integration/conftest.py",
    "ci/base arm64": "tests/integration/test_image_index.py",
    "python3 build assemble --target linux-arm64": "tests/smoke/conftest.py",
    "python3 build image --target linux-x64 --target linux-arm64": (
        "tests/integration/test_image_index.py"
    ),
    "python3 build assemble --target mac-arm64 --only wheels,models,service": (
        "tests/smoke/test_foreign_bundles.py"
    ),
    "python3 build bench --quick": "tests/smoke/test_bench.py",
    "python3 build bench --replay /tmp/requests --clients 8": "tests/smoke/test_bench.py",
    "python3 build bench --against /tmp/before/bench.json": "tests/unit/bench/test_run.py",
    "python3 build release --dry-run": "tests/smoke/test_release.py",
    "python3 build verify bundle/out/release": "tests/unit/bundler/test_commands_release.py",
}
NOT_RUN = {
    "git clone YOUR-FORK sidecar && cd sidecar": "is a contributor's first step",
    (
        "python3.11 -m venv .venv && . .venv/bin/activate && pip install --upgrade pip"
    ): "the nightly pipeline has its own Python",
    "pip install -e . --group dev": "asks the index for 700 MB; the nightly pipeline does",
    "pre-commit install": "writes into .git",
    "git switch --create my-change": "would leave the branch",
    "pytest tests/unit/sidecar/web": "those tests run anyway",
    "ruff format && ruff check && mypy": "so do these checks",
    "python3 build check": "its parts do",
    "git push --set-upstream origin my-change": "pushes",
    "python3 build test": "it is the command that runs this",
    "python3 build bench": "takes long; the quick one does the same with fewer texts",
    "python3 build bench --output /tmp/before": "so does it",
    "python3 build bench --synthetic": "makes a gigabyte of weights; a test has a tiny model",
    "python3 build bench --synthetic --page docs/measured.md": "so does it; a test has a page",
    "python3 build assemble --target mac-arm64": "needs the release page of the runtime",
    "python3 build lock --models multilingual-mpnet": "asks the hub for a gigabyte",
    "MODELS=1 ci/refresh": "asks the hub for gigabytes",
    "PYTHON=../old/bin/python ci/count golden multilingual-mpnet": "needs the model's lock",
    "python3 build assemble --profile lean --model multilingual-mpnet": "so does it",
    'SIDECAR_BUNDLE="$(python3 build assemble --model multilingual-mpnet)" ci/count engines': (
        "and so does this"
    ),
    "python3 build up --model multilingual-mpnet": "needs the lock of the line before",
}


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
