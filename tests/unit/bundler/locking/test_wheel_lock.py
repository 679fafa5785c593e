from __future__ import annotations

import json
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from bundler.artifacts.sources import Indexes, configured_indexes
from bundler.errors import PolicyError, UnreachableError, UnsupportedError, UsageError
from bundler.locking.wheel_lock import PLATFORMS, check, configuration, refresh
from bundler.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INDEX = "https://torch.example/cpu"
TAGS = {
    "manylinux_2_28_x86_64": "manylinux_2_28_x86_64",
    "macos_14_0_arm64": "macosx_14_0_arm64",
    "windows_amd64": "win_amd64",
    "manylinux_2_28_aarch64": "manylinux_2_28_aarch64",
}
# Notes how it was called and adds a wheel per platform to the lock, as pdm does.
PDM = """#!{python}
import json, os, pathlib, sys
options = dict(a.lstrip("-").partition("=")[::2] for a in sys.argv if a.startswith("--"))
project = pathlib.Path(sys.argv[sys.argv.index("--project") + 1])
note = {{
    "argv": sys.argv[1:], "cwd": os.getcwd(), "files": sorted(os.listdir(project)),
    "environment": {{key: value for key, value in os.environ.items() if key.startswith("PDM_")}},
}}
with open({notes!r}, "a") as stream:
    print(json.dumps(note), file=stream)
platform = options["platform"]
if platform == {fails!r}:
    sys.exit({says!r})
tag = {tags!r}[platform]
line = '    {{file = "one-1-cp311-cp311-%s.whl", hash = "sha256:%064d"}},\\n' % (tag, len(tag))
path = project / "pdm.lock"
if "append" in options:
    text = path.read_text().replace("]\\n#", line + "]\\n#")
else:
    text = '[metadata]\\ncontent_hash = "x"\\n[[package]]\\nname = "{package}"\\nversion = "1"\\n'
    text += "files = [\\n" + line + "]\\n#\\n"
path.write_text(text)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("[project]\n")
    (folder / "pdm.lock").write_text("old")
    return folder


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
def pdm(tmp_path: Path, notes: Path) -> Callable[..., str]:
    def make(*, fails: str = "", says: str = "", package: str = "one", tags: object = TAGS) -> str:
        text = PDM.format(
            python=sys.executable,
            notes=str(notes),
            fails=fails,
            says=says,
            package=package,
            tags=tags,
        )
        path = tmp_path / "python"
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    return make


def quiet(_: str) -> None:
    """Say nothing."""


def read(notes: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in notes.read_text().splitlines()]


def test_targets_are_resolved_by_platform_into_one_lock(
    project: Path, notes: Path, pdm: Callable[..., str]
) -> None:
    said: list[str] = []
    _, wheels = refresh(project, "[pypi]\n", platforms=PLATFORMS, say=said.append, python=pdm())
    assert wheels == dict.fromkeys(TARGETS, 1)
    calls = [str(note["argv"]) for note in read(notes)]
    for platform, call in zip(PLATFORMS.values(), calls, strict=True):
        assert f"--platform={platform}" in call
        assert "--python===3.11.*" in call
        assert "'--group', ':all'" in call
    assert ["--append" in call for call in calls] == [False, True, True, True]
    assert [line.partition(" for ")[2].partition(" ")[0] for line in said] == list(PLATFORMS)


def test_pdm_sees_a_copy_without_the_old_lock(
    project: Path, notes: Path, pdm: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PDM_PROJECT", str(project))
    monkeypatch.setenv("PDM_LOCKFILE", "elsewhere.lock")
    refresh(project, "[pypi]\n", platforms=PLATFORMS, say=quiet, python=pdm())
    assert sorted(path.name for path in project.iterdir()) == ["pdm.lock", "pyproject.toml"]
    assert (project / "pdm.lock").read_text() == "old"
    first = read(notes)[0]
    assert first["files"] == ["pdm.toml", "pyproject.toml"]
    assert str(first["cwd"]) != str(project)
    environment = first["environment"]
    assert isinstance(environment, dict)
    assert "PDM_PROJECT" not in environment
    assert "PDM_LOCKFILE" not in environment
    assert environment["PDM_IGNORE_SAVED_PYTHON"] == "1"
    assert environment["PDM_USE_VENV"] == "0"


@pytest.mark.parametrize("platform", PLATFORMS.values())
def test_a_target_that_cannot_be_resolved_ends_the_refresh(
    project: Path, pdm: Callable[..., str], platform: str
) -> None:
    python = pdm(fails=platform, says="noise\nERROR: Unable to find a resolution\nmore noise")
    with pytest.raises(UsageError, match=f"cannot lock for {platform}") as caught:
        refresh(project, "", platforms=PLATFORMS, say=quiet, python=python)
    assert caught.value.why == "ERROR: Unable to find a resolution"


def test_a_network_that_is_down_is_told_from_a_conflict(
    project: Path, pdm: Callable[..., str]
) -> None:
    python = pdm(fails="windows_amd64", says="[ConnectError]: nobody answers")
    with pytest.raises(UnreachableError, match="windows_amd64"):
        refresh(project, "", platforms=PLATFORMS, say=quiet, python=python)


def test_a_lock_that_does_not_serve_a_target_is_refused(
    project: Path, pdm: Callable[..., str]
) -> None:
    python = pdm(tags={**TAGS, "windows_amd64": "win32"})
    with pytest.raises(UnsupportedError, match="does not serve win-x64"):
        refresh(project, "", platforms=PLATFORMS, say=quiet, python=python)


def test_a_cuda_build_in_the_lock_is_refused(project: Path, pdm: Callable[..., str]) -> None:
    with pytest.raises(PolicyError, match="nvidia-cublas"):
        refresh(project, "", platforms=PLATFORMS, say=quiet, python=pdm(package="nvidia-cublas"))


def test_a_lock_says_which_targets_it_serves_and_what_the_others_lack() -> None:
    text = (
        '[metadata]\ncontent_hash = "x"\n[[package]]\nname = "one"\nversion = "1"\n'
        f'files = [{{file = "one-1-cp311-cp311-win_amd64.whl", hash = "sha256:{"a" * 64}"}}]\n'
    )
    wheels, missing = check(text, ["win-x64", "mac-arm64"])
    assert dict(wheels) == {"win-x64": 1}
    assert set(missing) == {"mac-arm64"}
    assert "one" in missing["mac-arm64"]


def test_a_lock_serves_the_groups_that_are_asked_for() -> None:
    wheel = f'{{file = "one-1-py3-none-any.whl", hash = "sha256:{"a" * 64}"}}'
    text = (
        '[metadata]\ncontent_hash = "x"\n[[package]]\nname = "one"\nversion = "1"\n'
        f'groups = ["mine"]\nfiles = [{wheel}]\n'
    )
    assert check(text, ["linux-x64"])[0] == {"linux-x64": 0}
    assert check(text, ["linux-x64"], ["mine"])[0] == {"linux-x64": 1}


def test_torch_is_taken_from_a_folder_that_has_it(tmp_path: Path) -> None:
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").write_bytes(b"")
    for place in (str(tmp_path), tmp_path.as_uri()):
        text = configuration(Indexes(find_links=("https://x.example", place)), INDEX)
        source = tomllib.loads(text)["pypi"]["pytorch"]
        assert source == {"url": tmp_path.as_uri(), "type": "find_links"}


@pytest.mark.parametrize("name", ["torch-2.13.0-cp311-none-any.whl", "torchvision-1+cpu-x.whl"])
def test_a_folder_without_the_cpu_build_gives_way_to_pytorchs_index(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"")
    text = configuration(Indexes(find_links=(str(tmp_path), str(tmp_path / "none"))), f"{INDEX}/")
    assert tomllib.loads(text)["pypi"]["pytorch"]["url"] == f"{INDEX}/torch/"


def test_what_pdm_is_told_the_builder_understands_too(tmp_path: Path) -> None:
    (tmp_path / "pdm.toml").write_text(configuration(Indexes(), INDEX))
    found = configured_indexes({"no-index": "1"}, tmp_path)
    assert found.find_links == (f"{INDEX}/torch/",)
