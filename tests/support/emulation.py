"""A bundle's service on processors that this machine is not: older ones, and Arm's.

python -m tests.support.emulation X64 ARM64 [NAME...] starts the bundles under each processor of
that name, or under all of them, and holds all golden texts against their vectors. Only the service
itself is emulated: a program that it starts would run on this machine's own processor.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundler.artifacts import debian
from bundler.artifacts.debian import Packages
from bundler.errors import BundlerError
from bundler.golden import MIN_COSINE, Golden, cosine, read_golden
from bundler.launch import RunningService
from bundler.locks.models import Cosines, read_models
from bundler.project import Project
from bundler.recipe import read_recipe
from bundler.targets import ARCHITECTURES, host_target
from sidecar.documents.worker import LENGTH, READY
from sidecar.manifest import read
from sidecar.process.cpu_features import CpuFeatures

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
        return RunningService.run(program, environment={})

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


def emulator(project: Project) -> Emulator:
    """Return what emulates, fetched below bundle/out. Raises UnreachableError."""
    folder = project.out / "cache" / "debian"
    qemu = Packages(
        suite=SUITE,
        architecture=ARCHITECTURES[host_target().name.partition("-")[2]],
        names=("qemu-user",),
        kept=("usr/bin/qemu-x86_64", "usr/bin/qemu-aarch64"),
    )
    return Emulator(
        programs=debian.unpacked(qemu, folder).path / "usr/bin",
        arm_root=debian.unpacked(debian.python("arm64"), folder).path,
    )


def golden_of(bundle: Path) -> Golden:
    """Return the golden texts of a bundle's first model, and their vectors."""
    name = read(bundle).models[0].golden
    assert name is not None
    return read_golden(bundle / name)


def shortest(golden: Golden, count: int) -> Golden:
    """Return `count` of the golden texts, the shortest."""
    order = sorted(range(len(golden.texts)), key=lambda at: (len(golden.texts[at]), at))[:count]
    return Golden(
        model=golden.model,
        pooling=golden.pooling,
        texts=tuple(golden.texts[at] for at in order),
        vectors=tuple(golden.vectors[at] for at in order),
    )


def cosines_of(service: RunningService, golden: Golden) -> Cosines:
    """Return how near the vectors that a service gives come to the golden ones."""
    rows: list[list[float]] = []
    for at in range(0, len(golden.texts), BATCH):
        body = {"texts": golden.texts[at : at + BATCH], "pooling": golden.pooling}
        rows += service.request("/embed", body, timeout_s=ANSWER_SECONDS)["vectors"]
    found = [cosine(*pair) for pair in zip(golden.vectors, rows, strict=True)]
    return Cosines(worst=min(found), mean=math.fsum(found) / len(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """How near the vectors of all golden texts came, and how many seconds the service took."""

    cosines: Cosines
    ready_s: float
    seconds: float


def all_golden(one: Emulator, processor: Processor, bundle: Path, precision: str) -> Proven:
    """Return how near a bundle comes to all of its golden vectors on a processor."""
    started = time.monotonic()
    with one.service(processor, bundle, "--precision", precision) as service:
        service.wait_ready(START_SECONDS)
        ready_s = time.monotonic() - started
        cosines = cosines_of(service, golden_of(bundle))
    return Proven(cosines=cosines, ready_s=ready_s, seconds=time.monotonic() - started)


def limits(project: Project, bundle: Path, precision: str) -> Cosines:
    """Return how near a model's vectors must come: by the lock in int8, the same for all else."""
    if precision == "float32":
        return Cosines(worst=MIN_COSINE, mean=MIN_COSINE)
    models = read_models(project.model_lock, read_recipe(project.recipe))
    int8 = models[read(bundle).models[0].name].int8
    assert int8 is not None
    assert int8.least is not None
    return int8.least


def lines(one: Emulator, processor: Processor, bundle: Path) -> Iterator[tuple[bool, str]]:
    """Yield what a bundle does on a processor, in words, and whether it is what it should do."""
    found = one.features(processor, bundle)
    yield found == processor.features, f"{asdict(found)}"
    if processor.level == 1:
        code, said = one.ended(processor, bundle)
        yield (code, len(said)) == (REFUSED, 1), f"exit code {code}: {'; '.join(said)}"
        return
    for precision in ("float32", *(["int8"] if processor.has_byte_products else [])):
        done = all_golden(one, processor, bundle, precision)
        least = limits(Project.here(), bundle, precision)
        text = (
            f"{precision}, ready after {done.ready_s:.1f} s, all golden texts after "
            f"{done.seconds:.1f} s, worst cosine {done.cosines.worst:.9f} (at least "
            f"{least.worst}), mean {done.cosines.mean:.9f} (at least {least.mean})"
        )
        yield done.cosines.holds(least), text


def main(arguments: Sequence[str]) -> int:
    """Print what each processor does; return 9 if one does not do what it should."""
    parser = argparse.ArgumentParser(prog="ci/emulate", description=__doc__)
    parser.add_argument("x64", type=Path)
    parser.add_argument("arm64", type=Path)
    parser.add_argument("names", nargs="*", choices=[[], *PROCESSORS], metavar="NAME")
    options = parser.parse_args(arguments)
    try:
        one = emulator(Project.here())
    except BundlerError as error:
        sys.stderr.write(error.render() + "\n")
        return error.exit_code
    bundles = {"amd64": options.x64, "arm64": options.arm64}
    failed = False
    for processor in [PROCESSORS[name] for name in options.names or PROCESSORS]:
        for is_right, text in lines(one, processor, bundles[processor.architecture]):
            sys.stdout.write(f"{processor.name}: {'' if is_right else 'FAILED: '}{text}\n")
            sys.stdout.flush()
            failed = failed or not is_right
    return 9 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
