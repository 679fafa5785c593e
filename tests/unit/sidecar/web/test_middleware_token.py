from __future__ import annotations

import pytest

from sidecar.web.middleware import TokenCheck

TOKEN = "0123456789abcdef" * 2


def test_a_lock_without_a_token_is_open() -> None:
    assert TokenCheck(None).opens([])


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER  "])
def test_the_token_opens(scheme: bytes) -> None:
    assert TokenCheck(TOKEN.encode()).opens([(b"authorization", scheme + TOKEN.encode())])


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        TOKEN.encode(),
        b"Basic " + TOKEN.encode(),
        b"Bearer " + TOKEN.encode() + b"0",
        b"Bearer " + TOKEN[:-1].encode(),
        b"Bearer " + TOKEN.upper().encode(),
        b"Bearer x " + TOKEN.encode(),
        b"Bearer \xff",
    ],
)
def test_nothing_else_does(value: bytes) -> None:
    lock = TokenCheck(TOKEN.encode())
    assert not lock.opens([(b"authorization", value)])
    good = (b"authorization", b"Bearer " + TOKEN.encode())
    assert not lock.opens([good, (b"authorization", value)])
    assert not lock.opens([(b"x-authorization", good[1])])
