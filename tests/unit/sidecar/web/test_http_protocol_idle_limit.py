from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.metrics import Counts
from sidecar.process.clock import Clock
from sidecar.settings import Bounds
from sidecar.web.http_protocol import Connections
from sidecar.web.middleware import AccessLog

if TYPE_CHECKING:
    from collections.abc import Callable


class Idle:
    def __init__(self) -> None:
        self.has_request = False
        self.is_dropped = False

    def drop(self) -> bool:
        self.is_dropped = not self.has_request
        return self.is_dropped


def dropped(
    work: Callable[[Connections, list[Idle]], None], bounds: Bounds, count: int
) -> list[int]:
    """Return which of `count` connections were dropped after `work` was done with them."""
    moment = [0.0]
    crowd = Connections(bounds, AccessLog(), Counts(), Clock(now=lambda: moment[0]))
    everyone = [Idle() for _ in range(count)]
    for one in everyone:
        crowd.join(one.drop)
    work(crowd, everyone)
    moment[0] = 0.1
    crowd.thin_out()
    return [index for index, one in enumerate(everyone) if one.is_dropped]


def nothing(_crowd: Connections, _everyone: list[Idle]) -> None:
    """Leave all as they are."""


def test_the_oldest_go_when_there_are_too_many() -> None:
    assert dropped(nothing, Bounds(max_idle=3, grace_s=0.02), 5) == [0, 1]


def test_as_many_as_are_allowed_stay() -> None:
    assert dropped(nothing, Bounds(max_idle=5, grace_s=0.0), 5) == []


def test_none_goes_in_its_first_moments() -> None:
    assert dropped(nothing, Bounds(max_idle=1, grace_s=60), 5) == []


def test_one_that_has_a_request_is_safe_and_one_that_waits_again_is_young() -> None:
    def work(crowd: Connections, everyone: list[Idle]) -> None:
        crowd.leave(everyone[0].drop)
        crowd.join(everyone[1].drop)

    assert dropped(work, Bounds(max_idle=2, grace_s=0.02), 5) == [2, 3]


def test_one_whose_request_is_there_but_not_read_yet_stays() -> None:
    def work(crowd: Connections, everyone: list[Idle]) -> None:
        everyone[0].has_request = everyone[2].has_request = True
        crowd.make_room()
        assert [one.is_dropped for one in everyone] == [False, True, False, False, False]

    assert dropped(work, Bounds(max_idle=1, grace_s=0.02), 5) == [1, 3]


def test_room_is_made_at_once_if_there_is_any_to_make() -> None:
    def work(crowd: Connections, everyone: list[Idle]) -> None:
        crowd.make_room()
        assert everyone[0].is_dropped
        for one in everyone:
            crowd.leave(one.drop)
        crowd.make_room()

    assert dropped(work, Bounds(), 3) == [0]
