"""The image in a real engine: it serves, as nobody, without a network, and stops when asked."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.manifest import read
from sidecar.models.golden import MIN_COSINE
from sidecar.models.golden import read as read_golden
from tests.integration.conftest import ALLOWED, Loaded, started
from tests.support.containers import PORT, ask_inside, evidence, run_inside, wait_ready

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXTS = 16
STATUS = "print(open('/proc/1/status').read())"
SENT = """
for line in open("/proc/net/dev").read().splitlines()[2:]:
    name, _, numbers = line.partition(":")
    print(name.strip(), numbers.split()[9])
"""
# Where a program may hope to write: the root, the current folder, and these below the root.
WRITE = """
import tempfile
from pathlib import Path
names = "tmp var/tmp usr/tmp opt/sidecar home root".split()
for folder in (Path("/"), Path(), *(Path("/", name) for name in names)):
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        continue
    print(folder)
"""
KILLED = 137


@pytest.fixture(scope="module")
def quiet(engine: Any, loaded: Loaded) -> Iterator[Any]:
    """Return a container with a network that nobody calls it through."""
    container = started(engine, loaded.name)
    try:
        yield container
    finally:
        container.remove(force=True)


def ask(served: Any, path: str, body: object = None, *, host: str = "127.0.0.1") -> Any:
    address = f"http://{served.get_container_host_ip()}:{served.get_exposed_port(PORT)}{path}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        address, data=data, headers={"Content-Type": "application/json", "Host": host}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=120) as answer:
        return json.loads(answer.read())


def compare_with_golden(bundle: Path, embed: Any) -> None:
    model = read(bundle).models[0]
    golden = read_golden(bundle / str(model.golden))
    vectors = [
        row
        for at in range(0, len(golden.texts), TEXTS)
        for row in embed({"texts": golden.texts[at : at + TEXTS]})["vectors"]
    ]
    assert golden.cosines(vectors).min() >= MIN_COSINE


def test_it_serves_what_the_bundle_says(served: Any, bundle: Path) -> None:
    manifest = read(bundle)
    health = ask(served, "/health")
    assert health["status"] == "ok"
    assert health["version"] == manifest.version
    assert health["dim"] == manifest.models[0].dim


def test_its_vectors_are_the_golden_ones(served: Any, bundle: Path) -> None:
    compare_with_golden(bundle, lambda body: ask(served, "/embed", body))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "localhost:9000", "127.0.0.1:9000"])
def test_it_answers_to_the_names_a_published_port_has_on_its_host(served: Any, host: str) -> None:
    assert ask(served, "/health", host=host)["status"] == "ok"


def test_it_reads_files_of_a_mounted_folder_and_of_no_other(served: Any, documents: Path) -> None:
    answer = ask(served, "/embed-file", {"path": f"{ALLOWED}/two.md"})
    assert len(answer["chunks"]) == len(answer["vectors"]) > 1
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(served, "/embed-file", {"path": "/opt/sidecar/NOTICES.txt"})
    assert caught.value.code in {403, 404}
    caught.value.close()
    assert [path.name for path in documents.iterdir()] == ["two.md"]


def test_it_runs_as_nobody_with_no_right_and_can_gain_none(served: Any) -> None:
    text = run_inside(served.get_wrapped_container(), STATUS)
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["65532"] * 4
    assert status["Gid"].split() == ["65532"] * 4
    assert status["CapEff"] == status["CapBnd"] == "0" * 16
    assert status["NoNewPrivs"] == "1"


def test_it_serves_where_nothing_can_be_written(served: Any) -> None:
    container = served.get_wrapped_container()
    container.reload()
    assert container.attrs["HostConfig"]["ReadonlyRootfs"] is True
    assert not container.attrs["HostConfig"].get("Tmpfs")
    assert run_inside(container, WRITE) == ""
    assert len(ask(served, "/embed", {"texts": ["one", "two"]})["vectors"]) == 2


def test_docker_finds_it_healthy_by_asking_its_own_interpreter(
    engine: Any, served: Any, loaded: Loaded
) -> None:
    check = engine.api.inspect_image(loaded.name)["Config"]["Healthcheck"]["Test"]
    assert check[0] == "CMD"
    done = served.get_wrapped_container().exec_run(check[1:])
    assert (done.exit_code, done.output) == (0, b"")


def test_two_serve_at_once_and_one_of_them_without_any_network(
    served: Any, isolated: Any, bundle: Path
) -> None:
    wait_ready(isolated)
    names = run_inside(isolated, SENT).split()[::2]
    assert names == ["lo"]
    compare_with_golden(bundle, lambda body: ask_inside(isolated, "/embed", body)[1])
    one, other = ask(served, "/health"), ask_inside(isolated, "/health")[1]
    assert one["instance"] != other["instance"]


def test_with_a_network_it_sends_nothing(quiet: Any, bundle: Path) -> None:
    wait_ready(quiet)
    compare_with_golden(bundle, lambda body: ask_inside(quiet, "/embed", body)[1])
    fields = run_inside(quiet, SENT).split()
    sent = dict(zip(fields[::2], map(int, fields[1::2]), strict=True))
    assert sent.pop("lo") > 0
    assert sent
    assert sent == dict.fromkeys(sent, 0)


def test_it_lives_within_its_memory_and_says_nothing_of_its_host(quiet: Any) -> None:
    wait_ready(quiet)
    quiet.reload()
    assert quiet.attrs["State"]["OOMKilled"] is False
    assert quiet.attrs["HostConfig"]["Memory"] == 1536 << 20


def test_with_too_little_memory_it_ends_with_11_and_both_numbers(
    engine: Any, loaded: Loaded
) -> None:
    container = started(engine, loaded.name, mem_limit="96m", memswap_limit="96m")
    try:
        code = container.wait(timeout=60)["StatusCode"]
        last = json.loads(container.logs(stdout=False).splitlines()[-1])
        assert (code, last["exit_code"]) == (11, 11), evidence(container, "ended")
        assert last["needed_bytes"] > last["available_bytes"] > 0
        assert last["limit_bytes"] == 96 << 20
    finally:
        container.remove(force=True)


def test_asked_to_stop_it_ends_with_0_and_it_starts_again(quiet: Any) -> None:
    wait_ready(quiet)
    first = ask_inside(quiet, "/health")[1]["instance"]
    quiet.stop(timeout=20)
    code = quiet.wait()["StatusCode"]
    assert code != KILLED, evidence(quiet, "it did not heed SIGTERM")
    assert code == 0, evidence(quiet, "stopped")
    quiet.restart()
    wait_ready(quiet)
    assert ask_inside(quiet, "/health")[1]["instance"] != first
