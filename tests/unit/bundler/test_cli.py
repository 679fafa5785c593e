from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bundler import cli, environment
from bundler.bootstrap import interpreters, platforms, standalone
from bundler.cli import COMMANDS, main, parser
from bundler.errors import (
    BundlerError,
    IntegrityError,
    UnreachableError,
    UnsupportedError,
    UsageError,
)
from bundler.project import Project
from bundler.targets import host_target
from tests.support.lacking import OTHERS, TOO_OLD, other_python

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
BUILD = ROOT / "build"
NAMES = [command.name for command in COMMANDS]
THIRD_PARTY = """
import runpy, sys
sys.argv = ["build", *sys.argv[1:]]
try:
    runpy.run_path("build", run_name="__main__")
except SystemExit as ended:
    code = ended.code
paths = [getattr(module, "__file__", None) or "" for module in sys.modules.values()]
foreign = [path for path in paths if "site-packages" in path or "dist-packages" in path]
print(*foreign, file=sys.stderr)
sys.exit(99 if foreign else code)
"""


def bare(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the builder in a Python that has no packages."""
    start = ["-c", code] if code else ["build"]
    return subprocess.run(
        [sys.executable, "-I", "-S", "-B", *start, *arguments],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.parametrize("name", NAMES)
def test_help_of_each_command_needs_nothing_but_the_standard_library(name: str) -> None:
    done = bare(name, "--help", code=THIRD_PARTY)
    assert done.returncode == 0, done.stderr
    assert f"python3 build {name}" in done.stdout


def test_check_needs_no_torch_and_test_does() -> None:
    groups = {command.name: command.groups for command in COMMANDS}
    assert "reference" in groups["test"]
    assert set(groups["check"]) == set(groups["test"]) - {"reference"}


@pytest.mark.parametrize(
    ("arguments", "needs_reference"),
    [
        (["--wheels"], False),
        (["--runtime"], False),
        (["--models"], True),
        (["--models", "a"], True),
    ],
)
def test_a_stale_lock_of_wheels_can_be_made_anew_without_a_plan(
    arguments: list[str], needs_reference: bool
) -> None:
    command = next(entry for entry in COMMANDS if entry.name == "lock")
    options = parser().parse_args(["lock", *arguments])
    assert ("reference" in command.groups_for(options)) is needs_reference


@pytest.mark.parametrize("word", ["--port=--", "--target=--"])
def test_an_option_that_is_given_two_dashes_is_refused(word: str) -> None:
    command = {"--port=--": "up", "--target=--": "plan"}[word]
    with pytest.raises(UsageError, match="expected one argument"):
        parser().parse_args([command, word])
    assert parser().parse_args(["up", "--", word]).service == [word]


def test_help_lists_every_command_with_what_it_does() -> None:
    done = bare("--help")
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command.name in done.stdout
    assert bare().stdout == done.stdout


@pytest.mark.parametrize("arguments", [("nonsense",), ("plan", "--nonsense"), ("verify",)])
def test_a_command_line_that_makes_no_sense_exits_2_without_an_environment(
    arguments: tuple[str, ...],
) -> None:
    done = bare(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "--help" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments", [("plan", "--miror=torch=https://me:s3cret@x"), ("plan", "--miror", "s3cret")]
)
def test_no_value_of_a_mistyped_option_is_repeated(arguments: tuple[str, ...]) -> None:
    done = bare(*arguments)
    assert done.returncode == 2
    assert "--miror" in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ("asemble", "there is no command 'asemble'; did you mean assemble?"),
        ("Verify x", "there is no command 'Verify'; did you mean verify?"),
        ("up --prot 1", "unrecognized arguments: --prot; did you mean --port?"),
        ("plan --miror=torch=s3cret", "--miror; did you mean --mirror?"),
        ("plan --tar x", "--tar; did you mean --target?"),
        ("size --store_x", "unrecognized arguments: --store_x; did you mean --store?"),
        ("lock --model x", "--model; did you mean --models?"),
        ("plan --runtime hots", "; did you mean host?"),
    ],
)
def test_what_is_mistyped_leads_to_what_was_meant_and_to_its_own_help(
    arguments: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = arguments.split()
    assert main(words) == 2
    said = capsys.readouterr().err
    assert meant in said
    own = f"{words[0]} " if words[0] in NAMES else ""
    assert f"next: python3 build {own}--help\n" in said


@pytest.mark.parametrize("words", [["--tokne", "s3cret", "up"], ["--x=s3cret", "up"]], ids=str)
def test_a_value_before_the_command_is_not_taken_for_it_nor_repeated(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert words[0].partition("=")[0] in said
    assert "s3cret" not in said


def test_no_option_has_an_abbreviation_that_could_change_its_meaning() -> None:
    with pytest.raises(UsageError, match="did you mean --offline"):
        parser().parse_args(["plan", "--off"])


# Wrong in a checkout that has no environment and no bundle, and the exit code of each.
WRONG = {
    "up --port 70000": 2,
    "up --port nonsense": 2,
    "up --target OTHER": 2,
    "up --only models": 2,
    "up --model nope": 2,
    "up --model multilingual-mpnet": 10,
    "up --output bundle/recipe.toml": 2,
    "up -- --alow-dir folder": 2,
    "up -- --allow-dir bundle/recipe.toml": 2,
    "plan --target linux-x86": 10,
    "plan --target=": 10,
    "plan --profile leen": 2,
    "plan --profile=": 2,
    "plan --mirror hub": 2,
    "plan --mirror huub=http://127.0.0.1": 2,
    "plan --only wheels,modles": 2,
    "plan --only=": 2,
    "fetch --store bundle/recipe.toml": 2,
    "fetch --links bundle/recipe.toml": 2,
    "assemble --output bundle": 2,
    "assemble --runtime hots": 2,
    "assemble --release --runtime host": 7,
    "assemble --release --only models,service": 7,
    "assemble --runtime host --target OTHER": 2,
    "verify bundle": 2,
    "verify bundle/recipe.toml": 2,
    "smoke nothing": 2,
    "archive bundle": 2,
    "image": 2,
    "image bundle": 2,
    "image --target win-x64": 10,
    "image --tag No": 2,
    "image --profile leen": 2,
    "electron": 2,
    "electron --output here": 2,
    "electron --output here --bundle bundle": 2,
    "electron --output here --app nothing": 2,
    "electron --output here --target win-x65": 10,
    "release --target win-x65": 10,
    "release --model nope": 2,
    "release --profile leen": 2,
    "release --split-mb 0": 2,
    "release --version-tag v9": 2,
    "release --output bundle": 2,
    "size": 2,
    "size bundle": 2,
    "bench": 2,
    "bench --bundle bundle": 2,
    "bench --checkout --bundle bundle": 2,
    "bench --checkout --threads 0": 2,
    "bench --checkout --snapshot nothing": 2,
    "bench --checkout --replay nothing": 2,
    "bench --checkout --peer nothing": 2,
    "bench --checkout --peer-model ollama=nothing": 2,
    "bench --checkout --peer-model ollama": 2,
    "bench --checkout --threads -1": 2,
    "bench --checkout --synthetic nothing": 2,
    "bench --checkout --against nothing": 2,
    "bench --checkout --clients 0": 2,
    "why file": 2,
    "diff bundle bundle": 2,
    "update-size bundle bundle": 2,
    "scan": 2,
    "scan --address nowhere": 2,
    "lock": 2,
    "lock --models nope": 2,
    "lock --runtime --mirror nope=http://127.0.0.1": 2,
}
ALL_WRONG = """
import contextlib, io, json, os, sys
from pathlib import Path
sys.path[:0] = ["build", "service"]
from bundler import cli, environment
from bundler.project import Project
fresh = Path(sys.argv[1])
Project.here = lambda: Project(root=fresh)
os.chdir(fresh)
os.environ.pop("SOURCE_DATE_EPOCH", None)

def begun(*_):
    raise AssertionError("the environment was asked for")

environment.ensure = begun
for line in json.loads(sys.argv[2]):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = cli.main(line.split())
    print(json.dumps([line, code, said.getvalue()]))
os.environ["SOURCE_DATE_EPOCH"] = "yesterday"
for name in ("plan", "release"):
    assert cli.main([name]) == 2
paths = [getattr(module, "__file__", None) or "" for module in sys.modules.values()]
assert not [path for path in paths if "site-packages" in path or "dist-packages" in path]
"""


def test_what_is_wrong_is_refused_before_anything_is_installed_or_fetched(tmp_path: Path) -> None:
    for name in ("recipe.toml", "models.lock.toml"):
        (tmp_path / "bundle").mkdir(exist_ok=True)
        shutil.copyfile(ROOT / "bundle" / name, tmp_path / "bundle" / name)
    (tmp_path / "service").symlink_to(ROOT / "service")
    other = "mac-arm64" if host_target().name != "mac-arm64" else "linux-x64"
    wrong = {line.replace("OTHER", other): code for line, code in WRONG.items()}
    done = bare(str(tmp_path), json.dumps(list(wrong)), code=ALL_WRONG)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line: code for line, code, _ in told} == wrong
    for line, _, said in told:
        assert said.startswith("error: "), line
        assert "  next: " in said, line
        # Nothing but the error was said.
        assert len(said.splitlines()) <= 3, line
    assert not (tmp_path / "bundle" / "out").exists()


def run_by(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-B", str(BUILD), *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


@pytest.mark.parametrize("version", TOO_OLD)
def test_a_python_below_3_9_is_refused_with_exit_2(version: str) -> None:
    done = run_by(other_python(version), "plan", "--json")
    assert done.returncode == 2
    assert "starts with Python 3.9 or newer" in done.stderr
    assert done.stderr.count("\n") == 3
    assert done.stdout == ""


def test_an_older_version_is_refused_before_anything_is_imported() -> None:
    code = "import sys, runpy; sys.version_info = (3, 8, 0); runpy.run_path('build')"
    done = bare(code=code)
    assert done.returncode == 2
    assert "this is Python 3.8" in done.stderr


@pytest.mark.parametrize("version", OTHERS)
def test_any_other_python_helps_and_refuses_by_itself(version: str) -> None:
    python = other_python(version)
    helped = run_by(python, "up", "--help")
    assert helped.returncode == 0, helped.stderr
    assert "python3 build up" in helped.stdout
    refused = run_by(python, "plan", "--nonsense")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")


def test_what_pythonpath_leads_to_is_not_imported(tmp_path: Path) -> None:
    for name in ("bundler", "argparse", "json"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-B", "build", "plan", "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Return what runs a command that ends in an error."""

    def fail(error: BaseException) -> int:
        def inner(*_: object) -> int:
            raise error

        monkeypatch.setattr(cli, "main_inner", inner)
        return main(["plan"])

    return fail


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (IntegrityError("x"), 4),
        (UnreachableError("x"), 5),
        (BundlerError("x"), 1),
        (OSError(errno.ENOSPC, "full"), 6),
        (OSError(errno.EDQUOT, "quota"), 6),
        (PermissionError(errno.EACCES, "no"), 6),
        (OSError(errno.EROFS, "read-only"), 6),
        (OSError(errno.EIO, "broken"), 1),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError(), 1),
    ],
)
def test_a_failure_becomes_its_exit_code(
    failing: Callable[[BaseException], int],
    error: BaseException,
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert failing(error) == code
    assert capsys.readouterr().out == ""


def test_a_failure_is_told_in_one_voice_on_standard_error(
    failing: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(IntegrityError("it is wrong", why="it was changed", next_step="fetch it"))
    assert capsys.readouterr().err == (
        "error: it is wrong\n  why: it was changed\n  next: fetch it\n"
    )


def test_what_follows_two_dashes_goes_to_the_program_that_is_started() -> None:
    options = parser().parse_args(["up", "--port", "0", "--", "--allow-dir", "folder"])
    assert options.service == ["--allow-dir", "folder"]
    assert options.port == 0
    assert parser().parse_args(["test", "--", "-k", "store"]).pytest == ["-k", "store"]


def test_options_that_repeat_are_collected() -> None:
    options = parser().parse_args(
        ["plan", "--model", "a", "--model", "b", "--only", "wheels,models"]
    )
    assert options.model == ["a", "b"]
    assert options.only == ("wheels", "models")


def test_outside_its_environment_a_command_is_run_again_inside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(environment, "is_inside", lambda _: False)
    monkeypatch.setattr(environment, "ensure", lambda _, groups, __: seen.append(groups))

    def become(program: Path, project: Project, arguments: list[str]) -> int:
        seen.append((program, arguments))
        return 7 if program == environment.interpreter(project) else 1

    monkeypatch.setattr(interpreters, "become", become)
    assert main(["plan", "--json"]) == 7
    inside = environment.interpreter(Project.here())
    assert seen == [("build", "default"), (inside, ["plan", "--json"])]


def test_a_python_that_cannot_run_the_builder_runs_one_that_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[object] = []

    def become(program: Path, _: object, arguments: list[str]) -> int:
        seen.append((program, arguments))
        return 7

    monkeypatch.setattr(environment, "is_inside", lambda _: False)
    monkeypatch.setattr(interpreters, "own_shortcoming", lambda _: "it is too new")
    monkeypatch.setattr(standalone, "suitable_python", lambda *_: Path("/python"))
    monkeypatch.setattr(interpreters, "become", become)
    assert main(["plan", "--json"]) == 7
    assert seen == [(Path("/python"), ["plan", "--json"])]


@pytest.mark.parametrize(
    ("arguments", "profile"),
    [
        (["up"], ""),
        (["up", "--profile", "lean"], "lean"),
        (["assemble", "--target", "win-x64", "--profile", "lean"], ""),
        (["image", "--profile", "lean"], ""),
        (["test"], ""),
    ],
)
def test_the_platform_is_asked_before_anything_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    profile: str,
) -> None:
    def refuse(_: object, asked: str = profile) -> None:
        assert asked == profile
        raise UnsupportedError("no wheels for it")

    monkeypatch.setattr(environment, "is_inside", lambda _: False)
    monkeypatch.setattr(platforms, "supported", refuse)
    monkeypatch.setattr(standalone, "suitable_python", refuse)
    monkeypatch.setattr(environment, "ensure", refuse)
    assert main(arguments) == 10
    assert "no wheels for it" in capsys.readouterr().err


def test_a_reader_that_went_away_is_no_failure(
    failing: Callable[[BaseException], int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "out").open("w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert failing(BrokenPipeError()) == 0


def test_a_closed_standard_error_does_not_hide_the_exit_code(
    failing: Callable[[BaseException], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    assert failing(IntegrityError("x")) == 4
