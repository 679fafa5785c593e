from __future__ import annotations

import argparse
import hashlib
import io
import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from bundler.commands import lock
from bundler.console import Console
from bundler.errors import UsageError
from bundler.locks import runtime
from bundler.project import Project
from bundler.targets import TARGETS
from tests.support.hub import REVISION, LoopbackNetwork, TinyHub
from tests.support.tinymodel import MAX_TOKENS, WIDTH, tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RECIPE = f"""
[bundle]
epoch = 0
path_budget = 150
default_profile = "safe"
default_model = "tiny"
release_model = "tiny"
[sources]
torch = "http://127.0.0.1:9/cpu"
hub = "http://127.0.0.1:9"
[components]
heavy = []
[models]
allow = ["*.json", "vocab.txt", "model.safetensors", "[0-9]_*/config.json"]
[models.catalogue.tiny]
repository = "someone/tiny"
license = "Apache-2.0"
revision = "{REVISION}"
[models.catalogue.absent]
repository = "someone/absent"
license = "Apache-2.0"
"""
# Stands in for sentence-transformers: the same answer for every text.
MAKER = f"""
import base64, json, struct, sys
texts = json.load(sys.stdin)["texts"]
row = base64.b64encode(struct.pack("<{WIDTH}f", 1, *[0] * {WIDTH - 1})).decode()
answer = {{"vectors": [row] * len(texts), "dim": {WIDTH}, "max_tokens": {MAX_TOKENS}}}
json.dump({{**answer, "made_with": {{"torch": "0"}}}}, sys.stdout)
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    golden = tmp_path / "bundle" / "golden"
    golden.mkdir(parents=True)
    (golden / "texts.json").write_text('["one", "two"]')
    (tmp_path / "bundle" / "recipe.toml").write_text(RECIPE)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return Project(root=tmp_path)


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser("lock")
    lock.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def talk() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def run(
    project: Project,
    talk: io.StringIO,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str]]:
    maker = tmp_path / "maker.py"
    maker.write_text(MAKER)
    monkeypatch.setattr("bundler.golden.MAKER", maker)
    monkeypatch.setattr("bundler.artifacts.resolver.pip_options", lambda _: {"no-index": "1"})
    monkeypatch.setattr("bundler.artifacts.resolver.Network", LoopbackNetwork)
    for name in ("HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> tuple[int, str]:
        code = lock.run(parsed(*arguments), project, Console(talk))
        return code, capsys.readouterr().out

    return call


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, run: object) -> Iterator[TinyHub]:
    del run  # It clears the address this sets.
    with TinyHub() as server:
        server.publish("someone/tiny", tiny_model())
        monkeypatch.setenv("HF_ENDPOINT", server.root)
        yield server


def written(project: Project) -> dict[str, bytes]:
    """Return everything in the checkout but what was downloaded."""
    return {
        path.relative_to(project.root).as_posix(): path.read_bytes()
        for path in project.root.rglob("*")
        if path.is_file() and not path.is_relative_to(project.out)
    }


def test_without_a_choice_nothing_is_locked_and_the_choices_are_named(
    project: Project,
) -> None:
    with pytest.raises(UsageError, match="nothing to lock") as caught:
        lock.check(parsed(), project)
    for option in ("--runtime", "--wheels", "--clients", "--models"):
        assert option in caught.value.next_step


@pytest.mark.parametrize(
    "words",
    [
        ("--models", "tinny"),
        ("--models", "tiny", "--mirror", "hbu=http://127.0.0.1"),
        ("--wheels", "--mirror", "http://me:s3cret@127.0.0.1"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_locked_is_refused_before_anything_is_installed(
    project: Project, words: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as caught:
        lock.check(parsed(*words), project)
    assert "s3cret" not in caught.value.render()
    near = {"tinny": "--models tiny", "hbu=http://127.0.0.1": "--mirror hub"}
    assert caught.value.next_step == near.get(words[-1], "pass --mirror NAME=ADDRESS")


def test_the_runtime_is_locked_for_every_target_and_the_change_printed(
    run: Callable[..., tuple[int, str]], project: Project
) -> None:
    code, out = run("--runtime")
    assert code == 0
    assert set(runtime.read_lock(project.runtime_lock)) == set(TARGETS)
    assert sorted(line.split()[1].rstrip(":") for line in out.splitlines()) == sorted(TARGETS)
    assert all(line.endswith(", new") for line in out.splitlines())
    before = written(project)
    assert run("--runtime") == (0, "runtime unchanged\n")
    assert written(project) == before


def test_a_model_is_locked_with_its_golden_file(
    run: Callable[..., tuple[int, str]], project: Project, server: TinyHub
) -> None:
    code, out = run("--models", "tiny")
    assert code == 0
    assert out.splitlines()[0] == f"model tiny: {REVISION}, new"
    entry = tomllib.loads(project.model_lock.read_text())["model"][0]
    golden = (project.golden / "tiny.json").read_bytes()
    assert entry["golden"] == hashlib.sha256(golden).hexdigest()
    assert (entry["name"], entry["dim"], entry["max_tokens"]) == ("tiny", WIDTH, MAX_TOKENS)
    assert json.loads(golden)["texts"] == ["one", "two"]
    assert server.seen


def test_locking_again_changes_no_byte(
    run: Callable[..., tuple[int, str]], project: Project, server: TinyHub
) -> None:
    del server
    run("--models", "tiny")
    before = written(project)
    assert run("--models", "tiny")[1].splitlines()[0] == "model unchanged"
    assert written(project) == before


def test_a_mirror_goes_before_the_environment(
    run: Callable[..., tuple[int, str]], server: TinyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert run("--models", "tiny", "--mirror", f"hub={server.root}")[0] == 0


def test_the_token_comes_from_the_environment_and_is_never_shown(
    run: Callable[..., tuple[int, str]],
    project: Project,
    server: TinyHub,
    talk: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    _, out = run("--models", "tiny")
    # The hub's library also asks once a day what agents there are, without a token.
    asked = [seen for seen in server.seen if "/tiny/" in seen.path and "/lfs/" not in seen.path]
    assert {seen.authorization for seen in asked} == {"Bearer hf_secret"}
    assert "hf_secret" not in out + talk.getvalue()
    assert not [name for name, data in written(project).items() if b"hf_secret" in data]


def test_when_one_of_several_models_fails_none_is_locked(
    run: Callable[..., tuple[int, str]], project: Project, server: TinyHub
) -> None:
    before = written(project)
    with pytest.raises(UsageError, match="no repository someone/absent"):
        run("--models")
    assert any("someone/tiny" in seen.path for seen in server.seen)
    assert written(project) == before


def test_a_model_that_was_not_asked_for_keeps_its_entry(
    run: Callable[..., tuple[int, str]], project: Project, server: TinyHub
) -> None:
    run("--models", "tiny")
    tiny = tomllib.loads(project.model_lock.read_text())["model"][0]
    server.publish("someone/absent", tiny_model(seed=5), revision="e" * 40)
    _, out = run("--models", "absent")
    entries = tomllib.loads(project.model_lock.read_text())["model"]
    assert [entry["name"] for entry in entries] == ["absent", "tiny"]
    assert entries[1] == tiny
    assert out.splitlines()[0] == f"model absent: {'e' * 40}, new"


def test_a_model_nobody_knows_is_a_usage_error(run: Callable[..., tuple[int, str]]) -> None:
    with pytest.raises(UsageError, match="no model 'huge'"):
        run("--models", "huge")


def test_wheels_are_written_at_the_end_with_what_pdm_was_told(
    run: Callable[..., tuple[int, str]],
    project: Project,
    talk: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (
        '[metadata]\ncontent_hash = "x"\n[[package]]\nname = "one"\nversion = "1"\n'
        f'files = [{{file = "one-1-py3-none-any.whl", hash = "sha256:{"a" * 64}"}}]\n'
    )
    asked: list[Any] = []

    def refresh(root: Path, _: str, **options: Any) -> tuple[str, dict[str, int]]:
        asked.append((root, options["platforms"]))
        return text, {"win-x64": 1}

    monkeypatch.setattr("bundler.locking.wheel_lock.refresh", refresh)
    code, out = run("--wheels")
    assert code == 0
    assert project.wheel_lock.read_text() == text
    source = tomllib.loads((project.root / "pdm.toml").read_text())["pypi"]["pytorch"]
    assert source == {"url": "http://127.0.0.1:9/cpu/torch/", "type": "find_links"}
    assert asked[0][0] == project.root
    assert list(asked[0][1]) == list(TARGETS)
    assert "writing pdm.toml" in talk.getvalue()
    assert out.splitlines() == ["wheel one: 1, new", "target win-x64: 1 wheels"]


def test_clients_are_locked_and_the_change_printed(
    run: Callable[..., tuple[int, str]], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.clients.mkdir(parents=True)
    groups = '[dependency-groups]\nall = ["one"]\n'
    (project.clients / "pyproject.toml").write_text(groups)
    lock = project.clients / "pdm.lock"
    text = '[[package]]\nname = "one"\nversion = "1"\n'
    monkeypatch.setattr("bundler.locking.client_lock.refresh", lambda *_, **__: {lock: text})
    assert run("--clients") == (0, "client one: 1, new\n")
    assert lock.read_text() == text
    assert run("--clients") == (0, "client unchanged\n")


def test_a_pdm_configuration_that_is_there_is_used_and_kept(
    run: Callable[..., tuple[int, str]], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = '[pypi.pytorch]\nurl = "file:///mine"\ntype = "find_links"\n'
    (project.root / "pdm.toml").write_text(settings)
    before = written(project)

    def refresh(_: Path, given: str, **__: Any) -> tuple[str, dict[str, int]]:
        assert given == settings
        raise UsageError("pdm cannot lock")

    monkeypatch.setattr("bundler.locking.wheel_lock.refresh", refresh)
    with pytest.raises(UsageError, match="pdm cannot lock"):
        run("--wheels")
    assert written(project) == before


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({}, {}, ["unchanged"]),
        ({"a": "1"}, {"a": "1"}, ["unchanged"]),
        ({"a": "1", "b": "1"}, {"b": "2", "c": "1"}, ["a: 1, gone", "b: 1 -> 2", "c: 1, new"]),
    ],
)
def test_differences_are_one_line_each(
    before: dict[str, str], after: dict[str, str], lines: list[str]
) -> None:
    assert lock.differences(before, after) == lines
