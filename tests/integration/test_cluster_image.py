"""The image of the profile cluster as a node of Ray, on its own tree: no engine is needed."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from bundler.artifacts.store import Store
from bundler.console import Progress
from bundler.images.image import USER, compose
from bundler.images.layers import Layers
from bundler.recipe import epoch_for, read_recipe
from tests.integration.conftest import ARCHITECTURES, PROJECT, base_for
from tests.smoke.conftest import assembled
from tests.support import chroot

pytestmark = pytest.mark.full

TIMEOUT_S = 150
TOKEN = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of this test alone
JOB = """
import ray
ray.init("auto")
@ray.remote
def version():
    import pyarrow
    return pyarrow.__version__
print("the worker has pyarrow", ray.get(version.remote()))
"""
# As KubeRay starts a head, asks after it, submits a job: by bash, by wget and by `ray`.
NODE = """
ray start --head --num-cpus=2 --memory=2000000000 --object-store-memory=100000000 \
    --dashboard-agent-listen-port=52365
ask() { wget --tries 1 -T 10 -q -O- "http://localhost:$1" | grep success; }
SECONDS=0
until ask 52365/api/local_raylet_healthz && ask 8265/api/gcs_healthz; do
    if ((SECONDS > 60)); then exit 1; fi
    sleep 1
done
printf '%s' "$1" >/tmp/job.py
ray job submit --address http://localhost:8265 -- python3.11 -I -B /tmp/job.py
echo "the job ended with $?"
RAY_AUTH_TOKEN=another ray job submit --address http://localhost:8265 -- true
echo "the stranger ended with $?"
mkdir /tmp/in && echo '{"text": "the tide tables"}' >/tmp/in/texts.jsonl
shift
ray job submit --address http://localhost:8265 -- \
    "$@" embed /tmp/in/texts.jsonl --output /tmp/out --ray auto
echo "embedding ended with $?"
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    """Return the tree of the image, and what it says of how it is started."""
    if why := chroot.obstacle():
        pytest.skip(why)
    base = base_for(ARCHITECTURES[platform.machine()], has_shell=True)
    epoch = epoch_for(read_recipe(PROJECT.recipe))
    with Layers(Store(PROJECT.store), Progress()) as layers:
        made = compose(assembled("--profile", "cluster"), layers, base=base, epoch=epoch)
    root = tmp_path_factory.mktemp("node")
    for layer in made.layers:
        with tarfile.open(layer.path, "r:gz") as tar:
            tar.extractall(root, filter="fully_trusted")  # noqa: S202 - what we wrote
    chroot.add_devices(root)
    (root / "dev" / "shm").mkdir()
    # As engines give it to every container.
    (root / "etc" / "hosts").write_text("127.0.0.1 localhost\n", encoding="ascii")
    return root, json.loads(made.config.data)["config"]


def test_image_is_a_node_of_ray_that_takes_jobs_from_those_with_the_token(
    image: tuple[Path, dict[str, list[str]]],
) -> None:
    root, started = image
    environment = [*started["Env"], "RAY_AUTH_MODE=token", f"RAY_AUTH_TOKEN={TOKEN}"]
    command = ["/usr/bin/env", *environment, "/bin/bash", "-c", NODE, "node", JOB]
    uid = int(USER.partition(":")[0])
    done = subprocess.run(
        chroot.inside(
            Path(sys.executable),
            root,
            [*command, *started["Entrypoint"]],
            uid=uid,
            memory=("tmp", "dev/shm"),
        ),
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=TIMEOUT_S,
    )
    assert "the worker has pyarrow " in done.stdout, done.stdout
    assert "the job ended with 0\n" in done.stdout, done.stdout
    assert "Invalid authentication token" in done.stdout, done.stdout
    assert "the stranger ended with 0\n" not in done.stdout
    assert "embedding ended with 0\n" in done.stdout, done.stdout
