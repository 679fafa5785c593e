"""Bundles for a Mac and for Windows, assembled here: the real wheels and the real model.

Only the runtime is a stand-in, with the real one's names: its release is not always in reach.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

from bundler.assembly import linkage, path_rules
from bundler.assembly.audit import REMEDIES, AuditReport, audit
from bundler.build_context import BuildContext, BuildOptions
from bundler.cli import parser
from bundler.console import Console, Progress
from bundler.errors import UnreachableError
from bundler.inspection.inventory import take_stock
from bundler.inspection.sizes import weigh
from bundler.profiles import DEFAULT, label
from bundler.project import Project
from bundler.recipe import read_recipe
from bundler.targets import TARGETS, Target, host_target
from bundler.verify import verify
from sidecar.manifest import Manifest, read
from tests.support.badserver import BadServer
from tests.support.standalone import TAG, write_release
from tests.support.treesearch import demands

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from bundler.digests import Digest
    from bundler.plan import BundlePlan

PROJECT = Project.here()
FLOORS = {"mac-arm64": ("macOS", "14.0"), "win-x64": ("Windows", "10.0")}
# A few thousand sources are the same on every target: those of the wheels without native code.
COMMON = 4000


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A bundle for another system, its plan, and the archive that its runtime came from."""

    target: Target
    root: Path
    plan: BundlePlan
    runtime: Digest

    @property
    def site(self) -> Path:
        """Where its wheels are."""
        return self.root / self.target.site_packages

    @property
    def manifest(self) -> Manifest:
        """Its manifest."""
        return read(self.root)

    @cached_property
    def files(self) -> list[Path]:
        """Return every file."""
        return [path for path in self.root.rglob("*") if path.is_file()]

    @cached_property
    def report(self) -> AuditReport:
        """Return what the audit says of it, the floor enforced."""
        table = read_recipe(PROJECT.recipe).sections["audit"]
        rules = linkage.from_recipe(table, system=self.target.os, target=self.target.name)
        return audit(self.root, self.target, rules)


def assemble(name: str, folder: Path, profile: str = DEFAULT) -> Foreign:
    """Assemble a bundle for release through the command's own path; what stands is reused.

    It lies below bundle/out, so that a later run makes anew only what has changed. Skips where the
    registries are out of reach.
    """
    target = TARGETS[name]
    source = read_recipe(PROJECT.recipe).sources["runtime"]
    spec = write_release(folder, target, source, is_whole=True)
    output = PROJECT.out / "cache" / "foreign" / label(name, profile)
    told = io.StringIO()
    with BadServer() as server:
        server.add(f"{TAG}/{spec.artifact.name}", (folder / spec.artifact.name).read_bytes())
        arguments = ["--target", name, "--profile", profile, "--runtime", "standalone", "--release"]
        arguments += ["--mirror", f"runtime={server.root}", "--output", str(output)]
        options = parser().parse_args(["assemble", *arguments])
        inputs = BuildContext.gather(BuildOptions.of(options), PROJECT, Console(told))
        locks = replace(inputs.locks, runtimes={**inputs.locks.runtimes, name: spec})
        inputs = replace(inputs, locks=locks)
        try:
            inputs.assemble()
        except UnreachableError as error:
            pytest.skip(f"no bundle for {name}: {error.what} ({error.why})")
        finally:
            held = inputs.resolver.store.path(spec.artifact.digest)
            if held is not None:
                held.unlink()
        plan = inputs.plan()
    return Foreign(target=target, root=output, plan=plan, runtime=spec.artifact.digest)


@pytest.fixture(scope="module")
def mac(tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    return assemble("mac-arm64", tmp_path_factory.mktemp("mac"))


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    return assemble("win-x64", tmp_path_factory.mktemp("windows"))


@pytest.fixture(scope="module")
def mps(tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    return assemble("mac-arm64", tmp_path_factory.mktemp("mps"), "mps")


@pytest.fixture(params=[pytest.param("mac", marks=pytest.mark.full), "windows"])
def foreign(request: pytest.FixtureRequest) -> Foreign:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Foreign)
    return found


def test_it_is_whole_verifies_and_may_be_released(foreign: Foreign) -> None:
    manifest = verify(foreign.root, Progress()).manifest
    assert manifest.target == foreign.target.name
    assert manifest.unreleasable == ()
    assert manifest.runtime.source == "standalone"
    assert (foreign.root / manifest.runtime.executable).is_file()
    assert [model.name for model in manifest.models] == ["minilm"]
    assert manifest.plan == foreign.plan.id


def test_its_audit_is_clean_and_every_warning_has_a_remedy(foreign: Foreign) -> None:
    report = foreign.report
    assert report.failures == ()
    assert report.binaries > 200
    assert all(finding.code in REMEDIES for finding in report.findings)
    assert {finding.code for finding in report.findings} <= {
        *("absolute-rpath", "duplicate-library", "older-runtime")
    }
    excused = [finding for finding in report.findings if finding.code == "duplicate-library"]
    assert all(finding.waived for finding in excused)


@pytest.mark.full
def test_the_profile_for_a_macs_gpu_has_torch_and_a_clean_audit(mps: Foreign) -> None:
    assert mps.manifest.unreleasable == ()
    assert mps.report.failures == ()
    assert "duplicate-library" not in {finding.code for finding in mps.report.findings}
    assert mps.manifest.floor["macOS"] == "14.0"
    assert {"torch", "onnxruntime"} <= {wheel.package for wheel in mps.plan.wheels}
    assert not {"scipy", "sympy", "transformers"} & {wheel.package for wheel in mps.plan.wheels}


def test_its_floor_is_the_one_that_the_recipe_promises(foreign: Foreign) -> None:
    system, version = FLOORS[foreign.target.name]
    floor = foreign.report.floor
    assert (floor.system, floor.version) == (system, version)
    assert foreign.manifest.floor == floor.as_mapping()


def test_its_names_fit_every_file_system_and_none_is_a_link(foreign: Foreign) -> None:
    path_rules.check_paths(foreign.root, read_recipe(PROJECT.recipe).path_budget)
    odd = [p for p in foreign.root.rglob("*") if p.is_symlink() or not (p.is_file() or p.is_dir())]
    assert odd == []


def test_nothing_in_it_is_for_linux(foreign: Foreign) -> None:
    found = []
    for path in foreign.files:
        with path.open("rb") as stream:
            if stream.read(4) == b"\x7fELF":
                found.append(path)
    assert found == []
    # A Mac's extension modules are called so, too.
    if foreign.target.os == "win":
        assert [path for path in foreign.files if path.suffix == ".so"] == []


def test_nothing_in_it_serves_a_compiler_or_a_console(foreign: Foreign) -> None:
    suffixes = {".lib", ".a", ".pdb", ".exe", ".cmake"}
    found = {path.name for path in foreign.files if path.suffix in suffixes}
    expected = {"python.exe", "pythonw.exe"} if foreign.target.os == "win" else set()
    assert found == expected
    assert {path.name for path in foreign.site.glob("torch/bin/*")} <= {"torch_shm_manager"}


def test_savings_are_known_for_every_package(foreign: Foreign) -> None:
    assert weigh(take_stock(foreign.root)).components_without_report == ()


def test_the_real_torch_is_in_it(foreign: Foreign) -> None:
    assert (foreign.site / "torch-2.13.0.dist-info" / "METADATA").is_file()
    (library,) = foreign.site.glob("torch/lib/*torch_cpu.*")
    assert library.stat().st_size > 100_000_000


def test_windows_finds_its_own_libraries_beside_the_program(windows: Foreign) -> None:
    here = {path.name for path in (windows.root / "python").iterdir() if path.is_file()}
    assert {"python.exe", "python3.dll", "python311.dll", "vcruntime140.dll"} <= here
    assert {"vcruntime140_1.dll", "msvcp140.dll", "msvcp140_1.dll"} <= here
    assert not here & {"vcomp140.dll", "concrt140.dll", "vcamp140.dll", "vccorlib140.dll"}
    assert not (windows.root / "python" / "Scripts").exists()


def test_the_runtime_has_lost_its_past(foreign: Foreign) -> None:
    texts = list((foreign.root / "python").rglob("_sysconfigdata*.py"))
    assert len(texts) == (0 if foreign.target.os == "win" else 1)
    assert not [path for path in texts if b"'/install" in path.read_bytes()]
    assert not list(foreign.site.glob("pip*"))
    assert not list((foreign.root / "python").glob("lib/libpython*"))
    assert "PSF" in (foreign.root / "NOTICES.txt").read_text(encoding="utf-8")


def test_it_demands_no_sources_of_what_it_is_shipped_with(foreign: Foreign) -> None:
    assert demands(foreign.root) == []
    bill = json.loads((foreign.root / "sbom.cdx.json").read_bytes())
    (runtime,) = [part for part in bill["components"] if part["name"] == "cpython"]
    assert {"openssl", "sqlite", "xz"} <= {part["name"] for part in runtime["components"]}


def test_the_bill_of_fetched_names_the_runtime_and_every_wheel(foreign: Foreign) -> None:
    bill = json.loads((foreign.root / "sbom.cdx.json").read_bytes())
    hashes = {entry["content"] for part in bill["components"] for entry in part.get("hashes", ())}
    assert foreign.runtime.sha256 in hashes
    assert {wheel.sha256 for wheel in foreign.plan.wheels} <= hashes
    assert any(wheel.package == "torch" for wheel in foreign.plan.wheels)


def test_equal_sources_have_equal_bytecode_on_every_target(foreign: Foreign, bundle: Path) -> None:
    own = bundle / host_target().site_packages
    pure = {w.sha256: w for w in foreign.plan.wheels if w.filename.endswith("-none-any.whl")}
    assert len(pure) > 20
    common, differing = 0, []
    for path in sorted(foreign.site.rglob("*.pyc")):
        source = path.parent.parent / f"{path.name.partition('.')[0]}.py"
        inside = path.relative_to(foreign.site)
        ours = own / source.relative_to(foreign.site)
        if not (own / inside).is_file() or ours.read_bytes() != source.read_bytes():
            continue
        common += 1
        if path.read_bytes() != (own / inside).read_bytes():
            differing.append(inside)
    assert differing == []
    assert common > COMMON


def command(*arguments: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
    """Run the build command as people do."""
    return subprocess.run(
        [sys.executable, PROJECT.root / "build", *arguments],
        cwd=PROJECT.root,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_a_profile_that_a_target_lacks_the_wheels_of_exits_10(tmp_path: Path) -> None:
    arguments = ("--target", "linux-arm64", "--profile", "safe", "--output", tmp_path / "bundle")
    done = command("assemble", *arguments)
    assert done.returncode == 10, done.stderr
    first, _, last = done.stderr.splitlines()
    assert first == "error: the group reference of pdm.lock is not locked for linux-arm64"
    assert last.endswith("python3 build assemble --target linux-arm64 --profile lean")
    assert not (tmp_path / "bundle").exists()


def test_what_is_locked_for_that_target_can_be_had_alone(tmp_path: Path) -> None:
    arguments = ("--target", "linux-arm64", "--only", "service", "--output", tmp_path / "bundle")
    done = command("assemble", *arguments)
    assert done.returncode == 0, done.stderr
    assert "not for release: parts were left out: runtime, wheels, models" in done.stderr
    assert read(tmp_path / "bundle").target == "linux-arm64"


def test_an_unknown_target_exits_10_and_names_those_there_are() -> None:
    done = command("assemble", "--target", "amiga-m68k")
    assert done.returncode == 10
    assert all(name in done.stderr for name in TARGETS)


def test_a_release_that_has_no_such_runtime_exits_5(tmp_path: Path) -> None:
    with BadServer() as server:
        mirror = f"runtime={server.root}"
        arguments = ("--runtime", "standalone", "--store", tmp_path, "--mirror", mirror)
        done = command("assemble", *arguments, "--output", tmp_path / "bundle")
    assert done.returncode == 5, done.stderr
    assert "cpython-3.11" in done.stderr
    assert "is out of reach" in done.stderr
    assert not (tmp_path / "bundle").exists()


def test_what_the_store_lacks_exits_5_offline(tmp_path: Path) -> None:
    arguments = ("--target", "mac-arm64", "--only", "wheels", "--offline", "--store", tmp_path)
    done = command("assemble", *arguments, "--output", tmp_path / "bundle")
    assert done.returncode == 5
    assert "not in the store: " in done.stderr
    assert "macosx" in done.stderr or "any.whl" in done.stderr
