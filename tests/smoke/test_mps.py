"""The profile mps, whose target cannot be run here: a twin of it for Linux, on the CPU.

The twin has the same packages less the same files. torch runs the packed engine in it, with none of
what torch's metadata asks for.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.build_context import BuildContext, BuildOptions
from bundler.console import Console
from bundler.launch import command
from bundler.project import Project
from bundler.targets import host_target
from sidecar.manifest import read
from sidecar.models.golden import MIN_COSINE

pytestmark = pytest.mark.full
ROOT = Path(__file__).parents[2]
START_SECONDS = 60
ABSENT = (
    *("sentence_transformers", "transformers", "scipy", "sklearn", "sympy", "mpmath", "networkx"),
    *("jinja2", "setuptools", "filelock", "fsspec", "safetensors", "huggingface_hub", "tqdm"),
)
# Prints what the packages are not, and the worst cosines by torch, together and alone.
RUN = """
import importlib.util, json, sys
from pathlib import Path
snapshot, vectors, absent = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
from sidecar.engines.packed import tokens
from sidecar.engines.packed.architecture import read, weights_file
from sidecar.engines.packed.engine import PackedEngine
from sidecar.engines.packed.torch_executor import open_tensors
from sidecar.engines.packed.weights import open_weights
from sidecar.models import golden
made = read(snapshot)
executor = open_tensors(open_weights(weights_file(snapshot)), architecture=made, device="cpu")
engine = PackedEngine(made, tokens.load(snapshot, max_tokens=made.max_tokens), executor)
held = golden.read(vectors)
worst = [golden.cosines(held, engine).min()]
worst += [golden.cosines(held.part([at]), engine).min() for at in range(len(held.texts))]
for pooling in ("cls", "max"):
    engine.encode([[5, 6, 7]], pooling=pooling, normalize=False)
engine.trim()
found = [name for name in absent if importlib.util.find_spec(name)]
print(json.dumps({"found": found, "worst": min(worst)}))
"""


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle for this machine with what the profile mps has."""
    here = host_target()
    if here.name != "linux-x64":
        pytest.skip("torch is not locked for this machine in the same way")
    output = tmp_path_factory.mktemp("mps") / "bundle"
    context = BuildContext.gather(
        BuildOptions(profile="mps", output=output), Project.here(), Console(sys.stderr)
    )
    sections = copy.deepcopy(dict(context.recipe.sections))
    sections["diet"]["contents"]["mps"]["targets"] = [here.name]
    recipe = dataclasses.replace(context.recipe, sections=sections)
    dataclasses.replace(context, recipe=recipe).assemble()
    return output


def test_torch_gives_the_models_vectors_without_what_it_asks_for(twin: Path) -> None:
    manifest = read(twin)
    model = manifest.models[0]
    assert model.golden is not None
    start = f"import sys; sys.path.insert(0, {str(twin / 'embedding_sidecar')!r})\n"
    done = subprocess.run(
        [
            *(twin / manifest.runtime.executable, "-I", "-B", "-c", start + RUN),
            *(twin / model.snapshot, twin / model.golden, *ABSENT),
        ],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={},
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["found"] == []
    assert answer["worst"] >= MIN_COSINE


def test_the_command_smoke_finds_it_whole(twin: Path) -> None:
    done = subprocess.run(
        [sys.executable, "build", "smoke", str(twin)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "removed by the profile mps" in done.stderr


@pytest.mark.parametrize("device", ["mps", "cuda"])
def test_torch_says_that_a_device_is_not_there(twin: Path, device: str) -> None:
    done = subprocess.run(
        command(twin, ["--port", "0", "--device", device]),
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={},
        timeout=START_SECONDS,
    )
    assert done.returncode == 2, done.stderr
    assert f"this machine has no {device} device" in done.stderr
