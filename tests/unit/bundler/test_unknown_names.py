from __future__ import annotations

import pytest

from bundler.errors import UnsupportedError, UsageError, unknown


@pytest.mark.parametrize(
    ("name", "step"),
    [("saef", "--profile safe"), ("le", "--profile lean"), ("x", "pass one of them to --profile")],
)
def test_an_unknown_name_leads_to_the_nearest_or_to_all(name: str, step: str) -> None:
    error = unknown("profile", name, ["none", "safe", "lean"], option="--profile")
    assert isinstance(error, UsageError)
    assert error.what == f"there is no profile {name!r}"
    assert error.why == "the profiles are none, safe, lean"
    assert error.next_step == step


def test_an_unknown_target_is_an_unsupported_one() -> None:
    error = unknown("target", "x", ["y"], option="--target", error=UnsupportedError)
    assert error.exit_code == 10
