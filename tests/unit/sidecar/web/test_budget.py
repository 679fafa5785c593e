from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sidecar import problems
from sidecar.problems import Problem
from sidecar.web import budget
from sidecar.web.budget import Budget, BudgetMiddleware, Share

KB = 1 << 10


class Application:
    """Reads bodies, and answers when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.refusals: list[Problem] = []

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        try:
            while (await receive()).get("more_body"):
                pass
        except Problem as problem:
            self.refusals.append(problem)
            return
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})


async def ask(door: BudgetMiddleware, *chunks: bytes, declared: bytes = b"") -> int:
    """Return the status of a request with these chunks; 0 if nothing was sent."""
    sent: list[Any] = []
    left = list(chunks)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-length", declared)] if declared else []
    await door({"type": "http", "headers": headers}, receive, send)
    return int(sent[0]["status"]) if sent else 0


def test_bodies_are_let_in_while_the_budget_has_room() -> None:
    async def work() -> None:
        app = Application()
        bodies = BudgetMiddleware(app, Budget(10))
        first = asyncio.create_task(ask(bodies, b"123", b"456"))
        await asyncio.sleep(0.01)
        assert await ask(bodies, b"", declared=b"5") == 429
        assert await ask(bodies, b"12", b"345") == 0
        assert app.refusals[0].status == 429
        second = asyncio.create_task(ask(bodies, b"1234", declared=b"4"))
        await asyncio.sleep(0.01)
        app.go_on.set()
        assert [await first, await second] == [200, 200]
        assert await ask(bodies, b"1234567890", declared=b"10") == 200

    asyncio.run(work())


def test_a_body_that_is_alone_is_let_in_whatever_its_size() -> None:
    async def work() -> int:
        app = Application()
        app.go_on.set()
        return await ask(BudgetMiddleware(app, Budget(1)), b"12", b"345", declared=b"5")

    assert asyncio.run(work()) == 200


@pytest.mark.parametrize("declared", [b"-5", b"x", b"9" * 400])
def test_a_length_that_is_none_hurts_nobody(declared: bytes) -> None:
    async def work() -> int:
        app = Application()
        app.go_on.set()
        return await ask(BudgetMiddleware(app, Budget(1)), b"", declared=declared)

    assert asyncio.run(work()) == 200


@pytest.mark.parametrize(("wait_s", "said"), [(0.01, 1), (7.4, 7), (1e9, 60)])
def test_whoever_is_refused_is_told_when_to_come_again(wait_s: float, said: int) -> None:
    assert problems.busy("what", "why", retry_s=wait_s).retry_s == said


def test_only_the_end_of_a_large_share_is_told() -> None:
    freed: list[str] = []
    for come, answer in (("small", 0), ("large", 0), ("small", 65 * KB)):
        share = Share(Budget(1 << 30, freed=lambda: freed.append("freed")))
        for _ in range(8):
            share.take(KB if come == "small" else 64 * KB)
        share.answer(answer)
        share.answer(0)
        share.release()
    assert freed == ["freed"] * 2


def test_a_large_body_that_is_refused_is_told_when_it_ends() -> None:
    freed: list[str] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        await receive()
        assert not freed
        raise ConnectionError

    async def work() -> None:
        door = BudgetMiddleware(app, Budget(1 << 30, freed=lambda: freed.append("freed")))
        for size in (64 * KB, 65 * KB):
            with pytest.raises(ConnectionError):
                await ask(door, b"0" * size)

    asyncio.run(work())
    assert freed == ["freed"]


def test_an_answer_is_held_until_it_is_written_and_while_it_is_not_taken() -> None:
    unsent = 0
    budget = Budget(100 * KB, unsent=lambda: unsent)
    share = Share(budget)
    share.take(10 * KB)
    share.expect(30 * KB)
    assert budget.in_shares == 40 * KB
    share.answer(50 * KB)  # as large as it became
    unsent = 50 * KB
    share.answer(0)
    share.release()
    assert budget.in_shares == 0
    other = Share(budget)
    with pytest.raises(Problem) as caught:
        other.expect(70 * KB)
    assert (caught.value.status, caught.value.kind) == (429, "busy")
    assert caught.value.retry_s == 10
    unsent = 20 * KB
    other.expect(70 * KB)


def test_a_refused_answer_takes_nothing_of_the_budget() -> None:
    budget = Budget(100 * KB, unsent=lambda: 90 * KB)
    share = Share(budget)
    with pytest.raises(Problem):
        share.expect(80 * KB)
    assert budget.in_shares == 0


def test_small_requests_are_served_where_large_ones_hold_all_that_they_may() -> None:
    budget = Budget(1600 * KB)
    small = Share(budget)
    for size in (1000, 700):  # of one, half of the budget counts at most
        Share(budget).expect(size * KB)
    with pytest.raises(Problem):
        small.expect(65 * KB)
    small.expect(64 * KB)
    with pytest.raises(Problem):
        Share(budget).expect(64 * KB)


def test_one_answer_above_the_budget_is_made_at_a_time() -> None:
    budget = Budget(1600 * KB)
    small, huge = Share(budget), Share(budget)
    small.expect(64 * KB)
    huge.expect(9000 * KB)
    with pytest.raises(Problem):
        Share(budget).expect(9000 * KB)
    Share(budget).expect(100 * KB)
    huge.release()
    with pytest.raises(Problem):
        huge.expect(9000 * KB)


def test_answer_is_held_while_its_client_does_not_take_it() -> None:
    budget = Budget(100)
    held: list[int] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for size in (30, 20):
            body = bytes(size)
            await send({"type": "http.response.body", "body": body, "more_body": size == 30})
            held.append(budget.in_shares)

    async def send(_message: Any) -> None:
        held.append(budget.in_shares)

    async def receive() -> Any:
        return None

    scope = {"type": "http", "headers": []}
    asyncio.run(BudgetMiddleware(app, budget)(scope, receive, send))
    assert held == [0, 30, 0, 20, 0]


def test_a_large_answer_is_written_in_parts_between_which_others_run() -> None:
    whole = bytes(range(256)) * (10 * KB) + b"end"
    turns: list[str] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": whole})

    async def work() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)
            asyncio.get_running_loop().call_soon(turns.append, "other")

        async def receive() -> Any:
            raise AssertionError

        await BudgetMiddleware(app, Budget(1 << 30))({"type": "http", "headers": []}, receive, send)
        return sent[1:]

    parts = asyncio.run(work())
    assert b"".join(part["body"] for part in parts) == whole
    assert max(len(part["body"]) for part in parts) <= budget.PART_BYTES
    assert [part["more_body"] for part in parts] == [True, True, False]
    assert len(turns) >= len(parts)
