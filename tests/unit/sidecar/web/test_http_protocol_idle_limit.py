from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sidecar.metrics import Counts
from sidecar.process.clock import Clock
from sidecar.settings import Bounds
from sidecar.web.http_protocol import Connections
from sidecar.web.middleware import AccessLog

if TYPE_CHECKING:
    from sidecar.web.http_protocol import BoundedProtocol


class Idle:
    def __init__(self, *, has_request: bool = False, is_waiting: bool = True) -> None:
        self.has_request = has_request
        self.is_waiting = is_waiting
        self.is_dropped = False
        self.since = 0.0

    def drop(self) -> bool:
        self.is_dropped = not self.has_request
        return self.is_dropped


def dropped(everyone: list[Idle], **bounds: Any) -> list[int]:
    """Return which of the connections are dropped after a tenth of a second."""
    moment = [0.0]
    shared = Connections(Bounds(**bounds), AccessLog(), Counts(), Clock(now=lambda: moment[0]))
    moment[0] = 0.1
    shared._thin_out(cast("set[BoundedProtocol]", everyone))
    return [index for index, one in enumerate(everyone) if one.is_dropped]


def idle(count: int) -> list[Idle]:
    return [Idle() for _ in range(count)]


def test_the_oldest_go_when_there_are_too_many() -> None:
    everyone = idle(5)
    everyone[0].since = 0.05
    assert dropped(everyone, max_idle=3, grace_s=0.02) == [1, 2]


def test_as_many_as_are_allowed_stay() -> None:
    assert dropped(idle(5), max_idle=5, grace_s=0.0) == []


def test_none_goes_in_its_first_moments() -> None:
    assert dropped(idle(5), max_idle=1, grace_s=60) == []


def test_one_that_has_a_request_is_safe() -> None:
    everyone = [Idle(is_waiting=False), *idle(4)]
    assert dropped(everyone, max_idle=2, grace_s=0.02) == [1, 2]


def test_one_whose_request_is_there_but_not_read_yet_stays() -> None:
    everyone = [Idle(has_request=True), *idle(4)]
    assert dropped(everyone, max_idle=3, grace_s=0.02) == [1]


def test_room_is_made_at_once_if_there_is_any_to_make() -> None:
    everyone = [Idle(has_request=True), *idle(4)]
    assert dropped(everyone, max_connections=3, grace_s=60) == [1, 2]
    assert dropped([Idle(is_waiting=False) for _ in range(5)], max_connections=3) == []
