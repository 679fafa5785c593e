"""The CPython that compiles: the locked one where it is there and runs, else the builder's own."""

from __future__ import annotations

import io
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bundler.artifacts.store import Store
from bundler.assembly import bytecode, safe_extract
from bundler.build_context import BuildContext, BuildOptions
from bundler.cli import parser
from bundler.commands import assemble
from bundler.console import Console
from bundler.errors import DiskError, IntegrityError, UsageError
from bundler.locks import runtime
from bundler.targets import host_target
from tests.support.miniature import Miniature
from tests.support.standalone import write_release

if TYPE_CHECKING:
    from bundler.locks.runtime import RuntimeSpec

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the program in the archive is a script")

HERE = platform.python_version()
SOURCE = "https://runtime.invalid"
OWN = bytecode.own_compiler()


def script(*lines: str) -> bytes:
    """Return a program that runs `lines`, then passes everything on to our own Python."""
    return "\n".join(["#!/bin/sh", *lines, f'exec "{sys.executable}" "$@"', ""]).encode()


def release(folder: Path, *, program: bytes, version: str = HERE) -> tuple[RuntimeSpec, Path]:
    """Write the archive for this machine; return its spec and where it is."""
    spec = write_release(folder, host_target(), SOURCE, version=version, program=program)
    return spec, folder / spec.artifact.name


@pytest.fixture(autouse=True)
def _without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave pip's configuration unread: asking pip takes a second, and nothing is fetched here."""
    monkeypatch.setattr("bundler.artifacts.resolver.pip_options", lambda _: {})


def test_our_own_is_the_one_that_runs_us() -> None:
    assert bytecode.own_compiler().executable == Path(sys.executable)
    assert bytecode.own_compiler().version == HERE


def test_the_locked_one_is_unpacked_once_without_what_it_never_runs(tmp_path: Path) -> None:
    spec, archive = release(tmp_path, program=script())
    found = bytecode.locked_compiler(spec, archive, host_target(), tmp_path / "compiler")
    place = tmp_path / "compiler" / spec.artifact.digest.sha256[:16]
    assert found.version == HERE
    assert found.executable == place / "bin/python3.11"
    assert [path.name for path in place.parent.iterdir()] == [place.name]
    assert not list(place.rglob("pip*"))
    archive.unlink()
    assert bytecode.locked_compiler(spec, archive, host_target(), tmp_path / "compiler") == found


@pytest.mark.parametrize(
    ("program", "version", "why"),
    [
        (b"\x7fELF for another machine", HERE, "Exec format error"),
        (b"#!/bin/sh\necho no such library >&2\nexit 127\n", HERE, "exit status 127: no such lib"),
        (b"#!/bin/sh\nexit 3\n", HERE, "exit status 3: it says nothing"),
        (script(), "3.11.999", f"it says it is '{HERE}'"),
    ],
    ids=["format", "library", "silence", "version"],
)
def test_one_that_does_not_run_or_is_another_is_refused_with_the_reason(
    tmp_path: Path, program: bytes, version: str, why: str
) -> None:
    spec, archive = release(tmp_path, program=program, version=version)
    with pytest.raises(UsageError, match="does not run on this machine") as caught:
        bytecode.locked_compiler(spec, archive, host_target(), tmp_path / "compiler")
    assert why in caught.value.why


def test_another_builder_that_was_faster_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, archive = release(tmp_path, program=script())
    extract = safe_extract.extract

    def beaten(archive: Path, place: Path, **options: object) -> dict[str, int]:
        extract(archive, place, **options)  # type: ignore[arg-type]
        return extract(archive, place, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(safe_extract, "extract", beaten)
    found = bytecode.locked_compiler(spec, archive, host_target(), tmp_path / "compiler")
    assert found.executable.is_file()


def test_a_folder_in_its_way_that_holds_no_python_is_told(tmp_path: Path) -> None:
    spec, archive = release(tmp_path, program=script())
    place = tmp_path / "compiler" / spec.artifact.digest.sha256[:16]
    place.mkdir(parents=True)
    (place / "note").write_text("mine")
    with pytest.raises(DiskError, match="cannot be unpacked"):
        bytecode.locked_compiler(spec, archive, host_target(), tmp_path / "compiler")


def test_a_torn_archive_leaves_nothing_behind(tmp_path: Path) -> None:
    spec, archive = release(tmp_path, program=script())
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(IntegrityError):
        bytecode.locked_compiler(spec, archive, host_target(), tmp_path / "compiler")
    folder = tmp_path / "compiler"
    assert not folder.exists() or not list(folder.iterdir())


def checkout(root: Path, *, program: bytes, version: str) -> tuple[Miniature, Path]:
    """Return a checkout whose lock holds such a runtime for this machine, and its archive."""
    miniature = Miniature.make(root / "project")
    spec, archive = release(root / "release", program=program, version=version)
    with miniature.project.recipe.open("a", encoding="utf-8") as stream:
        stream.write('[audit.mac]\nfloor = "14.0"\nsystem = []\n')
    runtime.write_lock(miniature.project.runtime_lock, {host_target().name: spec})
    return miniature, archive


def options(*arguments: str) -> list[str]:
    return ["assemble", "--only", "service", "--offline", *arguments]


def gather(miniature: Miniature, *arguments: str) -> tuple[BuildContext, io.StringIO]:
    told = io.StringIO()
    chosen = parser().parse_args(options(*arguments))
    return BuildContext.gather(BuildOptions.of(chosen), miniature.project, Console(told)), told


def test_the_locked_one_compiles_for_every_target_once_the_store_has_it(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    miniature, archive = checkout(tmp_path, program=script(f'echo >> "{marker}"'), version=HERE)
    inputs, told = gather(miniature, "--target", "win-x64")
    assert inputs.plan().compiler == OWN.version
    assert not marker.exists()
    Store(miniature.project.store).add_bytes(archive.read_bytes())
    inputs, told = gather(miniature, "--target", "win-x64")
    place = miniature.project.out / "compiler"
    executable = inputs.fetch(inputs.plan(), ("service",)).compiler
    assert executable.is_relative_to(place)
    assert inputs.plan_only().compiler == HERE
    assert told.getvalue() == ""
    tried = marker.read_text()
    chosen = parser().parse_args(options("--target", "mac-arm64"))
    assert assemble.run(chosen, miniature.project, Console(told)) == 0
    assert len(marker.read_text()) > len(tried) + 1
    bundle = miniature.project.output("mac-arm64")
    assert list(bundle.rglob("*.cpython-311.pyc"))


def test_where_it_does_not_run_our_own_compiles_and_the_reason_is_told_once(
    tmp_path: Path,
) -> None:
    program = b"#!/bin/sh\necho wrong machine >&2\nexit 1\n"
    miniature, archive = checkout(tmp_path, program=program, version="3.11.999")
    Store(miniature.project.store).add_bytes(archive.read_bytes())
    inputs, told = gather(miniature)
    assert inputs.plan().compiler == OWN.version
    assert inputs.fetch(inputs.plan(), ("service",)).compiler == OWN.executable
    said = told.getvalue()
    assert said.count("NOTICE") == 1
    assert f"compiled by this builder's own CPython {HERE}" in said
    assert "CPython 3.11.999 does not run on this machine: exit status 1: wrong machine" in said


def test_a_damaged_archive_in_the_store_does_not_compile(tmp_path: Path) -> None:
    miniature, archive = checkout(tmp_path, program=script(), version=HERE)
    digest = Store(miniature.project.store).add_bytes(archive.read_bytes())
    entry = Store(miniature.project.store).path(digest)
    assert entry is not None
    entry.chmod(0o644)
    entry.write_bytes(b"other")
    inputs, told = gather(miniature)
    assert inputs.plan().compiler == OWN.version
    assert "is not the file that was locked" in told.getvalue()
