"""The lean bundles on emulated processors: what they find of them, and what they make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bundler.errors import UnreachableError
from bundler.golden import MIN_COSINE
from bundler.project import Project
from sidecar.manifest import read
from tests.support.emulation import (
    PROCESSORS,
    REFUSED,
    START_SECONDS,
    Emulator,
    Processor,
    all_golden,
    cosines_of,
    emulator,
    golden_of,
    limits,
    shortest,
)
from tests.support.lacking import lack
from tests.support.tinypdf import pdf

if TYPE_CHECKING:
    from pathlib import Path

USAGE = 2
STARTING = ("Haswell", "Nehalem", "neoverse-n1")
WITHOUT_BYTE_PRODUCTS = (pytest.param("Nehalem", marks=pytest.mark.full), "cortex-a72")


@pytest.fixture(scope="module")
def emulated() -> Emulator:
    try:
        return emulator(Project.here())
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
        assert cosines_of(service, shortest(golden_of(bundle), 1)).worst >= MIN_COSINE
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
def test_int8_is_refused_where_the_processor_has_no_byte_products(
    emulated: Emulator, bundles: dict[str, Path], processor: Processor
) -> None:
    bundle = bundles[processor.architecture]
    code, said = emulated.ended(processor, bundle, "--precision", "int8")
    assert code == USAGE, said
    assert "int8" in " ".join(said)


@pytest.mark.parametrize("processor", ["Nehalem", "cortex-a72"], indirect=True)
def test_a_kernel_without_the_filter_leaves_the_limits(
    emulated: Emulator, bundles: dict[str, Path], processor: Processor
) -> None:
    # An emulator takes no filter, as some kernels do not.
    said = emulated.read_pdf(processor, bundles[processor.architecture], pdf(["a page"]))
    assert "".join(page for part in said for page in part["pages"]).split() == ["a", "page"]
    assert {part["sandbox"] for part in said} == {"rlimits"}


@pytest.mark.full
@pytest.mark.parametrize(
    ("processor", "precision"),
    [*((name, "float32") for name in STARTING), ("neoverse-n1", "int8")],
    indirect=["processor"],
)
def test_all_golden_texts_have_their_vectors(
    emulated: Emulator, bundles: dict[str, Path], processor: Processor, precision: str
) -> None:
    bundle = bundles[processor.architecture]
    least = limits(Project.here(), bundle, precision)
    assert all_golden(emulated, processor, bundle, precision).cosines.holds(least)
