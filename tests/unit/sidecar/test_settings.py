from __future__ import annotations

import dataclasses

import pytest

from sidecar.process.signals import HARD_STOP_S
from sidecar.settings import Limits, Settings
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


def test_every_limit_that_info_shows_is_one() -> None:
    names = {field.name for field in dataclasses.fields(Limits)}
    assert set(LimitsAnswer.model_fields) <= names


def test_a_stopping_service_is_done_before_the_watchdog_ends_it() -> None:

    assert Settings().drain_s + 1 < HARD_STOP_S
