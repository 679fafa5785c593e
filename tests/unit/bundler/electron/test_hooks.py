"""The scripts that an app takes over, run by Node and by a shell as electron-builder runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from bundler.electron.fragment import Place
from bundler.electron.integration import compose, open_bundle, write
from bundler.project import Project
from bundler.targets import TARGETS
from tests.support import smallbundle
from tests.support.electronbuilder import ran
from tests.support.tinybinaries import macho
from tests.unit.bundler.electron.test_signature import certified

if TYPE_CHECKING:
    from pathlib import Path

if shutil.which("node") is None:
    pytest.skip("there is no Node here", allow_module_level=True)

TEMPLATES = Project.here().root / "bundle" / "electron" / "builder"
SITE = TARGETS["linux-x64"].site_packages
PLACE = Place(bundles="../out", integration="build/sidecar")
# Records how it was called, and marks the file, which must not happen twice at a time.
CODESIGN = """#!/bin/sh
for file; do :; done
case $* in
*--verify*) grep -q "signed by $SIDECAR_IDENTITY" "$file"; exit ;;
*refused*) echo "no timestamp" >&2; exit 1 ;;
esac
echo "$*" >>"$LOG"
printf 'signed by %s' "$SIDECAR_IDENTITY" >>"$file"
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A small bundle, and what `python3 build electron` wrote for it."""

    bundle: Path
    integration: Path

    @classmethod
    def make(cls, root: Path, target: str) -> Case:
        bundle = smallbundle.make(root, target)
        write(compose([open_bundle(bundle)], PLACE, TEMPLATES), root / "sidecar")
        return cls(bundle=bundle, integration=root / "sidecar")

    def verify(self, *options: str) -> subprocess.CompletedProcess[str]:
        return ran([self.integration / "verify-bundle.mjs", self.bundle, *options])

    def call(self, hook: str, arguments: str) -> subprocess.CompletedProcess[str]:
        """Call a hook with JavaScript for its arguments; `root` is the bundle."""
        script = self.integration / "call.mjs"
        script.write_text(
            f'import {{ {hook} }} from "./hooks.mjs";\n'
            f"const root = {json.dumps(str(self.bundle))};\n"
            f"await {hook}({arguments});\n"
        )
        return ran([script])


@pytest.fixture
def linux(tmp_path: Path) -> Case:
    return Case.make(tmp_path, "linux-x64")


def test_a_whole_bundle_verifies_and_says_what_it_is(linux: Case) -> None:
    done = linux.verify("--whole", "--json")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["target"], seen["plan"], seen["signed"]) == ("linux-x64", smallbundle.PLAN, 0)
    assert seen["files"] == len(smallbundle.contents(TARGETS["linux-x64"])) + 2
    assert "sidecar verified" in linux.verify().stdout


def test_one_thread_and_many_see_the_same(linux: Case) -> None:
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
    linux: Case, damage: object, told: str, advised: str
) -> None:
    assert callable(damage)
    damage(next(linux.bundle.rglob("*.pyc")))
    done = linux.verify()
    assert done.returncode == 8
    assert "differs from its manifest in 1 places" in done.stderr
    assert "/pack/__pycache__/" in done.stderr
    assert told in done.stderr
    assert advised in done.stderr


def test_an_executable_that_lost_its_bit_is_told_of(linux: Case) -> None:
    (linux.bundle / "python" / "bin" / "python3.11").chmod(0o644)
    done = linux.verify()
    assert done.returncode == 8
    assert "it is not executable" in done.stderr


def test_what_packaging_changes_is_passed_over(linux: Case) -> None:
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


def test_many_differences_are_counted_and_some_are_named(linux: Case) -> None:
    for number in range(30):
        (linux.bundle / "models" / f"{number}.txt").touch()
    done = linux.verify()
    assert "in 30 places" in done.stderr
    assert "and 10 more" in done.stderr


def test_a_list_that_is_not_the_manifests_is_refused(linux: Case) -> None:
    (linux.bundle / "manifests" / "python.json").write_text("[\n]\n")
    done = linux.verify()
    assert done.returncode == 8
    assert "not the list that manifest.json names" in done.stderr


def test_a_manifest_that_names_a_path_outside_is_refused(linux: Case) -> None:
    manifest = json.loads((linux.bundle / "manifest.json").read_bytes())
    manifest["documents"][0]["path"] = "../../etc/passwd"
    (linux.bundle / "manifest.json").write_text(json.dumps(manifest))
    assert "names a path outside" in linux.verify().stderr


def test_a_folder_without_a_bundle_is_told_of_and_so_is_a_wrong_command_line(linux: Case) -> None:
    (linux.bundle / "manifest.json").unlink()
    done = linux.verify()
    assert done.returncode == 8
    assert "look at extraResources" in done.stderr
    assert linux.verify("--jobs", "none").returncode == 2
    assert ran([linux.integration / "verify-bundle.mjs"]).returncode == 2


def test_a_new_signature_is_no_damage_and_other_code_is(tmp_path: Path) -> None:
    case = Case.make(tmp_path, "win-x64")
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
  appOutDir: "/out", arch: {arch}, electronPlatformName: "{system}",
  packager: {{ platform: {{ buildConfigurationKey: "{system}" }}, getResourcesDir: () => root }},
}}"""


def test_after_packing_the_bundle_must_be_the_one_for_the_target(linux: Case) -> None:
    done = linux.call("afterPack", CONTEXT.format(arch=1, system="linux"))
    assert done.returncode == 0, done.stderr
    assert "sidecar verified" in done.stdout
    other = linux.call("afterPack", CONTEXT.format(arch=3, system="linux"))
    assert other.returncode == 1
    assert "it is for linux-x64, the app is for linux-arm64" in other.stderr
    assert "python3 build assemble --target linux-arm64" in other.stderr


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Return a Mac's bundle where codesign records what it is asked for."""
    program = tmp_path / "bin" / "codesign"
    program.parent.mkdir()
    program.write_text(CODESIGN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return Case.make(tmp_path, "mac-arm64")


def sign(case: Case, identity: str, *more: str) -> subprocess.CompletedProcess[str]:
    rights = case.integration / "entitlements.python.plist"
    listed = case.integration / "signed" / "mac-arm64.tsv"
    script = case.integration / "sign-bundle.sh"
    return subprocess.run(
        ["sh", script, case.bundle, listed, identity, rights, *more],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_signing_goes_from_the_deepest_out_and_programs_alone_have_rights(
    mac: Case, tmp_path: Path
) -> None:
    done = sign(mac, "Developer ID Application: A (T)", "/the keychain")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "signed: 3 Mach-O files\n"
    calls = (tmp_path / "log").read_text().splitlines()
    names = [call.rpartition(" ")[2].removeprefix(f"{SITE}/") for call in calls]
    assert names == ["pack/deep/er/native.so", "pack/native.so", "python/bin/python3.11"]
    assert all("--timestamp --options runtime --keychain /the keychain" in call for call in calls)
    assert ["--entitlements" in call for call in calls] == [False, False, True]


def test_what_is_signed_already_is_left_alone(mac: Case, tmp_path: Path) -> None:
    assert sign(mac, "Me").returncode == sign(mac, "Me").returncode == 0
    assert len((tmp_path / "log").read_text().splitlines()) == 3


def test_without_an_identity_there_is_no_timestamp(mac: Case, tmp_path: Path) -> None:
    assert sign(mac, "-").returncode == 0
    assert "--timestamp=none" in (tmp_path / "log").read_text()


def test_a_file_that_cannot_be_signed_fails_the_whole_and_is_named(
    mac: Case, tmp_path: Path
) -> None:
    sleep = tmp_path / "bin" / "sleep"
    sleep.write_text("#!/bin/sh\n")
    sleep.chmod(0o755)
    done = sign(mac, "refused")
    assert done.returncode != 0
    assert f"{SITE}/pack/deep/er/native.so could not be signed" in done.stderr
    assert done.stderr.count("no timestamp") == 5
    assert "signed: " not in done.stdout


def test_too_few_arguments_are_a_usage_error(mac: Case) -> None:
    script = mac.integration / "sign-bundle.sh"
    assert subprocess.run([script], check=False, capture_output=True).returncode == 2


def test_the_list_must_have_every_mach_o_file_and_no_other(mac: Case) -> None:
    fine = mac.call("signList", "root")
    assert fine.returncode == 0, fine.stderr
    unlisted = mac.bundle / TARGETS["mac-arm64"].site_packages / "pack" / "types.d.ts"
    unlisted.write_bytes(macho())
    (mac.bundle / "python" / "bin" / "python3.11").write_bytes(b"no program")
    done = mac.call("signList", "root")
    assert "not listed: " in done.stderr
    assert "not there: python/bin/python3.11" in done.stderr


@pytest.mark.parametrize(
    "harm", ["", 'require("fs").rmSync(`${app}/Contents/Resources/models`, f)']
)
def test_signing_an_app_signs_the_bundle_first_and_verifies_it_afterwards(
    mac: Case, tmp_path: Path, harm: str
) -> None:
    app = tmp_path / "Packaged.app"
    (app / "Contents").mkdir(parents=True)
    mac.bundle.rename(app / "Contents" / "Resources")
    modules = tmp_path / "project" / "node_modules"
    for name in ("electron-builder", "app-builder-lib", "@electron/osx-sign"):
        (modules / name).mkdir(parents=True)
        (modules / name / "package.json").write_text('{"main": "index.js"}')
    (modules / "@electron" / "osx-sign" / "index.js").write_text(
        "const f = { recursive: true };\n"
        "exports.signAsync = async ({ app, identity }) => {\n"
        f"  console.log(`app signed by ${{identity}}`);{harm};\n"
        "};\n"
    )
    options = json.dumps({"app": str(app), "identity": "Me", "keychain": "k"})
    project = json.dumps({"projectDir": str(tmp_path / "project")})
    done = mac.call("sign", f"{options}, {project}")
    assert done.stdout.startswith("signed: 3 Mach-O files\napp signed by Me\n")
    # What the stand-in appends lies behind the code, as a signature does.
    assert ("3 of them signed anew" in done.stdout) == (not harm)
    assert ("missing: models/hub/weights.safetensors" in done.stderr) == bool(harm)
    assert done.returncode == (1 if harm else 0)


def test_the_script_is_clean() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("there is no shellcheck here")
    subprocess.run(["shellcheck", TEMPLATES / "sign-bundle.sh"], check=True)
