from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from bundler.bench.neighbours import Moment, now, taken

if TYPE_CHECKING:
    from pathlib import Path


def moment(all_s: float, ours_s: float, clock_s: float) -> Moment:
    return Moment(all_s=all_s, ours_s=ours_s, clock_s=clock_s)


def test_what_we_spent_ourselves_is_not_taken_by_others() -> None:
    assert taken(moment(0, 0, 0), moment(20, 20, 10), cores=2) == 0.0
    assert taken(moment(0, 0, 0), moment(20, 10, 10), cores=2) == 0.5


def test_rounding_never_gives_less_than_nothing_or_more_than_all() -> None:
    assert taken(moment(0, 0, 0), moment(1, 2, 10), cores=2) == 0.0
    assert taken(moment(0, 0, 0), moment(90, 0, 10), cores=2) == 1.0


@pytest.mark.parametrize("pair", [(None, moment(0, 0, 1)), (moment(0, 0, 1), moment(0, 0, 1))])
def test_without_two_moments_the_share_is_unknown(pair: tuple[Moment | None, Moment]) -> None:
    assert taken(*pair, cores=2) is None


def test_a_moment_is_read_from_the_systems_counters(tmp_path: Path) -> None:
    tick = os.sysconf("SC_CLK_TCK")
    times = [10 * tick, 0, 5 * tick, 700, 800, 0, 0, 3 * tick, 9 * tick, 9 * tick]
    (tmp_path / "stat").write_text(f"cpu  {' '.join(map(str, times))}\ncpu0 1 2\n")
    own = tmp_path / str(os.getpid())
    own.mkdir()
    fields = ["S", *["0"] * 10, str(2 * tick), str(tick), str(tick), "0", "20"]
    (own / "stat").write_text(f"{os.getpid()} (a name) with) {' '.join(fields)}\n")
    found = now(proc=tmp_path)
    assert found is not None
    assert (found.all_s, found.ours_s) == (18.0, 4.0)


def test_a_system_without_counters_says_nothing(tmp_path: Path) -> None:
    assert now(proc=tmp_path) is None
