"""Signing for macOS, with stand-ins for codesign and for electron-builder's own signer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from bundler.targets import TARGETS
from tests.support.integrated import MAC, TEMPLATES, Integrated
from tests.support.tinybinaries import macho

if TYPE_CHECKING:
    from pathlib import Path

if shutil.which("node") is None:
    pytest.skip("there is no Node here", allow_module_level=True)

SITE = TARGETS["mac-arm64"].site_packages
UNVALIDATED = "com.apple.security.cs.disable-library-validation"
DEVELOPER = "Developer ID Application: A (T)"


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Integrated:
    """Return a Mac's bundle where codesign records what it is asked for."""
    monkeypatch.setenv("PATH", f"{MAC}:{os.environ['PATH']}")
    monkeypatch.setenv("MAC_LOG", str(tmp_path / "log"))
    return Integrated.make(tmp_path, "mac-arm64")


def sign(case: Integrated, identity: str, *more: str) -> subprocess.CompletedProcess[str]:
    rights = case.integration / "entitlements.python.plist"
    listed = case.integration / "signed" / "mac-arm64.tsv"
    script = case.integration / "sign-bundle.sh"
    return subprocess.run(
        ["sh", script, case.bundle, listed, identity, rights, *more],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def signed(root: Path) -> list[str]:
    """Return how codesign was called to sign."""
    log = root / "log"
    return log.read_text().splitlines() if log.exists() else []


def test_signing_goes_from_the_deepest_out_and_programs_alone_have_rights(
    mac: Integrated, tmp_path: Path
) -> None:
    done = sign(mac, DEVELOPER, "/the keychain")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "signed: 3 Mach-O files\n"
    calls = signed(tmp_path)
    names = [call.rpartition(" ")[2].removeprefix(f"{SITE}/") for call in calls]
    assert names == ["pack/deep/er/native.so", "pack/native.so", "python/bin/python3.11"]
    assert all("--timestamp --options runtime --keychain /the keychain" in call for call in calls)
    assert ["--entitlements" in call for call in calls] == [False, False, True]


def test_what_is_signed_already_is_left_alone(mac: Integrated, tmp_path: Path) -> None:
    assert sign(mac, "Me").returncode == sign(mac, "Me").returncode == 0
    assert len(signed(tmp_path)) == 3


def test_without_an_identity_there_is_no_timestamp(mac: Integrated, tmp_path: Path) -> None:
    assert sign(mac, "-").returncode == 0
    assert all("--timestamp=none" in call for call in signed(tmp_path))


def test_a_file_that_cannot_be_signed_fails_the_whole_and_is_named(
    mac: Integrated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = tmp_path / "bin" / "sleep"
    sleep.parent.mkdir()
    sleep.write_text("#!/bin/sh\n")
    sleep.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sleep.parent}:{os.environ['PATH']}")
    done = sign(mac, "refused")
    assert done.returncode != 0
    assert f"{SITE}/pack/deep/er/native.so could not be signed" in done.stderr
    assert done.stderr.count("no timestamp") == 5
    assert "signed: " not in done.stdout


def test_too_few_arguments_are_a_usage_error(mac: Integrated) -> None:
    script = mac.integration / "sign-bundle.sh"
    assert subprocess.run([script], check=False, capture_output=True).returncode == 2


def test_the_list_must_have_every_mach_o_file_and_no_other(mac: Integrated) -> None:
    fine = mac.call("signList", "root", "mac-signing.mjs")
    assert fine.returncode == 0, fine.stderr
    unlisted = mac.bundle / SITE / "pack" / "types.d.ts"
    unlisted.write_bytes(macho())
    (mac.bundle / "python" / "bin" / "python3.11").write_bytes(b"no program")
    done = mac.call("signList", "root", "mac-signing.mjs")
    assert "not listed: " in done.stderr
    assert "not there: python/bin/python3.11" in done.stderr


# What the app's signer is told of the app itself, and of files in it.
REPORT = """
  const { entitlements } = options.optionsForFile(options.app);
  const inside = (name) => `${options.app}/Contents/${name}`;
  const files = ["Resources/python/a.so", "Resources/manifest.json", "Resources/app.asar",
    "Resources/app.asar.unpacked/python.node", "Resources/own/python/a.so", "MacOS/Packaged"];
  const left = files.filter((name) => !options.ignore(inside(name)));
  console.log(JSON.stringify({ identity: options.identity, entitlements, left }));
"""


def packaged(mac: Integrated, signer: str = REPORT, version: str = "26.17.0") -> Path:
    """Lay the bundle into an app, and let `signer` sign that; return the app."""
    app = mac.app / "Packaged.app"
    (app / "Contents").mkdir(parents=True)
    mac.bundle.rename(app / "Contents" / "Resources")
    mac.install(version, signer)
    return app


def hook(mac: Integrated, app: Path, options: str, packager: str = "") -> tuple[str, str, int]:
    """Call the hook that signs, with JavaScript for more of its options; return what it says."""
    done = mac.call(
        "sign",
        f"{{ app: {json.dumps(str(app))}, platform: 'darwin', {options} }}, "
        f"{{ projectDir: app, {packager} }}",
    )
    return done.stdout, done.stderr, done.returncode


HARM = (
    "const fs = await import('node:fs');"
    "fs.rmSync(`${options.app}/Contents/Resources/models`, { recursive: true });"
)


@pytest.mark.parametrize(
    ("version", "harm"), [("26.17.0", ""), ("26.17.0", HARM), ("27.0.0-alpha.7", "")]
)
def test_signing_an_app_signs_the_bundle_first_and_verifies_it_afterwards(
    mac: Integrated, monkeypatch: pytest.MonkeyPatch, version: str, harm: str
) -> None:
    monkeypatch.setenv("MAC_TEAM", "T")
    app = packaged(mac, REPORT + harm, version)
    said, told, code = hook(mac, app, "identity: 'Me', keychain: 'k'")
    first, second, *rest = said.splitlines()
    assert first == "signed: 3 Mach-O files"
    assert json.loads(second)["identity"] == "Me"
    # What the stand-in appends lies behind the code, as a signature does.
    assert ("3 of them signed anew" in "".join(rest)) == (not harm)
    assert ("missing: models/hub/weights.safetensors" in told) == bool(harm)
    assert code == (1 if harm else 0)


def test_the_apps_signer_passes_over_the_bundle_and_over_nothing_else(mac: Integrated) -> None:
    app = packaged(mac)
    ignore = "ignore: (file) => file.endsWith('own/python/a.so')"
    said, told, code = hook(mac, app, f"identity: '-', {ignore}")
    assert code == 0, told
    report = next(line for line in said.splitlines() if line.startswith("{"))
    assert json.loads(report)["left"] == [
        "Resources/app.asar",
        "Resources/app.asar.unpacked/python.node",
        "MacOS/Packaged",
    ]


TEMPLATE = "/x/node_modules/app-builder-lib/templates/entitlements.mac.plist"


@pytest.mark.parametrize(
    ("identity", "team", "kind"),
    [(DEVELOPER, "TEAM123456", ""), ("My Own", "not set", "no-team."), ("-", "", "no-team.")],
    ids=["developer", "self-signed", "ad-hoc"],
)
def test_rights_are_those_with_which_the_signature_lets_the_app_start(
    mac: Integrated, monkeypatch: pytest.MonkeyPatch, identity: str, team: str, kind: str
) -> None:
    monkeypatch.setenv("MAC_TEAM", team)
    app = packaged(mac)
    default = f"optionsForFile: () => ({{ entitlements: '{TEMPLATE}', hardenedRuntime: true }})"
    said, told, code = hook(mac, app, f"identity: '{identity}', {default}")
    assert code == 0, told
    assert f"entitlements.app.{kind}plist" in said
    assert ("has no team" in said) == bool(kind)
    programs = [call for call in signed(mac.app.parent) if "--entitlements" in call]
    assert [f"entitlements.python.{kind}plist" in call for call in programs] == [True]


def test_an_apps_own_rights_are_kept(mac: Integrated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAC_TEAM", "T")
    app = packaged(mac)
    said, told, code = hook(
        mac, app, "identity: 'Me', optionsForFile: () => ({ entitlements: '/own.plist' })"
    )
    assert code == 0, told
    assert '"entitlements":"/own.plist"' in said


@pytest.mark.parametrize("granted", [True, False])
def test_own_rights_with_which_an_app_would_not_start_are_refused(
    mac: Integrated, tmp_path: Path, *, granted: bool
) -> None:
    own = tmp_path / "own.plist"
    own.write_text(f"<dict><key>{UNVALIDATED}</key>\n<{str(granted).lower()}/></dict>")
    app = packaged(mac)
    _, told, code = hook(
        mac, app, f"identity: '-', optionsForFile: () => ({{ entitlements: '{own}' }})"
    )
    assert code == (0 if granted else 1)
    assert (f"an app signed with {own} would not start" in told) == (not granted)
    assert bool(signed(tmp_path)) == granted


def test_in_the_app_store_rights_are_the_apps_and_pythons_its_sandbox(
    mac: Integrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAC_TEAM", "T")
    app = packaged(mac)
    given = f"optionsForFile: () => ({{ entitlements: '{TEMPLATE}' }})"
    said, told, code = hook(mac, app, f"identity: 'Me', platform: 'mas', {given}")
    assert code == 0, told
    assert f'"entitlements":"{TEMPLATE}"' in said
    assert "entitlements.python.mas.plist" in signed(mac.app.parent)[-1]


def test_an_identity_that_cannot_sign_is_told_of_before_anything_is_signed(
    mac: Integrated, tmp_path: Path
) -> None:
    _, told, code = hook(mac, packaged(mac), "identity: 'refused'")
    assert code == 1
    assert "why: no timestamp" in told
    assert signed(tmp_path) == []


@pytest.mark.parametrize("forced", [True, False])
def test_a_search_without_a_result_is_told_of_or_fails(
    mac: Integrated, tmp_path: Path, *, forced: bool
) -> None:
    app = packaged(mac)
    packager = f"forceCodeSigning: {str(forced).lower()}"
    said, told, code = hook(mac, app, "identity: undefined", packager)
    assert code == (1 if forced else 0)
    assert ("forceCodeSigning is set, and no certificate was found" in told) == forced
    assert ("nothing of this app for macOS will be signed" in said) == (not forced)
    assert signed(tmp_path) == []


def test_the_script_is_clean() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("there is no shellcheck here")
    subprocess.run(
        ["shellcheck", TEMPLATES / "sign-bundle.sh", MAC / "codesign", MAC / "security"],
        check=True,
    )
