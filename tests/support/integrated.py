"""A small bundle, what `python3 build electron` writes for it, and what calls the hooks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.bundle import read_bundle
from bundler.electron.integration import AppPaths, compose, write
from bundler.project import Project
from tests.support import smallbundle
from tests.support.electronbuilder import SOURCES, ran

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

TEMPLATES = Project.here().root / "bundle" / "electron" / "builder"
MAC = SOURCES / "mac"
PLACE = AppPaths(bundles="../out", integration="build/sidecar")
VERSION = "26.17.0"
# The two forms in which electron-builder's parts are packed: CommonJS up to 26, modules that name
# what they export since 27.
PARTS = {
    26: {
        "app-builder-lib": ('"main": "out/index.js"', "out/index.js", ""),
        "@electron/osx-sign": (
            '"main": "index.js"',
            "index.js",
            "module.exports = () => {}; module.exports.signAsync = async (options) => {%s};",
        ),
    },
    27: {
        "app-builder-lib": (
            '"type": "module", "exports": {".": "./dist/index.js"}',
            "dist/index.js",
            "",
        ),
        "@electron/osx-sign": (
            '"type": "module", "exports": "./dist/index.js"',
            "dist/index.js",
            "export const sign = async (options) => {%s};",
        ),
    },
}


@dataclass(frozen=True, kw_only=True)
class Integrated:
    """A bundle, its integration, and the folder of an app that has electron-builder."""

    bundle: Path
    integration: Path
    app: Path

    @classmethod
    def make(cls, root: Path, target: str) -> Integrated:
        """Write all of it below `root`."""
        bundle = smallbundle.make(root, target)
        write(compose([read_bundle(bundle)], PLACE, TEMPLATES), root / "sidecar")
        made = cls(bundle=bundle, integration=root / "sidecar", app=root / "app")
        made.install()
        return made

    def install(self, version: str = VERSION, signer: str = "") -> None:
        """Write what stands for electron-builder; `signer` is what its osx-sign does."""
        parts = PARTS[27 if version.startswith("27") else 26]
        for name, (form, entry, text) in parts.items():
            folder = self.app / "node_modules" / name
            (folder / entry).parent.mkdir(parents=True, exist_ok=True)
            (folder / entry).write_text(text % signer if "%s" in text else text)
            (folder / "package.json").write_text(
                f'{{"name": "{name}", "version": "{version}", {form}}}'
            )

    def verify(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the comparison, as people do."""
        return ran([self.integration / "verify-bundle.mjs", self.bundle, *options])

    def call(
        self, hook: str, arguments: str, module: str = "hooks.mjs"
    ) -> subprocess.CompletedProcess[str]:
        """Call a hook with JavaScript for its arguments; `root` is the bundle, `app` the app."""
        script = self.integration / "call.mjs"
        script.write_text(
            f'import {{ {hook} }} from "./{module}";\n'
            f"const root = {json.dumps(str(self.bundle))};\n"
            f"const app = {json.dumps(str(self.app))};\n"
            f"await {hook}({arguments});\n"
        )
        return ran([script])
