from __future__ import annotations

import re
from pathlib import Path

from bundler.bench.aims import AIMS, aim
from bundler.bench.ratios import _definitions
from bundler.bench.weighing import weigh


def test_every_aim_is_of_a_figure_that_is_measured() -> None:
    known = {name for name, *_ in _definitions()}
    known |= {figure.name for figure in weigh(Path("none"), Path("none"), None)}
    assert {each.figure for each in AIMS} <= known


def test_a_figure_has_one_aim_for_a_model() -> None:
    pairs = [(each.figure, subject) for each in AIMS for subject in each.subjects]
    assert len(pairs) == len(set(pairs))


def test_an_aim_is_met_on_its_side_of_the_bound() -> None:
    most, least = aim("start", "minilm"), aim("whole", "minilm")
    assert most is not None
    assert least is not None
    assert most.is_met(most.bound)
    assert not most.is_met(most.bound * 1.01)
    assert least.is_met(least.bound)
    assert not least.is_met(least.bound * 0.99)


def test_a_model_for_which_nothing_was_set_has_no_aim() -> None:
    assert aim("whole", "xlmr-base") is None
    assert aim("whole", "somebody's own") is None


def test_the_documentation_tells_of_every_aim() -> None:
    root = Path(__file__).parents[4]
    text = (root / "docs" / "performance.md").read_text(encoding="utf-8")
    for each in AIMS:
        assert re.search(rf"`{each.figure}`", text), each.figure
