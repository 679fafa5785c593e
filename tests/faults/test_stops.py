"""A stop while clients hang, a document is read and a batch is computed."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import stub_service
from tests.support.stops import stop
from tests.support.tinypdf import slow

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = [sys.executable, "-I", "-B", str(stub_service.ROOT / "service"), "--engine", "hash"]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_fifty_hung_clients_and_a_running_pdf_hold_no_stop(tmp_path: Path, number: int) -> None:
    (tmp_path / "slow.pdf").write_bytes(slow())
    command = [*SERVICE, "--allow-dir", str(tmp_path)]
    ended = stop(command, clients=50, document=tmp_path / "slow.pdf", number=number)
    assert ended.code == 0
    assert ended.left == ()
    assert ended.seconds < 10
