"""What Ray reads in the environment, most of it while it is imported: to be set before."""

from __future__ import annotations

import os
import secrets

LOCAL = "local"


def prepare(address: str) -> None:
    """Set what a job on the cluster at `address` needs; for `local` what a cluster of its own does.

    Source: Ray 2.60, `ray._private.ray_constants` and `ray._private.authentication`.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would tell Ray's makers of the cluster
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # exceptions tell what fails, too
    if address == LOCAL:
        # A token for this run alone: without one Ray would write one into the user's home.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        # Every port on the loopback, as Ray has it by default on the systems of this name.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
