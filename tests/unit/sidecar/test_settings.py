from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sidecar.errors import UsageError
from sidecar.process.signals import HARD_STOP_S
from sidecar.settings import Device, Limits, Settings
from sidecar.web.schemas import LimitsAnswer


def test_nothing_can_be_read_reached_or_fetched_by_default() -> None:
    settings = Settings()
    assert settings.host == "127.0.0.1"
    assert (settings.allow_dirs, settings.allow_hosts) == ((), ())
    assert not settings.allow_remote
    assert not settings.allow_download


def test_settings_do_not_change_while_the_service_runs() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]
    assert Settings().limits == Limits()


@pytest.mark.parametrize(
    ("options", "why", "step"),
    [
        ({"engine": "hash", "precision": "int8"}, "", "leave out --precision"),
        ({"engine": "hash", "device": "cuda"}, "", "leave out --device"),
        (
            {"engine": "hash", "device": "mps", "precision": "int8"},
            "",
            "leave out --precision and --device",
        ),
        (
            {"engine": "reference", "precision": "int8"},
            "the reference engine computes in float32 alone",
            "--engine packed, or leave out --precision",
        ),
        (
            {"device": "cuda", "precision": "int8"},
            "on cuda the linear layers are computed in float32 alone",
            "--device cpu, or leave out --precision",
        ),
    ],
    ids=str,
)
def test_what_excludes_each_other_is_refused_with_what_to_leave_out(
    options: dict[str, Any], why: str, step: str
) -> None:
    with pytest.raises(UsageError) as caught:
        Settings(**options)
    assert (caught.value.exit_code, caught.value.why, caught.value.next_step) == (2, why, step)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_what_goes_together_is_taken(device: Device) -> None:
    assert Settings(engine="hash", device=device).precision == "float32"
    assert Settings(engine="packed", device=device, precision="int8").engine == "packed"


def test_every_limit_that_info_shows_is_one() -> None:
    names = {field.name for field in dataclasses.fields(Limits)}
    assert set(LimitsAnswer.model_fields) <= names


def test_a_stopping_service_is_done_before_the_watchdog_ends_it() -> None:

    assert Settings().drain_s + 1 < HARD_STOP_S
