from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Any

import grimp
import pytest

from bundler.bootstrap import platforms
from bundler.bootstrap.platforms import Machine
from bundler.build_context import FORWARD, BuildContext, BuildOptions, refuse_unreleasable
from bundler.cli import parser
from bundler.console import Console
from bundler.errors import PolicyError, UnreachableError, UnsupportedError, UsageError
from bundler.project import Project
from tests.support import tinydebian
from tests.support.miniature import Miniature

if TYPE_CHECKING:
    from pathlib import Path

# What assembling imports from elsewhere: it moves or reads bytes, tells people, or
# stands in the plan.
NEUTRAL = {
    *("atomic", "bundle", "digests", "errors", "plan", "profiles"),
    *("project", "recipe", "targets", "bootstrap.platforms"),
    *("locks.models", "locks.runtime", "locks.wheels"),
}


@pytest.fixture
def miniature(tmp_path: Path) -> Miniature:
    return Miniature.make(tmp_path / "checkout")


def gathered(miniature: Miniature, **options: Any) -> BuildContext:
    chosen = BuildOptions(**{"target": "linux-x64", "is_offline": True, **options})
    return BuildContext.gather(chosen, miniature.project, Console(io.StringIO()))


def said(context: BuildContext) -> str:
    stream = context.console.stream
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def test_assembling_imports_nothing_else_that_decides_bytes() -> None:
    graph = grimp.build_graph("bundler", "sidecar", exclude_type_checking_imports=True)
    assembly = graph.find_descendants("bundler.assembly")
    reached = set().union(*(graph.find_upstream_modules(module) for module in assembly))
    names = {name.removeprefix("bundler.") for name in reached if name.startswith("bundler.")}
    outside = {name for name in names if not name.startswith("assembly")}
    assert {name for name in outside if not graph.find_children(f"bundler.{name}")} == NEUTRAL


def test_forward_is_all_of_the_service_that_writes_a_graph() -> None:
    graph = grimp.build_graph("bundler", "sidecar", exclude_type_checking_imports=True)
    packed = "sidecar.engines.packed."
    used = graph.find_upstream_modules("bundler.assembly.model_graph")
    assert {f"{m.removeprefix(packed)}.py" for m in used if m.startswith(packed)} == FORWARD


@pytest.mark.parametrize("source", ["components.py", "new.py"])
def test_changed_assembly_code_is_a_changed_plan(miniature: Miniature, source: str) -> None:
    before = gathered(miniature, runtime="standalone").plan().id
    (miniature.project.assembly / source).parent.mkdir(parents=True, exist_ok=True)
    (miniature.project.assembly / source).write_text("LEVEL = 1\n", encoding="utf-8")
    assert gathered(miniature, runtime="standalone").plan().id != before


def test_a_changed_service_is_a_changed_plan(miniature: Miniature) -> None:
    before = gathered(miniature, runtime="standalone").plan().id
    assert gathered(miniature, runtime="standalone").plan().id == before
    miniature.write_service("sidecar/cli.py", "def main() -> int:\n    return 1\n")
    assert gathered(miniature, runtime="standalone").plan().id != before


def test_the_version_is_the_services_own(miniature: Miniature) -> None:
    assert gathered(miniature).sources.version == "0.0.1"
    miniature.write_service("sidecar/__init__.py", '"""Nothing said."""\n')
    with pytest.raises(UsageError, match="__version__"):
        gathered(miniature)


def test_a_stand_in_and_parts_left_out_are_refused_for_a_release(miniature: Miniature) -> None:
    whole = gathered(miniature, runtime="standalone").plan()
    refuse_unreleasable(whole)
    partial = gathered(miniature, runtime="standalone", parts=("wheels", "service")).plan()
    with pytest.raises(PolicyError, match="not for release") as caught:
        refuse_unreleasable(partial)
    assert "runtime, models" in caught.value.why


def test_a_release_never_takes_a_stand_in(miniature: Miniature) -> None:
    with pytest.raises(PolicyError, match="locked CPython") as caught:
        gathered(miniature, runtime="host", is_release=True).plan()
    assert caught.value.next_step == "leave --runtime out"


@pytest.mark.parametrize(
    ("options", "step"),
    [
        ({"is_offline": True}, "leave --offline out"),
        ({"is_offline": False}, "pass --mirror runtime=ADDRESS"),
        (
            {"is_offline": False, "mirrors": ("runtime=http://127.0.0.1:9",)},
            "check --mirror runtime",
        ),
    ],
    ids=str,
)
def test_the_way_to_the_locked_runtime_is_not_the_one_that_was_taken(
    miniature: Miniature, options: dict[str, Any], step: str
) -> None:
    context = gathered(miniature, is_release=True, **options)
    with pytest.raises(PolicyError, match="locked CPython") as caught:
        context._stand_in("it cannot be had")
    assert step in caught.value.next_step


def test_a_stand_in_serves_this_machines_target_alone(miniature: Miniature) -> None:
    with pytest.raises(UsageError, match="cannot serve mac-arm64"):
        gathered(miniature, runtime="host", target="mac-arm64").plan()


FOR_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="made on Linux, for Linux")


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "path"
    tinydebian.install(folder, tinydebian.python_tree())
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@FOR_LINUX
@pytest.mark.usefixtures("tool")
def test_debians_packages_stand_in_for_another_machine_with_linux(miniature: Miniature) -> None:
    options = {"target": "linux-arm64", "runtime": "host", "parts": ("runtime", "service")}
    context = gathered(miniature, **options, is_offline=False)
    with pytest.raises(UnreachableError, match="no CPython for linux-arm64 here"):
        context.plan_only()
    planned = context.plan()
    assert planned.document()["runtime"]["source"] == "debian"
    assert "Debian's CPython 3.11.2" in said(context)
    # Once they are there no network is needed.
    assert gathered(miniature, **options).plan().id == planned.id == context.plan_only().id


@FOR_LINUX
def test_no_stand_in_is_fetched_offline(miniature: Miniature, tool: Path) -> None:
    options = {"target": "linux-arm64", "runtime": "host", "parts": ("runtime",)}
    with pytest.raises(UnreachableError, match="no CPython for linux-arm64 here"):
        gathered(miniature, **options).plan()
    assert not (tool / "words").exists()


@FOR_LINUX
def test_what_is_not_locked_is_refused_before_a_stand_in_is_fetched(
    miniature: Miniature, tool: Path
) -> None:
    context = gathered(miniature, target="linux-arm64", runtime="host", is_offline=False)
    with pytest.raises(UnsupportedError, match="not locked for linux-arm64: heavy-weight"):
        context.plan()
    assert not (tool / "words").exists()


def test_a_machine_with_linux_on_arm_makes_a_lean_bundle_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine("linux", "arm64", "glibc", (2, 36))
    monkeypatch.setattr(platforms, "this_machine", lambda: machine)
    project = Project.here()
    console = Console(io.StringIO())
    options = parser().parse_args(["assemble", "--offline", "--only", "wheels,models,service"])
    context = BuildContext.gather(BuildOptions.of(options), project, console)
    planned = context.plan_only()
    assert (planned.target, planned.profile) == ("linux-arm64", "lean")
    assert context.output == project.out / "linux-arm64-lean"
    assert "NOTICE: linux-arm64 gets the profile lean\n  why: it lacks the group ref" in said(
        context
    )


def test_a_target_with_a_profile_of_its_own_says_so(miniature: Miniature) -> None:
    table = '[targets.linux-x64]\ndefault_profile = "none"\nwithout = { big = "too big" }\n'
    recipe = miniature.project.recipe
    recipe.write_text(f"{recipe.read_text()}\n{table}")
    context = gathered(miniature)
    assert context.output == miniature.project.out / "linux-x64-none"
    assert context.plan_only().profile == "none"
    assert said(context) == (
        "NOTICE: linux-x64 gets the profile none\n  why: it lacks the group big: too big\n"
    )
    assert said(gathered(miniature, profile="none")) == ""


def test_the_output_is_named_by_the_target_unless_given(
    miniature: Miniature, tmp_path: Path
) -> None:
    assert gathered(miniature).output == miniature.project.out / "linux-x64"
    assert gathered(miniature, output=tmp_path / "there").output == tmp_path / "there"
