from __future__ import annotations

import math

import pytest

from bundler.locks.models import MARGIN, USEFUL, Cosines, Int8, judge, lower, read_models, settle
from bundler.project import Project
from bundler.recipe import read_recipe


def cosines(worst: float, mean: float) -> Cosines:
    return Cosines(worst=worst, mean=mean)


def test_limits_lie_below_what_was_measured() -> None:
    found = judge(cosines(0.9967745, 0.9988790))
    assert found == Int8(measured=cosines(0.9968, 0.9989), least=cosines(0.9958, 0.9986))


@pytest.mark.parametrize(("worst", "mean"), [(0.9899, 0.999), (0.995, 0.9969), (-1, -1)])
def test_a_model_that_is_too_far_off_has_its_figures_and_no_limits(
    worst: float, mean: float
) -> None:
    assert judge(cosines(worst, mean)) == Int8(measured=cosines(worst, mean), least=None)


def test_a_model_that_is_just_near_enough_has_int8() -> None:
    assert judge(USEFUL).least is not None


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (cosines(0.97, 0.99), True),
        (cosines(0.9699, 0.999), False),
        (cosines(0.999, 0.9899), False),
        (cosines(math.nan, 0.999), False),
        (cosines(0.999, math.nan), False),
    ],
)
def test_both_figures_must_hold(found: Cosines, *, expected: bool) -> None:
    assert found.holds(cosines(0.97, 0.99)) is expected


def test_the_lower_of_both_figures_counts() -> None:
    assert lower(cosines(0.97, 0.995), cosines(0.98, 0.994)) == cosines(0.97, 0.994)


def test_figures_that_another_processor_gives_keep_the_lock() -> None:
    old = judge(cosines(0.9939, 0.9979))
    assert settle(judge(cosines(0.9932, 0.9977)), old) == old
    assert settle(judge(cosines(0.9946, 0.9981)), old) == old


@pytest.mark.parametrize(
    "fresh",
    [
        None,
        judge(cosines(0.9967, 0.9989)),
        judge(cosines(0.9939, 0.9975)),
        judge(cosines(0.90, 0.98)),
    ],
)
def test_other_figures_replace_those_in_the_lock(fresh: Int8 | None) -> None:
    assert settle(fresh, judge(cosines(0.9939, 0.9979))) == fresh
    assert settle(fresh, None) == fresh


def test_every_committed_limit_leaves_room_for_other_processors() -> None:
    project = Project.here()
    models = read_models(project.model_lock, read_recipe(project.recipe))
    limited = [model.int8 for model in models.values() if model.int8 and model.int8.least]
    assert limited
    for int8 in limited:
        assert int8.least is not None
        assert int8.measured.worst - int8.least.worst >= MARGIN.worst - 1e-9
        assert int8.measured.mean - int8.least.mean >= MARGIN.mean - 1e-9
