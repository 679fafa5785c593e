from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from tests.support import assembler
from tests.support.miniature import Miniature, snapshot

if TYPE_CHECKING:
    from pathlib import Path

TURNED = assembler.CHECKOUT / "tests" / "support" / "turned"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], str]:
    """Return a tree made without ado, and what the process said of it."""
    root = tmp_path_factory.mktemp("reference")
    done = assembler.run(Miniature.make(root / "project"), root / "bundle")
    assert done.returncode == 0, done.stderr
    return dict(snapshot(root / "bundle")), done.stdout


def check(
    miniature: Miniature,
    place: Path,
    reference: tuple[dict[str, object], str],
    *options: str,
    **environment: str,
) -> None:
    done = assembler.run(miniature, place, *options, changes=environment)
    assert done.returncode == 0, done.stderr
    tree, said = reference
    assert snapshot(place) == tree
    assert done.stdout == said


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        ((), {"TZ": "Pacific/Kiritimati"}),
        ((), {"LC_ALL": "C", "LANG": "", "PYTHONUTF8": "0"}),
        ((), {"HOME": "/nonexistent", "USER": "nobody", "LOGNAME": "nobody"}),
        ((), {"SOURCE_DATE_EPOCH": "1"}),
        ((), {"PYTHONHASHSEED": "1", "PYTHONDONTWRITEBYTECODE": "", "PYTHONOPTIMIZE": "1"}),
        (("--umask", "077"), {}),
        (("--umask", "000"), {}),
        ((), {"PYTHONPATH": str(TURNED), "PYTHONHASHSEED": "2"}),
    ],
    ids=["zone", "locale", "user", "epoch", "python", "closed", "open", "order"],
)
def test_nothing_around_a_build_shows_in_the_bundle(
    tmp_path: Path,
    reference: tuple[dict[str, object], str],
    options: tuple[str, ...],
    environment: dict[str, str],
) -> None:
    miniature = Miniature.make(tmp_path / "project")
    check(miniature, tmp_path / "bundle", reference, *options, **environment)


@pytest.mark.parametrize("bits", ["755", "644"], ids=["executable", "plain"])
def test_a_disk_without_modes_gives_the_same_manifest_and_archive(
    tmp_path: Path, reference: tuple[dict[str, object], str], bits: str
) -> None:
    miniature = Miniature.make(tmp_path / "project")
    for _ in range(2):
        done = assembler.run(miniature, tmp_path / "bundle", "--modeless", bits)
        assert done.returncode == 0, done.stderr
        assert done.stdout == reference[1]


def test_where_a_bundle_is_made_and_from_where_does_not_show_in_it(
    tmp_path: Path, reference: tuple[dict[str, object], str]
) -> None:
    miniature = Miniature.make(tmp_path / "ein [anderer] Ordner")
    check(miniature, tmp_path / "ein längerer Weg" / "[zu] *einem*" / "Bündel", reference)


def test_dates_and_modes_of_the_inputs_do_not_show_in_the_bundle(
    tmp_path: Path, reference: tuple[dict[str, object], str]
) -> None:
    miniature = Miniature.make(tmp_path / "project")
    for number, path in enumerate(sorted(miniature.root.rglob("*"))):
        os.utime(path, (1_000_000 + number, 1_000_000 + number))
        if path.is_file():
            path.chmod(0o600 if number % 2 else 0o664)
    check(miniature, tmp_path / "bundle", reference)


def test_a_bundle_made_by_way_of_another_one_is_the_same(
    tmp_path: Path, reference: tuple[dict[str, object], str]
) -> None:
    miniature = Miniature.make(tmp_path / "project")
    cli = miniature.project.service / "sidecar" / "cli.py"
    text = cli.read_text(encoding="utf-8")
    cli.write_text("OTHER = 1\n", encoding="utf-8")
    miniature.assemble(tmp_path / "bundle", profile="none", models=("wheeled",))
    cli.write_text(text, encoding="utf-8")
    check(miniature, tmp_path / "bundle", reference)


def test_a_copied_bundle_whose_modes_were_lost_is_made_anew_to_the_same_tree(
    tmp_path: Path, reference: tuple[dict[str, object], str]
) -> None:
    miniature = Miniature.make(tmp_path / "project")
    miniature.assemble(tmp_path / "made")
    shutil.copytree(tmp_path / "made", tmp_path / "bundle")
    shutil.rmtree(tmp_path / "made")
    for path in (tmp_path / "bundle").rglob("*"):
        if path.is_file():
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    check(miniature, tmp_path / "bundle", reference)
