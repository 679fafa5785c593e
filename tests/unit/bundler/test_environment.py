from __future__ import annotations

import fcntl
import os
import re
import sys
from typing import TYPE_CHECKING

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

from bundler import environment
from bundler.errors import DiskError, IntegrityError, UnreachableError, UsageError
from bundler.locks.wheels import FORBIDDEN
from bundler.project import Project
from bundler.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GROUPS = ("build", "default", "reference", "dev", "lock")
LOCK = """
[metadata]
content_hash = "sha256:0"

[[package]]
name = "split"
version = "2.0+cpu"
groups = ["default"]
marker = 'sys_platform != "linux" or platform_machine == "x86_64"'
files = [{file = "split-2.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", hash = "sha256:aa"}]

[[package]]
name = "split"
version = "2.0"
groups = ["default"]
marker = 'sys_platform != "linux" or platform_machine == "x86_64"'
files = [
    {file = "split-2.0-cp311-cp311-macosx_14_0_arm64.whl", hash = "sha256:bb"},
    {file = "split-2.0-cp311-cp311-win_amd64.whl", hash = "sha256:bc"},
]

[[package]]
name = "tool"
version = "1.0"
groups = ["build"]
files = [{file = "t.whl", hash = "sha256:dd"}, {file = "t.tar.gz", hash = "sha256:cc"}]
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "pdm.lock").write_text(LOCK, encoding="utf-8")
    return Project(root=tmp_path)


def lines(text: str) -> dict[str, list[str]]:
    """Return the hashes of each requirement."""
    found = {}
    for block in re.split(r"\n(?=\S)", text.strip()):
        head, *hashes = block.split(" \\\n    --hash=")
        found[head] = hashes
    return found


def test_every_line_has_one_version_and_all_its_hashes_in_order(project: Project) -> None:
    assert lines(environment.requirements(project, ["build"])) == {
        "tool==1.0": ["sha256:cc", "sha256:dd"]
    }


def test_a_package_locked_twice_gets_markers_that_never_both_hold(project: Project) -> None:
    found = [Requirement(line) for line in lines(environment.requirements(project, ["default"]))]
    check_disjoint(found)


def check_disjoint(found: list[Requirement]) -> None:
    assert len(found) == 2
    for target in TARGETS.values():
        held = [
            requirement
            for requirement in found
            if requirement.marker is not None and requirement.marker.evaluate(dict(target.markers))
        ]
        kinds = ["+cpu" in str(requirement.specifier) for requirement in held]
        lacks_it = target.name == "linux-arm64"
        assert kinds == ([] if lacks_it else [target.os == "linux"]), target.name


def test_the_committed_lock_pins_and_hashes_everything() -> None:
    found = lines(environment.requirements(Project.here(), GROUPS))
    assert len(found) > 50
    for line, hashes in found.items():
        requirement = Requirement(line)
        assert [specifier.operator for specifier in requirement.specifier] == ["=="]
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes)
        assert not requirement.name.startswith(FORBIDDEN)
    check_disjoint([Requirement(line) for line in found if line.startswith("torch==")])


def test_markers_of_the_committed_lock_can_be_read() -> None:
    for line in lines(environment.requirements(Project.here(), GROUPS)):
        marker = line.partition(" ; ")[2]
        assert not marker or isinstance(Marker(marker).evaluate(), bool)


@pytest.mark.parametrize("text", [None, "[", "\udcff"])
def test_a_lock_that_cannot_be_read_is_a_usage_error(project: Project, text: str | None) -> None:
    if text is None:
        project.wheel_lock.unlink()
    else:
        project.wheel_lock.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=r"pdm\.lock (cannot be read|is not TOML)"):
        environment.requirements(project, GROUPS)


@pytest.fixture
def installs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace what takes minutes by a record of it."""
    seen: list[str] = []

    def create(made: Project) -> None:
        seen.append("create")
        environment.interpreter(made).parent.mkdir(parents=True, exist_ok=True)
        environment.interpreter(made).write_bytes(b"")

    def install(_: Project, groups: list[str], options: list[str], __: Callable[..., None]) -> None:
        seen.append(" ".join(["install", *groups, *options[:1]]))

    monkeypatch.setattr(environment, "_create", create)
    monkeypatch.setattr(environment, "_install", install)
    monkeypatch.setattr(environment, "_prove", lambda *_: None)
    monkeypatch.setattr(environment, "_run_builder", lambda _, what: seen.append(what[0]))
    return seen


def ensure(project: Project, *groups: str) -> None:
    environment.ensure(project, groups, lambda _: None)


def test_an_environment_is_made_once(project: Project, installs: list[str]) -> None:
    ensure(project, "build")
    ensure(project, "build")
    assert installs == ["create", "install build"]


def test_a_wait_for_another_run_is_told(project: Project, installs: list[str]) -> None:
    project.out.mkdir(parents=True)
    with (project.out / "env.lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        said: list[str] = []

        def say(text: str) -> None:
            said.append(text)
            # As if the other run were done.
            fcntl.flock(other, fcntl.LOCK_UN)

        environment.ensure(project, ["build"], say)
    assert said[0] == "waiting for another run, which makes the environment"
    assert installs


def test_torchs_wheel_is_fetched_by_the_builder_before_it_is_installed(
    project: Project, installs: list[str]
) -> None:
    ensure(project, "build", "reference")
    fetched = "install build reference --find-links"
    assert installs == ["create", "install build", "fetch", fetched]
    ensure(project, "reference")
    assert len(installs) == 4


def test_a_group_is_added_to_what_is_there(project: Project, installs: list[str]) -> None:
    ensure(project, "build")
    ensure(project, "dev")
    assert installs == ["create", "install build", "install build dev"]


def test_a_group_added_later_does_not_forget_the_services_wheels(
    project: Project, installs: list[str]
) -> None:
    ensure(project, "build", "reference")
    ensure(project, "dev")
    installs.clear()
    ensure(project, "build", "reference", "dev")
    assert installs == []


def test_a_changed_lock_makes_the_environment_anew(project: Project, installs: list[str]) -> None:
    ensure(project, "build")
    project.wheel_lock.write_text(LOCK.replace("1.0", "1.1"), encoding="utf-8")
    ensure(project, "build")
    assert installs == ["create", "install build"] * 2


def test_a_damaged_record_or_a_lost_interpreter_makes_it_anew(
    project: Project, installs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure(project, "build")
    (project.out / "env.json").write_text('{"groups": ["build"]}', encoding="utf-8")
    monkeypatch.setattr(environment, "_create", lambda _: installs.append("create"))
    ensure(project, "build")
    environment.interpreter(project).unlink()
    ensure(project, "build")
    assert installs.count("create") == 3


def test_a_killed_first_install_is_done_again(
    project: Project, installs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    recorded = environment._install
    monkeypatch.setattr(environment, "_install", killed)
    with pytest.raises(KeyboardInterrupt):
        ensure(project, "build")
    monkeypatch.setattr(environment, "_install", recorded)
    monkeypatch.setattr(environment, "_create", lambda _: installs.append("create"))
    ensure(project, "build")
    assert installs == ["create", "create", "install build"]


def test_what_cannot_be_imported_is_not_marked_as_complete(
    project: Project, installs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UsageError("it does not hold it")

    monkeypatch.setattr(environment, "_prove", refuse)
    for _ in range(2):
        with pytest.raises(UsageError):
            ensure(project, "build")
    assert installs == ["create", "install build"] * 2


@pytest.fixture
def installed(project: Project) -> Path:
    """Return site-packages of an environment that holds `tool`, as its lock says."""
    program = environment.interpreter(project)
    program.parent.mkdir(parents=True)
    site = environment._site_packages(project)
    for path, text in {
        "tool/__init__.py": "",
        "tool-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tool\nVersion: 1.0\n",
        "tool-1.0.dist-info/RECORD": "tool/__init__.py,,\n",
    }.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    start = f"import site; site.addsitedir({str(site)!r})"
    program.write_text(
        f"#!{sys.executable} -IS\nimport sys\n{start}\nexec(sys.argv[sys.argv.index('-c') + 1])\n"
    )
    program.chmod(0o755)
    return site


@pytest.mark.skipif(os.name == "nt", reason="a script stands in for the interpreter")
@pytest.mark.parametrize(
    ("path", "text", "why"),
    [
        ("tool/__init__.py", "import nothing_of_that_name", "No module named 'nothing_of"),
        ("tool-1.0.dist-info/METADATA", "Name: tool\nVersion: 1.1\n", "tool is 1.1, not 1.0"),
        ("tool-1.0.dist-info/METADATA", None, "tool"),
    ],
)
def test_what_pip_put_elsewhere_or_cannot_be_imported_is_told(
    project: Project, installed: Path, path: str, text: str | None, why: str
) -> None:
    environment._prove(project, ["build"])
    if text is None:
        (installed / path).unlink()
    else:
        (installed / path).write_text(text)
    with pytest.raises(UsageError, match="does not hold what pip installed") as caught:
        environment._prove(project, ["build"])
    assert why in caught.value.why


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE FILE", IntegrityError),
        ("ERROR: Could not install: [Errno 28] No space left on device", DiskError),
        ("ERROR: No matching distribution found for x==1", UnreachableError),
        ("ERROR: Connection refused", UnreachableError),
        ("ERROR: something else", UsageError),
    ],
)
def test_pips_last_words_become_the_failure_they_mean(said: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        environment._explain(["Collecting x", said, "hint: try again"])
    assert getattr(caught.value, "why", "") == said


@pytest.mark.skipif(os.name == "nt", reason="a script stands in for the interpreter")
def test_packages_are_counted_as_pip_comes_by_them(project: Project) -> None:
    program = environment.interpreter(project)
    program.parent.mkdir(parents=True)
    program.write_text(
        "#!/bin/sh\n"
        'for each in $(seq 15); do echo "Collecting x$each"; done\n'
        'for each in $(seq 6); do echo "Processing ./y$each.whl"; done\n'
        'echo "Installing collected packages: x"\n'
    )
    program.chmod(0o755)
    said: list[str] = []
    environment._install(project, ["default"], [], said.append)
    assert said == ["environment: installing 21 packages"]


def test_a_pip_that_says_nothing_is_still_a_failure() -> None:
    with pytest.raises(UsageError):
        environment._explain([])
