"""What tests ask of an answer."""

from __future__ import annotations

from typing import Any

import numpy as np


def rows(answer: Any) -> np.ndarray[Any, Any]:
    """Return the vectors of a JSON answer, a row each."""
    return np.array(answer.json()["vectors"], dtype=np.float32)


def problem(answer: Any, status: int) -> dict[str, Any]:
    """Return the body of an answer that is a problem of `status` in the common shape."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:sidecar:problem:")
    assert body["detail"]
    return body
