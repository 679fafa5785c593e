from __future__ import annotations

import asyncio
import functools
import itertools

from sidecar.web import http_protocol
from sidecar.web.http_protocol import AcceptPacing


def test_a_few_begin_at_once_and_the_others_in_later_turns_in_order() -> None:
    begun: list[int] = []

    async def work() -> list[int]:
        shared = AcceptPacing()
        for number in range(7):
            shared.give(functools.partial(begun.append, number))
        seen = [len(begun)]
        while len(begun) < 7:
            await asyncio.sleep(0)
            seen.append(len(begun))
        return seen

    seen = asyncio.run(work())
    assert begun == list(range(7))
    steps = [after - before for before, after in itertools.pairwise(seen)]
    assert max([seen[0], *steps]) == http_protocol.REQUESTS_PER_TURN


def test_while_connections_come_in_requests_go_on_one_at_a_time() -> None:
    begun: list[int] = []

    async def work() -> int:
        shared = AcceptPacing()
        for number in range(12):
            shared.give(functools.partial(begun.append, number))
        for _ in range(4):
            shared.arrive()
            before = len(begun)
            await asyncio.sleep(0)
            assert len(begun) - before <= 1
        return len(begun)

    assert 0 < asyncio.run(work()) < 12


def test_a_beginning_that_fails_does_not_stop_those_behind_it() -> None:
    begun: list[int] = []

    def fail() -> None:
        raise ZeroDivisionError

    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        shared = AcceptPacing()
        for number in range(2):
            shared.give(functools.partial(begun.append, number))
        shared.give(fail)
        for number in range(2, 6):
            shared.give(functools.partial(begun.append, number))
        for _ in range(10):
            await asyncio.sleep(0)

    asyncio.run(work())
    assert begun[-1] == 5
