from __future__ import annotations

import asyncio

import pytest

from sidecar import request_id


def test_outside_of_a_request_there_is_no_id() -> None:
    assert request_id.current() is None


def test_request_id_is_current_in_tasks_and_threads() -> None:
    async def work() -> tuple[str | None, str | None]:
        task = asyncio.create_task(asyncio.to_thread(request_id.current))
        return await task, request_id.current()

    with request_id.using("a"):
        with request_id.using("b"):
            assert request_id.current() == "b"
        assert asyncio.run(work()) == ("a", "a")
    assert request_id.current() is None


def test_ids_of_ours_are_short_and_different() -> None:
    found = {request_id.chosen(()) for _ in range(100)}
    assert len(found) == 100
    assert {len(one) for one in found} == {16}


@pytest.mark.parametrize("value", [b"a", b"A-1_b.c", b"x" * 64])
def test_a_clients_own_id_is_taken_over_if_it_is_harmless(value: bytes) -> None:
    assert request_id.chosen([(b"x-request-id", value)]) == value.decode()


@pytest.mark.parametrize("value", [b"", b"a b", b"x" * 65, b"a\nb", b"\xff", b"{}", b"a/b"])
def test_any_other_is_replaced(value: bytes) -> None:
    assert len(request_id.chosen([(b"x-request-id", value), (b"other", b"a")])) == 16
