from __future__ import annotations

import re

import yaml  # type: ignore[import-untyped]

from bundler.electron.integration import AppPaths, render_fragment

NAMES = ("python", "manifests", "manifest.json", "NOTICES.txt")
PLACE = AppPaths(bundles="../out", integration="build/sidecar")


def test_every_part_comes_from_the_folder_of_the_target_and_keeps_its_name() -> None:
    text = render_fragment(PLACE, NAMES, made_for="x")
    found = re.findall(r'\{ from: "(.*)", to: "(.*)" \}', text)
    assert found == [
        ("../out/${os}-${arch}/python", "python"),
        ("../out/${os}-${arch}/manifests", "manifests"),
        ("../out/${os}-${arch}/manifest.json", "manifest.json"),
        ("../out/${os}-${arch}/NOTICES.txt", "NOTICES.txt"),
    ]
    assert "filter" not in text


def test_every_platform_has_the_same_resources() -> None:
    text = render_fragment(PLACE, NAMES, made_for="x")
    lines = [line for line in text.splitlines() if "extraResources" in line]
    assert lines == [
        "  extraResources: &sidecar",
        "  extraResources: *sidecar",
        "  extraResources: *sidecar",
    ]


def test_the_profile_stands_behind_the_target() -> None:
    place = AppPaths(bundles="${env.BUNDLES}", integration="build/s", suffix="-lean")
    assert '"${env.BUNDLES}/${os}-${arch}-lean/python"' in render_fragment(
        place, NAMES, made_for="x"
    )


def test_hooks_are_found_from_the_apps_folder() -> None:
    text = render_fragment(PLACE, NAMES, made_for="x")
    assert 'afterPack: "./build/sidecar/hooks.mjs"' in text
    assert '  sign: "./build/sidecar/hooks.mjs"' in text


def test_nothing_stands_there_that_one_version_refuses() -> None:
    fragment = yaml.safe_load(render_fragment(PLACE, NAMES, made_for="x"))
    assert list(fragment) == ["linux", "mac", "win", "afterPack"]
    # Version 27 knows no other key of these; 26 would take more, which the hook decides.
    assert list(fragment["mac"]) == ["extraResources", "sign"]


def test_quotes_and_other_scripts_stay_what_they_are() -> None:
    place = AppPaths(bundles='../b"ü', integration="build/s")
    assert r'from: "../b\"ü/${os}' in render_fragment(place, NAMES, made_for="x")
