"""The packed engine of a real bundle: its graph, what it imports, and its vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bundler.assembly.model_graph import graph
from bundler.inspection import tracer
from bundler.launch import RunningService, command
from bundler.smoke import exercise, parse
from bundler.targets import target_named
from sidecar.engines.packed import engine as packed
from sidecar.engines.packed.architecture import GRAPH, read, weights_file
from sidecar.engines.packed.weights import open_weights
from sidecar.manifest import read as read_manifest
from tests.support.clients import worst_cosine

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.reference import Reference

START_SECONDS = 180
SAME, HALF = 0.99999, 0.9999
# What the packed engine does without, though a bundle of the profile safe has all of it.
UNUSED = ("torch", "transformers", "sentence_transformers", "sklearn", "scipy")


def model_of(bundle: Path) -> Path:
    return bundle / read_manifest(bundle).models[0].snapshot


def test_it_serves_the_default_model_on_the_cpu(bundle: Path) -> None:
    words = command(bundle, ["--port", "0", "--device", "cpu"])
    with RunningService.start(words, environment={}) as service:
        service.wait_ready(START_SECONDS)
        info = service.request("/info")
        assert service.stop() == 0
    assert (info["engine"], info["device"], info["unpacked_because"]) == ("packed", "cpu", None)


def test_a_service_that_answers_has_opened_nothing_of_the_heavy_libraries(
    bundle: Path, tmp_path: Path
) -> None:
    record = tmp_path / "report"
    exercise(bundle, tmp_path, ["hello"], through=(tracer.__file__, str(record), str(bundle)))
    seen = parse(record.read_text(encoding="utf-8"))
    packages = target_named(read_manifest(bundle).target).site_packages
    used = {
        path.removeprefix(f"{packages}/").partition("/")[0]
        for path in seen["open"]
        if path.startswith(f"{packages}/")
    }
    assert {"onnxruntime", "tokenizers", "numpy"} <= used
    assert not used & set(UNUSED)


@pytest.mark.parametrize("profile", ["bundle", "lean"])
def test_its_graph_is_made_again_byte_for_byte_from_the_weights_alone(
    request: pytest.FixtureRequest, profile: str
) -> None:
    # No target is asked for: every target's bundle has these bytes.
    folder = model_of(request.getfixturevalue(profile))
    weights = open_weights(weights_file(folder))
    made = {graph(read(folder), weights) for _ in range(2)}
    assert made == {(folder / GRAPH).read_bytes()}


@pytest.mark.parametrize(("profile", "least"), [("bundle", SAME), ("lean", HALF)])
def test_poolings_match_sentence_transformers(
    request: pytest.FixtureRequest,
    texts: list[str],
    truth: Reference,
    profile: str,
    least: float,
) -> None:
    made = packed.load(model_of(request.getfixturevalue(profile)), device="cpu", threads=2)
    ids = [found.ids for found in made.tokenize(texts)]
    for pooling in ("mean", "cls", "max"):
        rows = made.encode(ids, pooling=pooling, normalize=False)
        worst = worst_cosine(rows, getattr(truth, pooling))
        print(f"{profile}, {pooling}: worst cosine {worst:.9f}")  # noqa: T201 - shown with -s
        assert worst >= least
