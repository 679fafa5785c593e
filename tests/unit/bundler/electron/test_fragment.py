from __future__ import annotations

import re

import pytest

from bundler.electron.fragment import Contents, Place, render, sign_ignore

CONTENTS = Contents(folders=("python", "manifests"), papers=("manifest.json", "NOTICES.txt"))
PLACE = Place(bundles="../out", integration="build/sidecar")
RESOURCES = "/Users/me/dist/mac-arm64/My App.app/Contents/Resources"


def test_every_part_comes_from_the_folder_of_the_target_and_keeps_its_name() -> None:
    text = render(PLACE, CONTENTS, made_for="x")
    found = re.findall(r'\{ from: "(.*)", to: "(.*)" \}', text)
    assert found == [
        ("../out/${os}-${arch}/python", "python"),
        ("../out/${os}-${arch}/manifests", "manifests"),
        ("../out/${os}-${arch}/manifest.json", "manifest.json"),
        ("../out/${os}-${arch}/NOTICES.txt", "NOTICES.txt"),
    ]
    assert "filter" not in text


def test_every_platform_has_the_same_resources() -> None:
    text = render(PLACE, CONTENTS, made_for="x")
    lines = [line for line in text.splitlines() if "extraResources" in line]
    assert lines == [
        "  extraResources: &sidecar",
        "  extraResources: *sidecar",
        "  extraResources: *sidecar",
    ]


def test_the_profile_stands_behind_the_target() -> None:
    place = Place(bundles="${env.BUNDLES}", integration="build/s", suffix="-lean")
    assert '"${env.BUNDLES}/${os}-${arch}-lean/python"' in render(place, CONTENTS, made_for="x")


def test_hooks_are_found_from_the_apps_folder() -> None:
    text = render(PLACE, CONTENTS, made_for="x")
    assert 'afterPack: "./build/sidecar/hooks.mjs"' in text
    assert '  sign: "./build/sidecar/hooks.mjs"' in text


def test_quotes_and_other_scripts_stay_what_they_are() -> None:
    place = Place(bundles='../b"ü', integration="build/s")
    assert r'from: "../b\"ü/${os}' in render(place, CONTENTS, made_for="x")


@pytest.mark.parametrize(
    ("path", "is_ours"),
    [
        ("python/lib/a.so", True),
        ("manifests/python.json", True),
        ("manifest.json", True),
        ("manifestXjson", False),
        ("app.asar.unpacked/python.node", False),
        ("python", False),
        ("own/python/a.so", False),
    ],
)
def test_signing_passes_over_the_bundle_and_over_nothing_else(path: str, is_ours: bool) -> None:
    expressions = sign_ignore(CONTENTS)
    found = any(re.search(one, f"{RESOURCES}/{path}") for one in expressions)
    assert found == is_ours
