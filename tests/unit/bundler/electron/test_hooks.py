"""The scripts that an app takes over, run by Node as electron-builder and people run them."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from bundler.targets import TARGETS
from tests.support import smallbundle
from tests.support.electronbuilder import SOURCES, ran
from tests.support.integrated import TEMPLATES, Integrated
from tests.unit.bundler.electron.test_signature import certified

if TYPE_CHECKING:
    from pathlib import Path

if shutil.which("node") is None:
    pytest.skip("there is no Node here", allow_module_level=True)

SITE = TARGETS["linux-x64"].site_packages


@pytest.fixture
def linux(tmp_path: Path) -> Integrated:
    return Integrated.make(tmp_path, "linux-x64")


def test_a_whole_bundle_verifies_and_says_what_it_is(linux: Integrated) -> None:
    done = linux.verify("--whole", "--json")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["target"], seen["plan"], seen["signed"]) == ("linux-x64", smallbundle.PLAN, 0)
    assert seen["files"] == len(smallbundle.contents(TARGETS["linux-x64"])) + 2
    assert "sidecar verified" in linux.verify().stdout


def test_a_script_named_without_its_ending_can_import_the_hooks(tmp_path: Path) -> None:
    hooks = (TEMPLATES / "hooks.mjs").as_uri()
    (tmp_path / "pack.js").write_text(
        f"import('{hooks}').then(({{ sign }}) => console.log(typeof sign));"
    )
    done = ran([tmp_path / "pack"])
    assert done.stdout == "function\n", done.stderr


def test_one_thread_and_many_see_the_same(linux: Integrated) -> None:
    (linux.bundle / SITE / "pack" / "link.a").write_bytes(b"!<arch>?")
    one, many = linux.verify("--jobs", "1"), linux.verify("--jobs", "7")
    assert one.returncode == many.returncode == 8
    assert one.stderr == many.stderr


@pytest.mark.parametrize(
    ("damage", "told", "advised"),
    [
        (lambda f: f.write_bytes(f.read_bytes()[:-1]), "bytes instead of", "python3 build verify"),
        (lambda f: f.write_bytes(b"\0" * f.stat().st_size), "sha256 ", "python3 build verify"),
        (lambda f: f.unlink(), "missing: ", "take filters such as !**/*.pyc"),
        (lambda f: f.chmod(0o755), "it is executable", "keep modes"),
        (lambda f: (f.unlink(), f.symlink_to("/etc/hostname")), "not a regular file", "verify"),
        (lambda f: f.with_name("b.pyc").touch(), "extra: ", "without -I -B"),
        (lambda f: f.with_name("b.txt").touch(), "extra: ", "empty the output folder"),
    ],
    ids=["short", "altered", "missing", "mode", "link", "bytecode", "extra"],
)
def test_a_damaged_tree_fails_and_says_which_file_and_what_to_do(
    linux: Integrated, damage: object, told: str, advised: str
) -> None:
    assert callable(damage)
    damage(next(linux.bundle.rglob("*.pyc")))
    done = linux.verify()
    assert done.returncode == 8
    assert "differs from its manifest in 1 places" in done.stderr
    assert "/pack/__pycache__/" in done.stderr
    assert told in done.stderr
    assert advised in done.stderr


def test_an_executable_that_lost_its_bit_is_told_of(linux: Integrated) -> None:
    (linux.bundle / "python" / "bin" / "python3.11").chmod(0o644)
    done = linux.verify()
    assert done.returncode == 8
    assert "it is not executable" in done.stderr


def test_what_packaging_changes_is_passed_over(linux: Integrated) -> None:
    (linux.bundle / "app.asar").write_bytes(b"the app's own")
    (linux.bundle / SITE / "empty").mkdir()
    for path in linux.bundle.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(path.stat().st_mode | 0o066)
    os.link(next(linux.bundle.rglob("*.pyc")), linux.bundle / "linked")
    assert linux.verify().returncode == 0
    strict = linux.verify("--whole")
    assert strict.returncode == 8
    assert "extra: app.asar" in strict.stderr


def test_many_differences_are_counted_and_some_are_named(linux: Integrated) -> None:
    for number in range(30):
        (linux.bundle / "models" / f"{number}.txt").touch()
    done = linux.verify()
    assert "in 30 places" in done.stderr
    assert "and 10 more" in done.stderr


def test_a_list_that_is_not_the_manifests_is_refused(linux: Integrated) -> None:
    (linux.bundle / "manifests" / "python.json").write_text("[\n]\n")
    done = linux.verify()
    assert done.returncode == 8
    assert "not the list that manifest.json names" in done.stderr


def test_a_manifest_that_names_a_path_outside_is_refused(linux: Integrated) -> None:
    manifest = json.loads((linux.bundle / "manifest.json").read_bytes())
    manifest["documents"][0]["path"] = "../../etc/passwd"
    (linux.bundle / "manifest.json").write_text(json.dumps(manifest))
    assert "names a path outside" in linux.verify().stderr


def test_folder_without_a_bundle_is_told_of(
    linux: Integrated,
) -> None:
    (linux.bundle / "manifest.json").unlink()
    done = linux.verify()
    assert done.returncode == 8
    assert "look at extraResources" in done.stderr
    assert linux.verify("--jobs", "none").returncode == 2
    assert ran([linux.integration / "verify-bundle.mjs"]).returncode == 2


def test_a_new_signature_is_no_damage_and_other_code_is(tmp_path: Path) -> None:
    case = Integrated.make(tmp_path, "win-x64")
    program = case.bundle / "python" / "python.exe"
    original = program.read_bytes()
    program.write_bytes(certified(original, b"certificate"))
    done = case.verify("--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["signed"] == 1
    altered = bytearray(certified(original, b"certificate"))
    altered[len(original) - 9] ^= 1
    program.write_bytes(altered)
    assert case.verify().returncode == 8
    assert case.verify("--signed", str(case.integration / "electron-builder.yml")).returncode == 8


CONTEXT = """{{
  appOutDir: "/out", arch: {arch}, electronPlatformName: "{system}", targets: [],
  packager: {{
    projectDir: app, platform: {{ buildConfigurationKey: "{key}" }}, getResourcesDir: () => root,
    platformSpecificBuildOptions: {options},
  }},
}}"""


def context(arch: int = 1, key: str = "linux", options: str = "{}") -> str:
    system = {"mac": "darwin"}.get(key, key)
    return CONTEXT.format(arch=arch, key=key, system=system, options=options)


def test_after_packing_the_bundle_must_be_the_one_for_the_target(linux: Integrated) -> None:
    done = linux.call("afterPack", context())
    assert done.returncode == 0, done.stderr
    assert "sidecar verified" in done.stdout
    other = linux.call("afterPack", context(arch=3))
    assert other.returncode == 1
    assert "it is for linux-x64, the app is for linux-arm64" in other.stderr
    assert "python3 build assemble --target linux-arm64" in other.stderr


@pytest.mark.parametrize("version", ["26.0.12", "27.0.0-alpha.7"])
def test_a_known_electron_builder_is_accepted(linux: Integrated, version: str) -> None:
    linux.install(version)
    done = linux.call("afterPack", context())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("version", "advised"),
    [
        ("25.1.8", "electron-builder@26\n"),
        ("28.0.0", "or `python3 build electron` of a newer sidecar"),
    ],
)
def test_an_unknown_electron_builder_is_refused_with_the_known_ones(
    linux: Integrated, version: str, advised: str
) -> None:
    linux.install(version)
    done = linux.call("afterPack", context())
    assert done.returncode == 1
    assert f"electron-builder {version} is not supported" in done.stderr
    assert "supported: 26 (tried with 26.17.0) and 27 (tried with 27.0.0-alpha.7)" in done.stderr
    assert advised in done.stderr


def test_the_version_that_tests_run_is_the_one_that_is_named() -> None:
    run = json.loads((SOURCES / "package.json").read_text())["devDependencies"]["electron-builder"]
    text = (TEMPLATES / "builder.mjs").read_text(encoding="utf-8")
    ((tried, following),) = re.findall(r'SUPPORTED = \{ 26: "(.*)", 27: "(.*)" \}', text)
    assert tried == run
    for page in (TEMPLATES / "README.md", TEMPLATES.parents[2] / "docs" / "electron.md"):
        named = " ".join(page.read_text(encoding="utf-8").split())
        assert f"electron-builder 26 (tried with {tried})" in named
        assert f"(tried with {following})" in named


def test_an_electron_builder_that_only_its_own_packages_see_is_found(linux: Integrated) -> None:
    modules = linux.app / "node_modules"
    own = modules / ".store" / "node_modules"
    own.mkdir(parents=True)
    for name in ("app-builder-lib", "@electron"):
        (modules / name).rename(own / name)
    (own / "electron-builder").mkdir()
    (own / "electron-builder" / "package.json").write_text('{"main": "index.js"}')
    (own / "electron-builder" / "index.js").touch()
    (modules / "electron-builder").symlink_to(own / "electron-builder")
    done = linux.call("afterPack", context())
    assert done.returncode == 0, done.stderr


def test_a_missing_electron_builder_is_told_of(linux: Integrated) -> None:
    shutil.rmtree(linux.app)
    done = linux.call("afterPack", context())
    assert done.returncode == 1
    assert "electron-builder cannot be found" in done.stderr
    assert "next: npm install --save-dev electron-builder@26" in done.stderr


@pytest.mark.skipif(sys.platform == "darwin", reason="this is a Mac")
def test_an_app_for_macos_that_is_packed_elsewhere_is_called_unsigned(tmp_path: Path) -> None:
    mac = Integrated.make(tmp_path, "mac-arm64")
    done = mac.call("afterPack", context(arch=3, key="mac"))
    assert done.returncode == 0, done.stderr
    assert "nothing of this app for macOS will be signed: that takes a Mac" in done.stdout
    assert "on Apple silicon macOS calls such an app damaged" in done.stdout


def test_options_that_take_the_place_of_the_hook_are_refused(tmp_path: Path) -> None:
    mac = Integrated.make(tmp_path, "mac-arm64")
    mac.install("27.0.0-alpha.7")
    options = '{ sign: { identity: "-" } }'
    done = mac.call("afterPack", context(arch=3, key="mac", options=options))
    assert done.returncode == 1
    assert "27.0.0-alpha.7 takes a hook or options there, not both" in done.stderr
    assert "next: take mac.sign off" in done.stderr
