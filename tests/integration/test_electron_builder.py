"""The real electron-builder packages our bundles: on Linux for every target, as far as it goes.

Signing for macOS, installers and Electron itself are not had here.
"""

from __future__ import annotations

import hashlib
import json
import os
import plistlib
import random
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]

from bundler import archive
from bundler.launch import RunningService, command
from bundler.project import Project
from bundler.targets import TARGETS
from sidecar.manifest import read
from sidecar.models.golden import MIN_COSINE
from sidecar.models.golden import read as read_golden
from tests.support import smallbundle
from tests.support.electronbuilder import SOURCES, node, ran
from tests.support.lacking import lack
from tests.support.miniature import snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROJECT = Project.here()
START_SECONDS = 180.0
BATCH = 16
EPOCH = 1_700_000_000
LARGEST_BLOCK = 32_768
NAMES = ("linux-x64", "mac-arm64", "win-x64")
APP_OWN = {"app.asar", "own.txt", "icon.icns", "electron.icns", "en.lproj"}

COPIED = ("package.json", "main.js", "electron-builder.yml", "own.txt", "certify.cjs")
NEXT = "app-builder-lib@27.0.0-alpha.8"
NEXT_SHA256 = "92eed379c546c4ab563ba18ba9b25dea4685d2280214713ece6e9debe60f0c5e"
HELPERS = ("", " (GPU)", " (Plugin)", " (Renderer)")
OUTPUTS = {
    "linux-x64": "linux-unpacked",
    "linux-arm64": "linux-arm64-unpacked",
    "win-x64": "win-unpacked",
    "mac-arm64": "mac-arm64",
}


@pytest.fixture(scope="session")
def modules() -> Path:
    """Return the folder node_modules with electron-builder, installed once for every lock.

    Skips where there is no Node, or its packages cannot be had.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        lack("there is no Node with npm here")
    lock = (SOURCES / "package-lock.json").read_bytes()
    folder = PROJECT.out / "cache" / "electron-builder" / hashlib.sha256(lock).hexdigest()[:16]
    modules = folder / "node_modules"
    if (folder / "complete").is_file():
        return modules
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(SOURCES / name, folder / name)
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
    done = subprocess.run(
        ["npm", "ci", *options], cwd=folder, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode:
        lack(f"npm has no electron-builder for us: {done.stderr.strip()[-300:]}")
    (folder / "complete").touch()
    return modules


def next_schema(folder: Path) -> bytes:
    """Return the schema of configurations of the version to come, from the newest of its trials.

    Its other packages are not all in the registry. Skips where it cannot be had.
    """
    options = ("--ignore-scripts", "--prefer-offline", "--pack-destination", folder)
    done = subprocess.run(
        ["npm", "pack", NEXT, *options], capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode:
        lack(f"npm has no {NEXT} for us: {done.stderr.strip()[-300:]}")
    (archive,) = folder.glob("*.tgz")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == NEXT_SHA256
    with tarfile.open(archive) as members:
        file = members.extractfile("package/scheme.json")
        assert file is not None
        return file.read()


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """What electron-builder did: how it ended, what it said, and where the resources are."""

    code: int
    said: str
    resources: Path


@dataclass(frozen=True, kw_only=True)
class App:
    """An app's folder, and the electron-builder that packages it."""

    root: Path
    modules: Path

    @classmethod
    def make(cls, root: Path, modules: Path) -> App:
        """Write the app's files."""
        root.mkdir()
        for name in COPIED:
            shutil.copyfile(SOURCES / name, root / name)
        return cls(root=root, modules=modules)

    @property
    def integration(self) -> Path:
        """Where `python3 build electron` is to write."""
        return self.root / "build" / "sidecar"

    def package(
        self,
        target: str,
        *options: str,
        environment: Mapping[str, str] | None = None,
    ) -> Packaged:
        """Run electron-builder for one target, to a folder, with Electron's stand-in."""
        system, _, architecture = target.partition("-")
        electron = self.root.parent / f"electron-{system}"
        if not electron.exists():
            self._stand_in(electron, system)
        program = self.modules / "electron-builder" / "cli.js"
        arguments = [f"--{system}", "dir", f"--{architecture}", "--publish", "never"]
        done = subprocess.run(
            ["node", program, *arguments, f"-c.electronDist={electron}", *options],
            cwd=self.root,
            env={**_environment(), **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        output = self.root / "dist" / OUTPUTS[target]
        inside = "Packaged.app/Contents/Resources" if system == "mac" else "resources"
        return Packaged(code=done.returncode, said=done.stdout, resources=output / inside)

    def _stand_in(self, folder: Path, system: str) -> None:
        """Write what electron-builder looks for in Electron's own distribution."""
        folder.mkdir()
        match system:
            case "linux":
                (folder / "electron").write_bytes(b"\x7fELF")
                (folder / "electron").chmod(0o755)
            case "win":
                node(SOURCES / "program.cjs", self.modules, folder / "electron.exe")
            case _:
                contents = folder / "Electron.app" / "Contents"
                _mac_program(contents, "Electron")
                (contents / "Resources").mkdir()
                for helper in HELPERS:
                    name = f"Electron Helper{helper}"
                    _mac_program(contents / "Frameworks" / f"{name}.app" / "Contents", name)


def _mac_program(contents: Path, name: str) -> None:
    (contents / "MacOS").mkdir(parents=True)
    (contents / "MacOS" / name).write_bytes(b"\xcf\xfa\xed\xfe" + bytes(28))
    (contents / "MacOS" / name).chmod(0o755)
    facts = {"CFBundleExecutable": name, "CFBundleIdentifier": "org.example.stand-in"}
    (contents / "Info.plist").write_bytes(plistlib.dumps(facts))


def pretending(log: Path, identity: str = "", team: str = "not set") -> dict[str, str]:
    """Return an environment in which electron-builder signs as on a Mac, with stand-ins.

    Its keychain has one `identity`, of `team`, or none; `log` gets each call to sign.
    """
    return {
        "NODE_OPTIONS": f'--require "{SOURCES / "mac" / "pretend.cjs"}"',
        "CSC_IDENTITY_AUTO_DISCOVERY": "true",
        "MAC_LOG": str(log),
        "MAC_IDENTITY": identity,
        "MAC_TEAM": team,
    }


def _environment() -> dict[str, str]:
    """Return an environment in which nothing is signed, and nothing decides by being CI."""
    unset = ("CSC_", "WIN_CSC_", "USE_HARD_LINKS", "NODE_OPTIONS", "NODE_PATH", "GITHUB_BASE_REF")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
    return {**kept, "CSC_IDENTITY_AUTO_DISCOVERY": "false"}


def integrate(app: App, *bundles: Path) -> None:
    """Run `python3 build electron` for an app, as people do."""
    named = [argument for bundle in bundles for argument in ("--bundle", str(bundle))]
    done = subprocess.run(
        [sys.executable, PROJECT.root / "build", "electron", "--output", app.integration, *named],
        cwd=PROJECT.root,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "extends: build/sidecar/electron-builder.yml" in done.stderr


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, modules: Path) -> App:
    """Return an app that takes in a small bundle for every target."""
    root = tmp_path_factory.mktemp("small")
    bundles = [smallbundle.make(root / "bundles", name) for name in NAMES]
    app = App.make(root / "an app", modules)
    integrate(app, *bundles)
    return app


def test_blockmaps_see_what_changed_and_little_more(tmp_path: Path, modules: Path) -> None:
    files = smallbundle.contents(TARGETS["linux-x64"])
    # Weights that do not compress, as real ones do not: a few dozen blocks.
    files["models/hub/weights.safetensors"] = random.Random(1).randbytes(1 << 20)
    zips = [tmp_path / "before.zip", tmp_path / "after.zip"]
    for path in zips:
        bundle = smallbundle.make(tmp_path / path.stem, "linux-x64", files)
        archive.write_zip(bundle, path, epoch=EPOCH)
        files["embedding_sidecar/__main__.py"] += b"# One line more.\n"
    done = subprocess.run(
        ["node", SOURCES / "blockmap.cjs", *zips],
        cwd=modules.parent,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["size"] == zips[1].stat().st_size
    # The changed file is the first, the list of all files the last: two blocks at each end.
    assert 0 < found["moved"] <= 4 * LARGEST_BLOCK


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    "target",
    ["linux-x64", *(pytest.param(name, marks=pytest.mark.full) for name in NAMES[1:])],
)
def test_every_target_is_packaged_from_one_configuration_and_verified(
    small: App, target: str
) -> None:
    before = snapshot(small.root.parent / "bundles")
    packaged = small.package(target)
    assert packaged.code == 0, packaged.said
    assert f"sidecar verified: {len(smallbundle.contents(TARGETS[target])) + 2}" in packaged.said
    taken = {path.name for path in (small.root.parent / "bundles" / target).iterdir()}
    assert taken < names(packaged.resources)
    assert names(packaged.resources) - taken <= APP_OWN
    assert "own.txt" in names(packaged.resources)
    assert snapshot(small.root.parent / "bundles") == before


@pytest.mark.full
def test_hard_links_instead_of_copies_verify_too(small: App) -> None:
    packaged = small.package("linux-x64", environment={"USE_HARD_LINKS": "true"})
    assert packaged.code == 0, packaged.said
    assert (packaged.resources / "NOTICES.txt").stat().st_nlink > 1
    assert "sidecar verified" in packaged.said


def test_a_bundle_that_is_not_what_it_says_fails_the_build(tmp_path: Path, modules: Path) -> None:
    bundle = smallbundle.make(tmp_path / "bundles", "linux-x64")
    app = App.make(tmp_path / "app", modules)
    integrate(app, bundle)
    (bundle / "models/hub/weights.safetensors").write_bytes(b"w")
    (bundle / "embedding_sidecar/__main__.py").unlink()
    (bundle / "models/hub/more.txt").touch()
    packaged = app.package("linux-x64")
    assert packaged.code != 0
    assert "changed: models/hub/weights.safetensors" in packaged.said
    assert "missing: embedding_sidecar/__main__.py" in packaged.said
    assert "extra: models/hub/more.txt" in packaged.said
    assert "next: " in packaged.said


def test_a_filter_that_takes_bytecode_away_fails_the_build_and_is_named(small: App) -> None:
    text = (small.integration / "electron-builder.yml").read_text(encoding="utf-8")
    filtered = text.replace('to: "python" }', 'to: "python", filter: ["**/*", "!**/*.pyc"] }')
    assert filtered != text
    (small.integration / "electron-builder.yml").write_text(filtered, encoding="utf-8")
    try:
        packaged = small.package("linux-x64")
    finally:
        (small.integration / "electron-builder.yml").write_text(text, encoding="utf-8")
    assert packaged.code != 0
    assert "missing: python/" in packaged.said
    assert "take filters such as !**/*.pyc off extraResources" in packaged.said


@pytest.mark.full
def test_a_bundle_for_another_machine_fails_the_build(small: App) -> None:
    bundles = small.root.parent / "bundles"
    shutil.copytree(bundles / "linux-x64", bundles / "linux-arm64")
    try:
        packaged = small.package("linux-arm64")
    finally:
        shutil.rmtree(bundles / "linux-arm64")
    assert packaged.code != 0
    assert "it is for linux-x64, the app is for linux-arm64" in packaged.said


@pytest.mark.full
def test_programs_that_electron_builder_signs_for_windows_are_accepted(small: App) -> None:
    signer = "-c.win.signtoolOptions.sign=./certify.cjs"
    packaged = small.package("win-x64", signer, "-c.win.signtoolOptions.publisherName=Me")
    assert packaged.code == 0, packaged.said
    assert "1 of them signed anew" in packaged.said


def test_an_app_is_signed_and_the_files_of_its_bundle_before_it(small: App, tmp_path: Path) -> None:
    log = tmp_path / "log"
    identity = "Developer ID Application: Me (TEAM123456)"
    packaged = small.package("mac-arm64", environment=pretending(log, identity, "TEAM123456"))
    assert packaged.code == 0, packaged.said
    assert "3 of them signed anew" in packaged.said
    calls = log.read_text().splitlines()
    by_us = [call for call in calls if call.startswith("--force --sign ")]
    by_osx_sign = calls[len(by_us) :]
    # One of a copy, which shows the team, and the three Mach-O files.
    assert len(by_us) == 4
    assert by_osx_sign[-1].endswith("/Packaged.app")
    assert all(f"{small.integration}/entitlements.app.plist" in call for call in by_osx_sign)
    assert all("--options runtime" in call for call in calls[1:])
    inside = [call for call in by_osx_sign if "/Contents/Resources/" in call]
    assert [call.rpartition("/")[2] for call in inside] == ["app.asar"]


@pytest.mark.parametrize("forced", [True, False])
def test_an_app_that_nothing_will_sign_is_told_of_or_fails(
    small: App, tmp_path: Path, *, forced: bool
) -> None:
    options = ["-c.forceCodeSigning=true"] if forced else []
    environment = pretending(tmp_path / "log")
    packaged = small.package("mac-arm64", *options, environment=environment)
    # electron-builder's own words, which do not come where a hook signs.
    assert "skipped macOS application code signing" in packaged.said
    assert 'cannot find valid "Developer ID Application" identity' in packaged.said
    assert bool(packaged.code) == forced
    assert ("nothing of this app for macOS will be signed" in packaged.said) == (not forced)
    assert not (tmp_path / "log").exists()


def test_the_next_version_accepts_the_configuration(small: App, tmp_path: Path) -> None:
    schema = jsonschema.Draft7Validator(json.loads(next_schema(tmp_path)))
    text = (small.integration / "electron-builder.yml").read_text(encoding="utf-8")
    schema.validate(yaml.safe_load(text))
    with pytest.raises(jsonschema.ValidationError, match="hardenedRuntime"):
        schema.validate({"mac": {"hardenedRuntime": True}})


def test_a_packaged_bundle_serves_from_where_it_is_and_stays_as_it_was(
    tmp_path: Path, modules: Path, bundle: Path
) -> None:
    if bundle.name not in TARGETS:
        pytest.skip(f"the bundle's folder is not named by its target: {bundle}")
    app = App.make(tmp_path / "app", modules)
    integrate(app, bundle)
    packaged = app.package(bundle.name)
    assert packaged.code == 0, packaged.said
    before = snapshot(packaged.resources)
    manifest = read(packaged.resources)
    (model, *_) = manifest.models
    assert model.golden is not None
    golden = read_golden(packaged.resources / model.golden)
    arguments = ["--port", "0", "--model", model.name]
    with RunningService.start(command(packaged.resources, arguments), environment={}) as service:
        service.wait_ready(START_SECONDS)
        vectors: list[list[float]] = []
        for at in range(0, len(golden.texts), BATCH):
            texts = golden.texts[at : at + BATCH]
            vectors += service.request("/embed", {"texts": texts})["vectors"]
        assert service.stop() == 0
    assert golden.cosines(vectors).min() >= MIN_COSINE
    checked = ran([app.integration / "verify-bundle.mjs", packaged.resources])
    assert checked.returncode == 0, checked.stderr
    assert snapshot(packaged.resources) == before
