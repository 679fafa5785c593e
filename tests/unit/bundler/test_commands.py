from __future__ import annotations

import io
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from bundler import checks
from bundler.artifacts.store import Store
from bundler.cli import parser
from bundler.commands import assemble, fetch, plan, smoke, test, up, verify
from bundler.console import Console
from bundler.errors import (
    AddressInUseError,
    SmokeError,
    UnreachableError,
    UsageError,
    VerificationError,
)
from tests.support.miniature import Miniature

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

LINUX = ("--target", "linux-x64", "--offline", "--runtime", "standalone")


@pytest.fixture
def miniature(tmp_path: Path) -> Miniature:
    """Return a checkout whose store holds everything that its locks name."""
    miniature = Miniature.make(tmp_path / "project")
    store = Store(miniature.project.store)
    for path in miniature.inputs.rglob("*"):
        if path.is_file():
            store.add_bytes(path.read_bytes())
    return miniature


def run(command: ModuleType, miniature: Miniature, *arguments: str) -> tuple[int, str]:
    """Run a command as the command line would; return its code and what it said."""
    name = command.__name__.rpartition(".")[2]
    stream = io.StringIO()
    options = parser().parse_args([name, *arguments])
    code: int = command.run(options, miniature.project, Console(stream))
    return code, stream.getvalue()


def test_plan_shows_what_would_be_assembled(
    miniature: Miniature, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(plan, miniature, *LINUX)[0] == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["target"] == "linux-x64"
    assert rows["runtime"] == "CPython 3.11.9, standalone"
    assert rows["model"] == "tiny = example/tiny"
    assert rows["wheels"] == "2"


def test_a_plan_as_json_is_its_document_and_the_same_every_time(
    miniature: Miniature, capsys: pytest.CaptureFixture[str]
) -> None:
    run(plan, miniature, *LINUX, "--json")
    first = capsys.readouterr().out
    run(plan, miniature, *LINUX, "--json")
    assert capsys.readouterr().out == first
    document = json.loads(first)
    assert len(document["id"]) == 64
    assert document["target"] == "linux-x64"


def test_source_date_epoch_decides_the_date(
    miniature: Miniature, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "12345")
    run(plan, miniature, *LINUX, "--json")
    assert json.loads(capsys.readouterr().out)["epoch"] == 12345


def test_assemble_prints_the_place_alone_on_stdout(
    miniature: Miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "made" / "bundle"
    code, said = run(assemble, miniature, *LINUX, "--output", str(place))
    assert code == 0
    assert capsys.readouterr().out == f"{place}\n"
    assert "python, heavy, packages, models, service rebuilt" in said
    code, said = run(assemble, miniature, *LINUX, "--output", str(place))
    assert "nothing rebuilt" in said
    code, said = run(verify, miniature, str(place))
    assert code == 0
    assert "verified: " in said
    (place / "NOTICES.txt").unlink()
    with pytest.raises(VerificationError, match="differs from its manifest"):
        run(verify, miniature, str(place))


def test_parts_left_out_are_told_as_not_for_release(miniature: Miniature, tmp_path: Path) -> None:
    place = str(tmp_path / "bundle")
    _, said = run(assemble, miniature, *LINUX, "--output", place, "--only", "service")
    assert "not for release: parts were left out: runtime, wheels, models" in said
    assert "not for release" in run(verify, miniature, place)[1]
    with pytest.raises(SmokeError, match="no model in this bundle"):
        run(smoke, miniature, place)


def test_fetch_lays_the_wheels_out_by_their_names(miniature: Miniature, tmp_path: Path) -> None:
    links = tmp_path / "links"
    code, said = run(fetch, miniature, *LINUX, "--links", str(links))
    assert code == 0
    assert sorted(path.name for path in links.iterdir()) == [
        "feather-1.0-py3-none-any.whl",
        "heavy_weight-2.0-cp311-cp311-manylinux_2_17_x86_64.whl",
    ]
    assert "every hash checked" in said
    assert run(fetch, miniature, *LINUX, "--links", str(links))[0] == 0


def test_offline_names_what_the_store_lacks(miniature: Miniature, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=r"not in the store: .*feather") as caught:
        run(fetch, miniature, *LINUX, "--store", str(tmp_path / "empty"))
    assert caught.value.exit_code == 5


def test_up_notices_a_taken_port_before_it_assembles(miniature: Miniature) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        options = parser().parse_args(["up", "--port", str(listener.getsockname()[1])])
        with pytest.raises(AddressInUseError):
            up.check(options, miniature.project)


@pytest.mark.parametrize("full", [(), ("--full",), ("--full", "all")])
def test_a_limit_of_time_for_tests_needs_those_that_changed(
    miniature: Miniature, full: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, match="needs --full changed"):
        run(test, miniature, *full, "--begin-within", "5")


def test_full_size_tests_are_begun_within_the_time_given(
    miniature: Miniature, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def record(_suite: checks.Suite, **given: Any) -> int:
        asked.append(given)
        return 0

    monkeypatch.setattr(checks.Suite, "run", record)
    run(test, miniature, "--full", "changed", "--begin-within", "5")
    run(test, miniature)
    assert asked == [
        {"full": True, "changed": True, "within_min": 5.0},
        {"full": False, "changed": False, "within_min": None},
    ]
