"""What Ray reads in the environment, most of it while it is imported: to be set before."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator

AUTO, LOCAL = "auto", "local"
# Actors that end, or whose nodes do, are started again, and their parts sent again. Without an end
# to it a part that ends every actor, as with too little memory, would never end the job.
RESTARTS = 10
NOWHERE = "http://127.0.0.1:9/"  # the port of a service that discards, which no machine has


def prepare(address: str) -> None:
    """Set what a job on the cluster at `address` needs; for `local` what a cluster of its own does.

    Source: Ray 2.60, `ray._private.ray_constants` and `ray._private.authentication`.
    """
    # It would tell Ray's makers of the cluster; where it may not, it tells them that it may not.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_USAGE_STATS_REPORT_URL"] = NOWHERE
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # exceptions tell what fails, too
    os.environ.setdefault("RAY_task_oom_retries", str(RESTARTS))  # without an end otherwise
    if address == LOCAL:
        # A token for this run alone: without one Ray would write one into the user's home.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        # Every port on the loopback, as Ray has it by default on the systems of this name.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    else:
        # Each of them half a minute, of twenty, for a cluster that is there no more.
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")


@contextlib.contextmanager
def homeless() -> Iterator[dict[str, str]]:
    """Have no home meanwhile, for the head that is started. Yields what workers go back to.

    A head looks in its home for how it was configured, and where it finds a home without it asks
    the metadata services of three clouds, whatever its usage statistics are.
    """
    before = os.environ.get("HOME")
    os.environ["HOME"] = os.devnull
    try:
        yield {} if before is None else {"HOME": before}
    finally:
        if before is None:
            del os.environ["HOME"]
        else:
            os.environ["HOME"] = before
