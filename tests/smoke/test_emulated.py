"""The lean bundles on processors that this machine is not: older ones, and Arm's.

Only the service itself is emulated: a program that it starts would run on this machine's processor.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from bundler.artifacts import debian
from bundler.artifacts.debian import Packages
from bundler.errors import UnreachableError
from bundler.launch import RunningService
from bundler.locks.models import Cosines, read_models
from bundler.project import Project
from bundler.recipe import read_recipe
from bundler.targets import ARCHITECTURES, host_target
from sidecar.documents.worker import LENGTH, READY
from sidecar.manifest import read
from sidecar.models.golden import MIN_COSINE, Golden
from sidecar.models.golden import read as read_golden
from sidecar.process.cpu_features import CpuFeatures
from tests.support.lacking import lack
from tests.support.tinypdf import pdf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# bookworm's qemu ends in the import of ONNX Runtime.
SUITE = "trixie"
START_SECONDS = 240.0
ANSWER_SECONDS = 600.0
BATCH = 16
REFUSED = 10
ASK = """
import dataclasses, json, sys
sys.path.insert(0, sys.argv[1])
from sidecar.process import cpu_features
print(json.dumps(dataclasses.asdict(cpu_features.detect())))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """A processor as qemu calls it, its architecture, and what the service must find of it."""

    name: str
    architecture: str
    level: int | None = None
    has_byte_products: bool = False

    @property
    def features(self) -> CpuFeatures:
        """What the service must say of it."""
        return CpuFeatures(level=self.level, has_byte_products=self.has_byte_products)


PROCESSORS = {
    one.name: one
    for one in (
        Processor(name="Haswell", architecture="amd64", level=3),
        Processor(name="Nehalem", architecture="amd64", level=2),
        Processor(name="core2duo", architecture="amd64", level=1),
        # A Raspberry Pi 4, and a Graviton 2: without the dot product, and with it.
        Processor(name="cortex-a72", architecture="arm64"),
        Processor(name="neoverse-n1", architecture="arm64", has_byte_products=True),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """qemu's programs, in `programs`, and for Arm the root file system with a C library."""

    programs: Path
    arm_root: Path

    def words(self, processor: Processor, program: Path) -> list[str]:
        """Return the words that run `program` on `processor`."""
        qemu, options = {
            "amd64": ("qemu-x86_64", []),
            "arm64": ("qemu-aarch64", ["-L", str(self.arm_root)]),
        }[processor.architecture]
        return [str(self.programs / qemu), "-cpu", processor.name, *options, str(program)]

    def features(self, processor: Processor, bundle: Path) -> CpuFeatures:
        """Return what the service in `bundle` finds of the processor."""
        python = self.words(processor, bundle / read(bundle).runtime.executable)
        done = subprocess.run(
            [*python, "-I", "-B", "-c", ASK, str(bundle / "embedding_sidecar")],
            env={},
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        return CpuFeatures(**json.loads(done.stdout))

    def service(self, processor: Processor, bundle: Path, *options: str) -> RunningService:
        """Start the service of `bundle`."""
        python = self.words(processor, bundle / read(bundle).runtime.executable)
        program = [*python, "-I", "-B", str(bundle / "embedding_sidecar"), "--port", "0", *options]
        return RunningService.start(program, environment={})

    def read_pdf(self, processor: Processor, bundle: Path, data: bytes) -> list[dict[str, Any]]:
        """Return what the program that reads PDFs says of one, a message a page."""
        python = self.words(processor, bundle / read(bundle).runtime.executable)
        program = bundle / "embedding_sidecar/sidecar/documents/worker.py"
        # Pages, characters, seconds, whom it works for.
        numbers = (500, 2_000_000, 600, os.getpid())
        given = [b"{}", data]
        with subprocess.Popen(
            [*python, "-I", "-B", str(program), *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={},
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"".join(LENGTH.pack(len(part)) + part for part in given))
            process.stdin.flush()
            # stdin stays open: where it ends, the service has ended.
            said = process.stdout.read()
        assert said[:1] == READY
        return list(_messages(said[1:]))

    def ended(self, processor: Processor, bundle: Path, *options: str) -> tuple[int, list[str]]:
        """Return how a service ended that did not start: its exit code, and its log's lines."""
        with self.service(processor, bundle, *options) as service:
            code = service.process.wait(START_SECONDS)
            for thread in service.threads:
                thread.join()
        return code, service.tail


def _messages(said: bytes) -> Iterator[dict[str, Any]]:
    while said:
        (size,) = LENGTH.unpack_from(said)
        yield json.loads(said[LENGTH.size : LENGTH.size + size])
        said = said[LENGTH.size + size :]


def golden_of(bundle: Path) -> Golden:
    """Return the golden texts of a bundle's model, and their vectors."""
    name = read(bundle).models[0].golden
    assert name is not None
    return read_golden(bundle / name)


def cosines_of(service: RunningService, golden: Golden) -> list[float]:
    """Return how near the vectors that a service gives come to the golden ones."""
    rows: list[list[float]] = []
    for at in range(0, len(golden.texts), BATCH):
        body = {"texts": golden.texts[at : at + BATCH], "pooling": golden.pooling}
        rows += service.request("/embed", body, timeout_s=ANSWER_SECONDS)["vectors"]
    return [float(found) for found in golden.cosines(rows)]


def least_int8(bundle: Path) -> Cosines:
    """Return how near int8 of a bundle's model must come."""
    project = Project.here()
    models = read_models(project.model_lock, read_recipe(project.recipe))
    least = models[read(bundle).models[0].name].least_int8
    assert least is not None
    return least


STARTING = ("Haswell", "Nehalem", "neoverse-n1")
WITHOUT_BYTE_PRODUCTS = (
    *(pytest.param(name, marks=pytest.mark.full) for name in ("Haswell", "Nehalem")),
    "cortex-a72",
)


@pytest.fixture(scope="module")
def emulated() -> Emulator:
    """Return what emulates, fetched below bundle/out."""
    folder = Project.here().out / "cache" / "debian"
    qemu = Packages(
        suite=SUITE,
        architecture=ARCHITECTURES[host_target().name.partition("-")[2]],
        names=("qemu-user",),
        kept=("usr/bin/qemu-x86_64", "usr/bin/qemu-aarch64"),
    )
    try:
        return Emulator(
            programs=debian.unpacked(qemu, folder).path / "usr/bin",
            arm_root=debian.unpacked(debian.python("arm64"), folder).path,
        )
    except UnreachableError as error:
        lack(f"{error.what}: {error.why}")


@pytest.fixture(scope="module")
def bundles(lean: Path, request: pytest.FixtureRequest) -> dict[str, Path]:
    if read(lean).target != "linux-x64":
        pytest.skip("this machine is not x86-64")
    return {"amd64": lean, "arm64": request.getfixturevalue("arm")}


@pytest.fixture
def processor(request: pytest.FixtureRequest) -> Processor:
    return PROCESSORS[request.param]


@pytest.mark.parametrize("processor", PROCESSORS, indirect=True)
def test_the_features_found_are_those_of_the_emulated_processor(
    emulated: Emulator, bundles: dict[str, Path], processor: Processor
) -> None:
    found = emulated.features(processor, bundles[processor.architecture])
    assert found == processor.features


@pytest.mark.parametrize("processor", STARTING, indirect=True)
def test_it_starts_and_gives_a_golden_vector(
    emulated: Emulator, bundles: dict[str, Path], processor: Processor
) -> None:
    bundle = bundles[processor.architecture]
    with emulated.service(processor, bundle) as service:
        # The start itself holds four golden texts against their vectors.
        service.wait_ready(START_SECONDS)
        (near,) = cosines_of(service, golden_of(bundle).shortest(1))
        assert near >= MIN_COSINE
        assert service.stop() == 0


@pytest.mark.parametrize("processor", ["core2duo"], indirect=True)
def test_a_processor_below_the_floor_is_refused_in_one_sentence(
    emulated: Emulator, bundles: dict[str, Path], processor: Processor
) -> None:
    code, said = emulated.ended(processor, bundles[processor.architecture])
    # Anything native, numpy to begin with, would end it by a signal.
    assert code == REFUSED, said
    (line,) = said
    assert "needs a processor of the level x86-64-v2" in line


@pytest.mark.parametrize("processor", WITHOUT_BYTE_PRODUCTS, indirect=True)
def test_int8_is_served_where_the_processor_has_no_byte_products(
    emulated: Emulator, bundles: dict[str, Path], processor: Processor
) -> None:
    bundle = bundles[processor.architecture]
    with emulated.service(processor, bundle, "--precision", "int8") as service:
        # The start itself holds four golden texts against their vectors.
        service.wait_ready(START_SECONDS)
        info = service.request("/info")
        assert (info["precision"], info["degraded"]) == ("int8", "float32-products")
        (near,) = cosines_of(service, golden_of(bundle).shortest(1))
        assert near >= least_int8(bundle).worst


@pytest.mark.parametrize("processor", ["Nehalem", "cortex-a72"], indirect=True)
def test_a_kernel_without_the_filter_leaves_the_limits(
    emulated: Emulator, bundles: dict[str, Path], processor: Processor
) -> None:
    # An emulator takes no filter, as some kernels do not.
    said = emulated.read_pdf(processor, bundles[processor.architecture], pdf(["a page"]))
    assert "".join(page for part in said for page in part["pages"]).split() == ["a", "page"]
    assert {part["sandbox"] for part in said} == {"rlimits"}


@pytest.mark.full
@pytest.mark.parametrize("processor", [*STARTING, "cortex-a72"], indirect=True)
def test_all_golden_texts_have_their_vectors(
    emulated: Emulator, bundles: dict[str, Path], processor: Processor
) -> None:
    bundle = bundles[processor.architecture]
    with emulated.service(processor, bundle) as service:
        service.wait_ready(START_SECONDS)
        assert min(cosines_of(service, golden_of(bundle))) >= MIN_COSINE


@pytest.mark.full
@pytest.mark.parametrize("processor", ["neoverse-n1"], indirect=True)
def test_golden_texts_in_int8_are_as_near_as_locked(
    emulated: Emulator, bundles: dict[str, Path], processor: Processor
) -> None:
    bundle = bundles[processor.architecture]
    with emulated.service(processor, bundle, "--precision", "int8") as service:
        service.wait_ready(START_SECONDS)
        found = cosines_of(service, golden_of(bundle))
    near = Cosines(worst=min(found), mean=math.fsum(found) / len(found))
    assert near.holds(least_int8(bundle))
