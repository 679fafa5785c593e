from __future__ import annotations

import dataclasses

from bundler.bench.effort import FULL, QUICK


def test_a_quick_run_does_no_more_of_anything() -> None:
    for field in dataclasses.fields(FULL):
        full, quick = getattr(FULL, field.name), getattr(QUICK, field.name)
        if isinstance(full, tuple):
            assert len(quick) <= len(full)
        else:
            assert quick <= full, field.name


def test_a_lighter_effort_still_measures_everything() -> None:
    for effort in (FULL.lighter(), QUICK.lighter()):
        assert effort.texts >= effort.request_size * effort.requests
        assert effort.rounds >= 2
        assert effort.beside >= 4
        assert effort.clients == FULL.clients
