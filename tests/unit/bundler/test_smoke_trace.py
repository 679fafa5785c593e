from __future__ import annotations

from pathlib import Path

import pytest

from bundler import smoke
from bundler.console import Progress
from bundler.errors import SmokeError
from bundler.smoke import (
    SAID,
    Attempt,
    attempts,
    parse,
    pdf,
    prove,
)
from bundler.verify import verify
from tests.support.miniature import TARGET
from tests.support.pdfparts import read
from tests.support.stocked import SITE, Stocked

STDLIB = TARGET.stdlib


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Stocked:
    return Stocked.make(tmp_path_factory.mktemp("trace"))


def found(
    stocked: Stocked, *, opened: str = "", listed: str = "", modules: str = ""
) -> tuple[Attempt, ...]:
    """Return the attempts in a trace of the names given, each a list with spaces."""
    manifest = stocked.inventory().manifest
    seen = {"open": opened.split(), "list": listed.split(), "module": modules.split()}
    return attempts(seen, stocked.bundle, manifest, stocked.miniature.recipe)


def test_what_is_there_is_no_attempt(stocked: Stocked) -> None:
    opened = f"{SITE}/feather/barb.py {SITE}/feather/__pycache__/barb.cpython-311.pyc"
    assert found(stocked, opened=opened, listed=f"{SITE}/feather", modules="feather.barb") == ()


def test_what_was_never_there_is_no_attempt(stocked: Stocked) -> None:
    opened = f"{SITE}/feather/quill.txt python/lib/python311.zip"
    assert found(stocked, opened=opened, listed=f"{SITE}/none", modules="colorama nt") == ()


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        ({"opened": f"{SITE}/feather/tests/data.txt"}, "opened"),
        ({"opened": f"{SITE}/feather/tests/__pycache__/a.cpython-311.pyc"}, "opened"),
        ({"listed": f"{SITE}/feather/tests"}, "listed"),
        ({"modules": "feather.tests"}, "imported feather.tests"),
        ({"modules": "feather.tests.test_barb"}, "imported feather.tests.test_barb"),
    ],
)
def test_reaching_for_what_a_rule_removed_is_told_with_the_rule(
    stocked: Stocked, seen: dict[str, str], what: str
) -> None:
    (attempt,) = found(stocked, **seen)
    assert attempt.what == what
    assert attempt.path.startswith(f"{SITE}/feather/tests/")
    assert attempt.rule.name == "tests"


def test_another_profile_removed_nothing(tmp_path: Path) -> None:
    stocked = Stocked.make(tmp_path, profile="none")
    assert found(stocked, opened=f"{SITE}/feather/tests/data.txt") == ()


def test_what_the_runtime_lost_counts_too(stocked: Stocked) -> None:
    (tk, idle) = found(stocked, opened=f"{STDLIB}/idlelib/x.def", modules="tkinter")
    assert {tk.rule.name, idle.rule.name} == {"tk", "idle"}


def test_bytecode_that_was_not_made_is_no_loss(stocked: Stocked) -> None:
    assert found(stocked, opened=f"{STDLIB}/__pycache__/gone.cpython-311.pyc") == ()


def test_a_report_of_nothing_proves_nothing() -> None:
    with pytest.raises(SmokeError, match="trace is empty"):
        parse("")
    with pytest.raises(SmokeError, match="trace is empty"):
        parse('["module", "sys"]\n')


def test_a_report_is_read_by_kind() -> None:
    seen = parse('["module", "m"]\n["open", "a"]\n["list", "b"]\n["open", "a"]\n')
    assert seen == {"open": {"a"}, "list": {"b"}, "module": {"m"}}


def test_a_proof_counts_what_is_there_and_leaves_the_bundle_as_it_is(
    stocked: Stocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(
        monkeypatch, f'["open", "{SITE}/feather/barb.py"]\n["open", "no"]\n["module", "feather"]\n'
    )
    proved = prove(stocked.bundle, stocked.miniature.recipe, ["text"])
    assert (proved.modules, proved.files) == (1, 1)
    verify(stocked.bundle, Progress())


def test_a_failed_proof_names_path_rule_and_reason(
    stocked: Stocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, '["open", "manifest.json"]\n["module", "feather.tests"]\n')
    with pytest.raises(SmokeError) as caught:
        prove(stocked.bundle, stocked.miniature.recipe, [])
    assert caught.value.exit_code == 9
    assert f"imported feather.tests: {SITE}/feather/tests" in caught.value.why
    assert "the rule tests (tests)" in caught.value.why


def answer(monkeypatch: pytest.MonkeyPatch, report: str) -> None:
    """Have a run of the bundle's service end in `report`; a miniature's cannot run."""

    def exercise(
        _: Path, folder: Path, __: object, *, through: tuple[str, ...], engine: str
    ) -> None:
        assert (through[1], engine) == (str(folder / "report"), "auto")
        Path(through[1]).write_text(report, encoding="utf-8")

    monkeypatch.setattr(smoke, "exercise", exercise)


@pytest.mark.parametrize("text", [SAID, r"(in) \ brackets"])
def test_the_pdf_says_what_it_was_made_to_say(text: str) -> None:
    assert read(pdf(text)).pages == [text]
