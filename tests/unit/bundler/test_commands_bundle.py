"""The commands that look into a bundle, from their arguments to their output."""

from __future__ import annotations

import io
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from bundler.cli import COMMANDS, parser
from bundler.console import Console
from bundler.digests import Digest
from tests.support.commandline import Run, running
from tests.support.miniature import EPOCH
from tests.support.stocked import SITE, Stocked

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Stocked:
    return Stocked.make(tmp_path_factory.mktemp("commands"))


@pytest.fixture
def run(
    stocked: Stocked, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    return running(stocked.miniature.project, monkeypatch, capsys)


def test_archive_prints_where_it_is_and_says_its_digest(
    run: Run, stocked: Stocked, tmp_path: Path
) -> None:
    place = tmp_path / "b.tar.zst"
    done = run("archive", stocked.bundle, "--output", place)
    assert (done.code, done.output) == (0, f"{place}\n")
    digest = Digest.of_file(place)
    assert f"sha256 {digest.sha256}\nsize {digest.size} bytes\n" in done.talk


def test_archive_goes_beside_the_bundle_unless_told_otherwise(run: Run, stocked: Stocked) -> None:
    done = run("archive", stocked.bundle)
    assert done.output == f"{stocked.bundle.parent}/sidecar-0.0.1-linux-x64.tar.zst\n"


def test_the_date_in_an_archive_is_the_recipes_or_the_environments(
    run: Run, stocked: Stocked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for epoch in (None, str(EPOCH), "1"):
        if epoch:
            monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        assert run("archive", stocked.bundle, "--output", tmp_path / "a").code == 0
        digests.append(Digest.of_file(tmp_path / "a"))
    assert digests[0] == digests[1] != digests[2]


def test_verify_takes_an_archive(run: Run, stocked: Stocked, tmp_path: Path) -> None:
    run("archive", stocked.bundle, "--output", tmp_path / "b.tar.zst")
    done = run("verify", tmp_path / "b.tar.zst")
    assert done.code == 0
    assert "ok: b.tar.zst, " in done.talk
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar.zst"]


def test_what_is_no_archive_is_not_verified(run: Run, tmp_path: Path) -> None:
    (tmp_path / "b.tar.zst").write_bytes(b"no archive at all")
    assert run("verify", tmp_path / "b.tar.zst").code == 8


def test_size_shows_this_machines_bundle_as_a_table(run: Run) -> None:
    done = run("size")
    assert done.code == 0
    assert done.output.startswith("component ")
    assert "left out by the profile safe" in done.output


def test_size_as_data_and_as_a_picture(run: Run, stocked: Stocked, tmp_path: Path) -> None:
    done = run("size", stocked.bundle, "--json", "--picture", tmp_path / "s.svg")
    document: dict[str, Any] = json.loads(done.output)
    assert document["profile"] == "safe"
    assert (tmp_path / "s.svg").read_text(encoding="utf-8").startswith("<svg ")


def test_size_says_what_is_stale_in_the_recipe(run: Run, stocked: Stocked) -> None:
    done = run("size", stocked.bundle)
    assert "stale in bundle/recipe.toml: tests: no bytes in the recipe" in done.talk
    assert f"python3 build size --saves {stocked.bundle} prints" in done.talk
    done = run("size", stocked.bundle, "--saves")
    assert done.output.startswith("[diet.rules.tests]\nsaves = { linux-x64 = ")
    assert "stale" not in done.talk


def test_size_says_which_savings_it_cannot_know(run: Run, stocked: Stocked, tmp_path: Path) -> None:
    shutil.copytree(stocked.bundle, tmp_path / "bundle")
    done = run("size", tmp_path / "bundle")
    assert done.code == 0
    assert "for want of a report: python, heavy, packages, models, service" in done.talk
    assert "left out" not in done.output
    assert "stale" not in done.talk


def test_why_answers_for_a_file_that_was_removed(run: Run, stocked: Stocked) -> None:
    done = run("why", "feather/tests/test_barb.py", "--bundle", stocked.bundle)
    assert done.code == 0
    assert f"path       {SITE}/feather/tests/test_barb.py\n" in done.output
    assert "by the rule tests" in done.output


def test_why_answers_for_what_the_runtime_lost(run: Run) -> None:
    done = run("why", "lib/python3.11/tkinter/__init__.py")
    assert "by the rule tk" in done.output


def test_why_of_an_unknown_file_exits_2(run: Run) -> None:
    done = run("why", "no/such/file")
    assert done.code == 2
    assert done.output == ""
    assert "nothing is known of no/such/file" in done.talk


def test_diff_of_two_bundles_exits_0_whatever_it_finds(
    run: Run, stocked: Stocked, tmp_path: Path
) -> None:
    stocked.miniature.assemble(tmp_path / "b", profile="none")
    assert run("diff", stocked.bundle, stocked.bundle).output == "the same\n"
    done = run("diff", stocked.bundle, tmp_path / "b", "--names")
    assert done.code == 0
    assert "profile: safe -> none\n" in done.output
    assert f"  + {SITE}/feather/tests/test_barb.py" in done.output
    document = json.loads(run("diff", stocked.bundle, tmp_path / "b", "--json").output)
    assert document["fields"]["profile"] == {"before": "safe", "after": "none"}


@pytest.mark.parametrize(
    "words",
    [
        ("diff", "BUNDLE", "PATH"),
        ("diff", "PATH", "BUNDLE"),
        ("update-size", "BUNDLE", "PATH"),
        ("verify", "PATH"),
        ("smoke", "PATH"),
        ("archive", "PATH"),
        ("image", "PATH"),
        ("size", "PATH"),
        ("scan", "PATH"),
        ("why", "file", "--bundle", "PATH"),
        ("electron", "--output", "out", "--bundle", "PATH"),
        ("bench", "--bundle", "PATH"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("there", ["nothing", "a folder"])
def test_a_path_without_a_bundle_exits_2_and_says_how_to_make_one(
    run: Run, stocked: Stocked, tmp_path: Path, words: tuple[str, ...], there: str
) -> None:
    if there == "a folder":
        (tmp_path / there).mkdir()
        # Other programs have one, too.
        (tmp_path / there / "manifest.json").write_text("{}", encoding="utf-8")
    places = {"PATH": tmp_path / there, "BUNDLE": stocked.bundle}
    done = run(*(places.get(word, word) for word in words))
    assert done.code == 2
    assert f"there is no bundle at {tmp_path / there}" in done.talk
    assert "next: python3 build assemble makes one" in done.talk
    assert done.output == ""


@pytest.mark.parametrize("name", ["verify", "smoke", "archive"])
def test_a_file_that_is_no_bundle_exits_2(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("no bundle", encoding="utf-8")
    done = run(name, tmp_path / "file")
    assert done.code == 2
    assert "there is no bundle" in done.talk
    assert "python3 build assemble makes" in done.talk


def test_a_folder_of_bundles_leads_to_one_of_them(run: Run, stocked: Stocked) -> None:
    done = run("verify", stocked.bundle.parent)
    assert done.code == 2
    assert f"next: name a bundle in it: {stocked.bundle}" in done.talk


@pytest.mark.parametrize("name", ["verify", "smoke", "archive", "size"])
def test_a_bundle_that_lost_its_manifest_is_damaged(
    run: Run, stocked: Stocked, tmp_path: Path, name: str
) -> None:
    bundle = shutil.copytree(stocked.bundle, tmp_path / "bundle")
    (bundle / "manifest.json").unlink()
    assert run(name, bundle).code == 8


@pytest.mark.parametrize("name", ["archive", "size", "why", "diff", "smoke", "verify"])
def test_each_command_explains_itself(name: str) -> None:
    command = next(command for command in COMMANDS if command.name == name)
    assert command.summary[0].islower()
    assert name in parser().format_help()


def test_a_console_that_is_gone_ends_nothing(stocked: Stocked) -> None:
    from bundler.commands import diff  # noqa: PLC0415

    closed = io.StringIO()
    closed.close()
    options = parser().parse_args(["diff", str(stocked.bundle), str(stocked.bundle)])
    assert diff.run(options, stocked.miniature.project, Console(closed)) == 0
