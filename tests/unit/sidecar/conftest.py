"""What the service's tests share: an app around a stub engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.stub_engine import Served

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.close()
