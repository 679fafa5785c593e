"""The locked runtime from its release, as a builder comes by it: fetched, cut, damaged, missing."""

from __future__ import annotations

import io
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bundler.artifacts.network import Network
from bundler.artifacts.store import Store
from bundler.assembly import host_python
from bundler.build_context import BuildContext, BuildOptions
from bundler.cli import parser
from bundler.commands import assemble
from bundler.console import Console, Progress
from bundler.errors import IntegrityError, PolicyError, UnreachableError
from bundler.locks.runtime import RuntimeSpec
from bundler.plan import HostRuntime
from bundler.recipe import PARTS
from bundler.targets import host_target
from bundler.verify import verify
from sidecar.manifest import MANIFEST, encode, read
from tests.support.badserver import BadServer, cut_at, status, wrong
from tests.support.miniature import TARGET, VERSION, Miniature
from tests.support.treesearch import holding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


pytestmark = pytest.mark.skipif(
    host_target().name != TARGET.name, reason="a stand-in is for this machine's own target"
)


class Builder:
    """A checkout with everything in its store but the runtime, which a server may have."""

    def __init__(self, root: Path, server: BadServer) -> None:
        """Make the checkout below `root`."""
        self.miniature = Miniature.make(root / "project")
        self.server = server
        self.store = Store(self.miniature.project.store)
        self.said = io.StringIO()
        for path in self.miniature.inputs.rglob("*"):
            if path.is_file() and path.name != self.spec.artifact.name:
                self.store.add_bytes(path.read_bytes())

    @property
    def spec(self) -> RuntimeSpec:
        """The runtime as it is locked."""
        return self.miniature.locks.runtimes[TARGET.name]

    @property
    def output(self) -> Path:
        """Where the bundle goes."""
        return self.miniature.project.output(TARGET.name)

    def publish(self, *script: Any, forever: Any = None) -> None:
        """Put the archive where the release has it."""
        name = self.spec.artifact.name
        data = (self.miniature.inputs / name).read_bytes()
        self.server.add(f"{self.spec.tag}/{name}", data, *script, forever=forever)

    def options(self, *arguments: str, mirror: str = "") -> Any:
        """Return the options of an assembly, from the server or another mirror."""
        mirrored = f"runtime={mirror or self.server.root}"
        given = ["assemble", "--target", TARGET.name, "--mirror", mirrored, *arguments]
        return parser().parse_args(given)

    def assemble(self, *arguments: str, mirror: str = "") -> int:
        """Assemble as the command line does."""
        options = self.options(*arguments, mirror=mirror)
        return assemble.run(options, self.miniature.project, Console(self.said))

    def stand(self) -> None:
        """Put what looks like the bundle with a stand-in where the bundle goes."""
        planned = self.inputs(mirror=closed_port()).plan()
        assert isinstance(planned.runtime, HostRuntime)
        manifest = self.miniature.assemble(self.output, models=()).manifest
        source = replace(manifest.runtime, source="host")
        manifest = replace(manifest, plan=planned.id, runtime=source)
        (self.output / MANIFEST).write_bytes(encode(manifest))
        self.said.truncate(0)

    def inputs(self, *arguments: str, mirror: str = "") -> BuildContext:
        """Return what an assembly gathers."""
        options = self.options(*arguments, mirror=mirror)
        return BuildContext.gather(
            BuildOptions.of(options), self.miniature.project, Console(self.said)
        )


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Builder]:
    quick = Network(tries=3, first_wait_s=0.0, longest_wait_s=0.1, connect_s=2.0)
    monkeypatch.setattr("bundler.artifacts.resolver.configured_network", lambda *_: quick)
    monkeypatch.setattr("bundler.artifacts.resolver.pip_options", lambda _: {})
    with BadServer() as server:
        yield Builder(tmp_path, server)


def closed_port() -> str:
    """Return an address where nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_it_is_fetched_checked_unpacked_and_stripped_of_its_past(builder: Builder) -> None:
    builder.publish()
    assert builder.assemble("--runtime", "standalone") == 0
    manifest = verify(builder.output, Progress()).manifest
    assert manifest.runtime.source == "standalone"
    assert manifest.runtime.version == VERSION
    assert manifest.unreleasable == ()
    assert builder.store.path(builder.spec.artifact.digest) is not None
    place = builder.output / "python"
    assert holding(place.rglob("*"), [b"'/install", b"/install/", b"/build/", b"/tools/"]) == []
    paths = list(builder.output.rglob("*"))
    assert [path for path in paths if path.is_symlink()] == []
    assert [path for path in paths if path.name.startswith(("pip", "idle", "Eterm"))] == []
    assert sorted(path.name for path in (place / "bin").iterdir()) == ["python3.11"]
    assert [one.path for one in builder.server.seen] == [
        f"/{builder.spec.tag}/{builder.spec.artifact.name}"
    ]


def test_one_that_cannot_compile_here_is_said_and_ours_compiles(builder: Builder) -> None:
    builder.publish()
    assert builder.assemble("--runtime", "standalone") == 0
    assert "bytecode is compiled by this builder's own CPython" in builder.said.getvalue()
    first = read(builder.output).plan
    assert builder.assemble("--runtime", "standalone") == 0
    assert read(builder.output).plan == first
    assert "nothing rebuilt" in builder.said.getvalue()


def test_auto_takes_it_where_it_can_be_had(builder: Builder) -> None:
    builder.publish()
    assert builder.assemble() == 0
    assert read(builder.output).runtime.source == "standalone"


def test_a_damaged_one_exits_4_and_is_not_kept(builder: Builder) -> None:
    builder.publish(forever=wrong)
    with pytest.raises(IntegrityError, match="is not the file that was locked") as caught:
        builder.assemble("--runtime", "standalone")
    assert caught.value.exit_code == 4
    assert builder.spec.artifact.name in caught.value.what
    assert builder.store.path(builder.spec.artifact.digest) is None
    assert not builder.output.exists()


def test_auto_does_not_hide_a_damaged_one_behind_a_stand_in(builder: Builder) -> None:
    builder.publish(forever=wrong)
    with pytest.raises(IntegrityError):
        builder.assemble()


def test_one_that_was_damaged_in_the_store_is_fetched_again(builder: Builder) -> None:
    builder.publish()
    builder.store.add_bytes((builder.miniature.inputs / builder.spec.artifact.name).read_bytes())
    entry = builder.store.path(builder.spec.artifact.digest)
    assert entry is not None
    entry.chmod(0o644)
    entry.write_bytes(b"other")
    assert builder.assemble("--runtime", "standalone") == 0
    assert verify(builder.output, Progress()).manifest.runtime.source == "standalone"


def test_a_cut_is_resumed_where_it_was_cut(builder: Builder) -> None:
    builder.publish(cut_at(1000))
    assert builder.assemble("--runtime", "standalone") == 0
    assert [one.range for one in builder.server.seen] == [None, "bytes=1000-"]
    assert read(builder.output).runtime.source == "standalone"


def test_out_of_reach_exits_5_and_names_it_before_anything_is_made(builder: Builder) -> None:
    for mirror in (closed_port(), builder.server.root):
        with pytest.raises(UnreachableError, match="is out of reach") as caught:
            builder.assemble("--runtime", "standalone", mirror=mirror)
        assert caught.value.exit_code == 5
        assert builder.spec.artifact.name in caught.value.what
    assert not builder.output.exists()


def test_offline_it_is_named_as_missing(builder: Builder) -> None:
    builder.publish()
    with pytest.raises(UnreachableError, match="not in the store: cpython"):
        builder.assemble("--runtime", "standalone", "--offline")
    assert builder.server.seen == []


def test_out_of_reach_auto_plans_a_stand_in_and_says_so(builder: Builder) -> None:
    planned = builder.inputs(mirror=closed_port()).plan()
    assert isinstance(planned.runtime, HostRuntime)
    assert planned.unreleasable
    said = builder.said.getvalue()
    assert "NOTICE: the bundle gets a copy of this machine's CPython" in said
    assert "is out of reach" in said


def test_auto_is_as_patient_as_every_download_once_connected(builder: Builder) -> None:
    # The first request asks whether it can be had at all.
    builder.publish(status(503), cut_at(1000), status(403))
    assert isinstance(builder.inputs().plan().runtime, RuntimeSpec)
    assert [one.range for one in builder.server.seen] == [None, None, "bytes=1000-", None]
    assert "NOTICE: the bundle" not in builder.said.getvalue()


@pytest.mark.parametrize(("code", "requests"), [(404, 2), (403, 2), (503, 4)])
def test_auto_says_which_status_made_it_take_a_stand_in(
    builder: Builder, code: int, requests: int
) -> None:
    builder.publish(forever=status(code))
    assert isinstance(builder.inputs().plan().runtime, HostRuntime)
    said = builder.said.getvalue()
    assert builder.spec.artifact.name in said
    assert f"HTTP {code}" in said
    assert "Each run tries the locked one again" in said
    assert len(builder.server.seen) == requests


def test_a_stand_in_is_told_at_each_run_while_nothing_answers(builder: Builder) -> None:
    builder.stand()
    for _ in range(2):
        builder.said.truncate(0)
        assert isinstance(builder.inputs(mirror=closed_port()).plan().runtime, HostRuntime)
        said = builder.said.getvalue()
        assert "NOTICE: the bundle gets a copy of this machine's CPython" in said
        assert "is out of reach (http" in said
        assert "no connection" in said


def test_a_bundle_with_a_stand_in_waits_for_no_server_that_refuses(builder: Builder) -> None:
    builder.stand()
    builder.publish(forever=status(503, Retry_After="60"))
    assert isinstance(builder.inputs().plan().runtime, HostRuntime)
    assert len(builder.server.seen) == 1
    assert "HTTP 503" in builder.said.getvalue()


def test_a_bundle_with_a_stand_in_gets_the_locked_one_once_it_can_be_had(builder: Builder) -> None:
    builder.stand()
    builder.publish()
    assert builder.assemble() == 0
    assert f"CPython {VERSION} can be downloaded now" in builder.said.getvalue()
    manifest = read(builder.output)
    assert manifest.runtime.source == "standalone"
    assert manifest.unreleasable == ()


def test_offline_nothing_is_asked_and_the_stand_in_is_told(builder: Builder) -> None:
    builder.stand()
    builder.publish()
    assert isinstance(builder.inputs("--offline").plan().runtime, HostRuntime)
    assert builder.server.seen == []
    assert "this run is offline" in builder.said.getvalue()


def test_without_a_stand_in_the_download_s_own_failure_is_told(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unusable() -> HostRuntime:
        raise host_python.unsuitable("there is no ldconfig, so this is not a glibc system")

    monkeypatch.setattr("bundler.assembly.host_python.probe", unusable)
    builder.publish(forever=status(404))
    with pytest.raises(UnreachableError, match=r"^cpython-.* is out of reach") as caught:
        builder.assemble()
    assert "HTTP 404" in caught.value.why
    assert "no ldconfig" in caught.value.why
    assert "mirrors" in caught.value.next_step


def test_where_no_stand_in_will_do_nothing_is_asked_beforehand(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BuildContext, "_may_stand_in", False)
    builder.publish(status(503), cut_at(1000))
    assert isinstance(builder.inputs().plan().runtime, RuntimeSpec)
    assert [one.range for one in builder.server.seen] == [None, None, "bytes=1000-"]


def test_a_download_that_may_be_missing_is_given_up_without_a_connection(builder: Builder) -> None:
    builder.publish(status(503))
    resolver = builder.inputs(mirror=closed_port()).resolver
    with pytest.raises(UnreachableError, match="is out of reach") as caught:
        resolver.require_connection(resolver.runtime(builder.spec))
    assert "no connection" in caught.value.why
    resolver = builder.inputs().resolver
    resolver.require_connection(resolver.runtime(builder.spec))
    assert len(builder.server.seen) == 1
    builder.store.add_bytes((builder.miniature.inputs / builder.spec.artifact.name).read_bytes())
    resolver.require_connection(resolver.runtime(builder.spec))
    assert len(builder.server.seen) == 1


def test_a_mirror_never_gets_the_token_of_github(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "t0ken")
    builder.publish()
    builder.inputs().plan()
    assert [one.authorization for one in builder.server.seen] == [None, None]
    (source,) = builder.inputs().resolver.runtime(builder.spec).sources
    assert "t0ken" not in repr(source)


def test_a_release_refuses_a_stand_in_with_exit_7(builder: Builder) -> None:
    with pytest.raises(PolicyError, match="a release needs the locked CPython") as caught:
        builder.assemble("--release", mirror=closed_port())
    assert caught.value.exit_code == 7
    with pytest.raises(PolicyError):
        builder.assemble("--release", "--runtime", "host")
    assert not builder.output.exists()


@pytest.mark.parametrize("left_out", PARTS)
def test_a_release_refuses_a_part_left_out_with_exit_7(builder: Builder, left_out: str) -> None:
    builder.publish()
    parts = ",".join(part for part in PARTS if part != left_out)
    with pytest.raises(PolicyError, match="not for release") as caught:
        builder.assemble("--release", "--runtime", "standalone", "--only", parts)
    assert caught.value.exit_code == 7
    assert f"parts were left out: {left_out}" in caught.value.why
    assert not builder.output.exists()


def test_a_release_of_all_parts_with_the_locked_runtime_is_made(builder: Builder) -> None:
    builder.publish()
    assert builder.assemble("--release", "--runtime", "standalone") == 0
    manifest = read(builder.output)
    assert manifest.unreleasable == ()
    assert "not for release" not in builder.said.getvalue()
