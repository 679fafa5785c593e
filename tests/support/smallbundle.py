"""A bundle of a few files for any target, made at once; nothing in it runs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from bundler.assembly import assemble
from bundler.assembly.tree import entries_of, mode_of
from bundler.atomic import EXECUTABLE, PLAIN
from bundler.targets import TARGETS
from sidecar.manifest import MANIFEST, Manifest, Runtime, encode
from tests.support import tinybinaries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bundler.targets import Target
    from sidecar.manifest import FileEntry

# The files of one component lie together; more than one name because updates go by component.
COMPONENTS = {"python": "python/", "models": "models/", "service": "embedding_sidecar/"}
PLAN = hashlib.sha256(b"plan").hexdigest()
PAPERS = {"NOTICES.txt": b"notices\n", "sbom.cdx.json": b"{}\n"}
JIT = b"_pthread_jit_write_protect_np\0"

NATIVE = {
    "linux": (tinybinaries.elf(), tinybinaries.elf(program=True)),
    "mac": (tinybinaries.macho(), tinybinaries.macho(program=True)),
    "win": (tinybinaries.pe(), tinybinaries.pe(program=True)),
}


def contents(target: Target) -> dict[str, bytes]:
    """Return the files of a small bundle: what a packager treats in ways of its own."""
    site = target.site_packages
    library, program = NATIVE[target.os]
    suffix = ".pyd" if target.os == "win" else ".so"
    return {
        target.executable: program,
        f"{site}/pack/__init__.py": b"",
        f"{site}/pack/__pycache__/__init__.cpython-311.pyc": b"\xa7\r\r\n\0\0\0\0" * 4,
        f"{site}/pack/deep/er/native{suffix}": library,
        f"{site}/pack/native{suffix}": library,
        f"{site}/pack/link.a": b"!<arch>\n",
        f"{site}/pack/types.d.ts": b"export {};\n",
        f"{site}/pack/.hidden": b"hidden",
        f"{site}/node_modules/package.json": b"{}\n",
        f"{site}/caf\u00e9 & co/{{x}}.txt": "caf\u00e9".encode(),
        "models/hub/weights.safetensors": bytes(range(256)) * 64,
        "embedding_sidecar/__main__.py": b"raise SystemExit\n",
    }


def make(root: Path, name: str, files: Mapping[str, bytes] | None = None) -> Path:
    """Write a bundle for the target `name` at `root`/`name`, and return its folder."""
    target, bundle = TARGETS[name], root / name
    given = {**(contents(target) if files is None else files), **PAPERS}
    modes = {
        path: mode_of(path, EXECUTABLE if path == target.executable else PLAIN, target)
        for path in given
    }
    for path, data in given.items():
        file = bundle / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(modes[path])

    def entries(*prefixes: str) -> tuple[FileEntry, ...]:
        return entries_of(bundle, {p: m for p, m in modes.items() if p.startswith(prefixes)})

    manifest = Manifest(
        plan=PLAN,
        papers=PLAN,
        target=name,
        version="0.0.1",
        profile="safe",
        runtime=Runtime(version="3.11.9", source="standalone", executable=target.executable),
        default_model=None,
        models=(),
        components=tuple(
            assemble._list(bundle, component, PLAN, entries(prefix))
            for component, prefix in COMPONENTS.items()
        ),
        documents=entries(*PAPERS),
    )
    (bundle / MANIFEST).write_bytes(encode(manifest))
    return bundle
