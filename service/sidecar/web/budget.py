"""How much may be held at once: bodies, documents and answers are bounded for all requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar import problems
from sidecar.problems import Problem
from sidecar.web import errors

RETRY_S = 2
SLOW_RETRY_S = 10
# Large shares leave one part in so many of the budget to small ones.
RESERVED_PART = 16
MOST_PART = 2  # of the budget one answer counts as a part in so many at most
SMALL_BYTES = 1 << 16
# A large answer is written in parts: the connection copies what the system does not take at once,
# and nothing else runs meanwhile.
PART_BYTES = 1 << 20
SHARE = "sidecar.share"  # in the scope of a request: what it has of the budget


@dataclass(slots=True)
class Budget:
    """The bytes that are held for all requests together, answers until clients have taken them.

    There may be `max_bytes`; `unsent` tells how many of answers were written and not yet taken.
    `freed` is called when a request ends that had a large share.
    """

    max_bytes: int
    unsent: Callable[[], int] = lambda: 0
    freed: Callable[[], None] = lambda: None
    in_shares: int = 0

    def require(self, wanted: int, *, counted: int = 0, closes: bool = False) -> None:
        """Raise Problem 429 unless one of whom `counted` bytes count may have `wanted` in all.

        A share that is alone, but for small change of others, may have any size. The problem
        `closes` the connection where a body is not read because of it.
        """
        unsent = self.unsent()
        others = self.in_shares + unsent - counted
        reserved = self.max_bytes // RESERVED_PART
        if wanted <= SMALL_BYTES:
            has_room = not others or others + wanted <= self.max_bytes
        else:
            has_room = others <= max(reserved, self.max_bytes - reserved - wanted)
        if not has_room:
            why = f"bodies, documents and answers may have {self.max_bytes} bytes together"
            wait_s = SLOW_RETRY_S if 2 * unsent > others else RETRY_S
            problem = problems.busy("too many bytes are held for requests", why, retry_s=wait_s)
            problem.closes = closes
            raise problem


class Share:
    """What one request has of a budget: its body, its document, and its answer."""

    def __init__(self, budget: Budget) -> None:
        """Begin with nothing."""
        self._budget = budget
        self._came = self._answer = self._counted = 0
        self._is_large = False
        self.unwritten = 0  # of the answer, while it is written

    def take(self, size: int, *, closes: bool = False) -> None:
        """Have `size` more bytes of what came. Raises Problem 429, which may close."""
        wanted = self._came + self._answer + size
        self._budget.require(wanted, counted=self._counted, closes=closes)
        self._hold(self._came + size, self._answer)

    def expect(self, size: int) -> None:
        """Have room for an answer of about `size` bytes. Raises Problem 429."""
        self._budget.require(self._came + size, counted=self._counted)
        self.answer(size)

    def answer(self, size: int) -> None:
        """Hold `size` bytes of answer, 0 once they were written."""
        self._hold(self._came, size)

    def release(self) -> None:
        """Hold nothing any more."""
        self._hold(0, 0)
        if self._is_large:
            self._budget.freed()

    def _hold(self, came: int, answer: int) -> None:
        self._came, self._answer = came, answer
        self._is_large |= came + answer > SMALL_BYTES
        # However large the answer, and that of a long document is made for half an hour, others are
        # served.
        counted = came + min(answer, self._budget.max_bytes // MOST_PART)
        self._budget.in_shares += counted - self._counted
        self._counted = counted


def share_of(request: Request) -> Share:
    """Return what `request` has of the budget."""
    share: Share = request.scope[SHARE]
    return share


class BudgetMiddleware:
    """Gives every request a share of the budget, from its body until its answer is written."""

    def __init__(self, app: ASGIApp, budget: Budget) -> None:
        """Pass requests on to `app` while there is room in `budget`."""
        self._app = app
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 429."""
        share = scope[SHARE] = Share(self._budget)

        async def counted() -> Message:
            message = await receive()
            size = len(message.get("body", b""))
            if size:
                share.take(size, closes=True)
            return message

        async def held(message: Message) -> None:
            # A client that takes nothing lets this wait, with what it carries.
            body = message.get("body")
            if not body:
                await send(message)
                return
            share.answer(len(body))
            if len(body) <= PART_BYTES:
                await send(message)
            else:
                await _send_in_parts(message, share, send)
            share.answer(0)

        try:
            self._budget.require(_declared(scope), closes=True)
        except Problem as problem:
            await errors.ProblemResponse(problem)(scope, receive, send)
            return
        try:
            await self._app(scope, counted, held)
        finally:
            share.release()


async def _send_in_parts(message: Message, share: Share, send: Send) -> None:
    whole = memoryview(message["body"])
    share.unwritten = len(whole)
    try:
        while share.unwritten:
            at = len(whole) - share.unwritten
            part = whole[at : at + PART_BYTES]
            share.unwritten -= len(part)
            is_more = share.unwritten > 0 or message.get("more_body", False)
            await send({**message, "body": part, "more_body": is_more})
            await asyncio.sleep(0)
    finally:
        share.unwritten = 0


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0
