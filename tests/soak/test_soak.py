from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support import stub_service
from tests.support.mixture import SHARES, Answered, Caller, Mixture
from tests.support.running import running
from tests.support.soak import Soaked, soaked
from tests.support.vitals import Vitals, look, percentile, slope_per_min

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at a process in /proc")
PROGRAM = [sys.executable, "-B", str(Path(stub_service.__file__))]


def vitals(minute: float, *, rss_mb: float = 200, handles: int = 12) -> Vitals:
    return Vitals(
        at_s=1000 + 60 * minute,
        rss_mb=rss_mb,
        anon_mb=100,
        handles=handles,
        threads=7,
        children=0,
        family_mb=rss_mb,
        cpu_s=minute,
    )


def run(looks: list[Vitals]) -> Soaked:
    return Soaked(seconds=600, vitals=looks, health_s=[0.001], code=0)


@pytest.mark.full
def test_a_mixed_load_for_seconds_fails_nobody() -> None:
    seen = soaked(PROGRAM, seconds=4)
    assert not seen.failures
    assert seen.code == 0
    assert "Traceback" not in seen.log
    assert (seen.engine, seen.degraded) == ("stub", None)
    assert seen.rate == pytest.approx(0.3 * seen.capacity)
    assert len(seen.vitals) > 10
    figures = json.loads(json.dumps(seen.figures()))
    assert {"single", "many", "bad", "health"} <= set(figures["count"]) <= {*SHARES, "health"}
    assert figures["count"]["health"] > 3


def test_every_kind_of_request_is_answered_rightly(tmp_path: Path) -> None:
    with running([*PROGRAM, "--port", "0", "--allow-dir", str(tmp_path)]) as service:
        mixture = Mixture(service.wait_ready(), tmp_path)
        caller = Caller(mixture)
        wrong = {caller.ask(kind, number) for kind in SHARES for number in range(3)}
        wrong |= {caller.ask("bad", number) for number in range(len(mixture.bad))}
        caller.close()
        assert service.stop() == 0
    assert wrong == {None}
    assert len({one.kind for one in mixture.bad}) > 10


def test_a_wrong_vector_is_not_taken_for_an_answer(tmp_path: Path) -> None:
    with running([*PROGRAM, "--port", "0"]) as service:
        mixture = Mixture(service.wait_ready(), tmp_path)
        service.stop()
    assert mixture.check([3, 4], mixture.known[[3, 4]]) is None
    assert mixture.check([3, 4], mixture.known[[4, 3]]) == "a wrong vector"
    assert mixture.check([3, 4], mixture.known[[3]]) is not None


def test_an_even_run_with_noise_is_no_reason_to_complain() -> None:
    noisy = [vitals(n / 12, rss_mb=200 + n % 3, handles=12 + n % 5) for n in range(120)]
    assert run(noisy).complaints() == []


def test_growth_is_found_after_the_warm_up_alone() -> None:
    leaking = run([vitals(n / 12, rss_mb=200 + n / 6, handles=12 + n // 12) for n in range(120)])
    assert leaking.slopes()["rss_mb"] == pytest.approx(2)
    assert [what.split(" grow")[0] for what in leaking.complaints()] == [
        "resident memory",
        "open handles",
    ]
    filling = run([vitals(n / 12, rss_mb=min(220, 200 + n)) for n in range(120)])
    assert filling.complaints() == []


def test_a_slower_service_shows_in_its_slope() -> None:
    seen = run([vitals(n / 12) for n in range(120)])
    seen.answered = [
        Answered(at_s=1000 + n, kind="single", took_s=0.010 + 0.001 * n / 60) for n in range(600)
    ]
    assert seen.slopes()["single_ms"] == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("what", ["failure", "code", "trace", "engine", "nothing"])
def test_whatever_went_wrong_is_told(what: str) -> None:
    seen = run([vitals(n / 12) for n in range(120)])
    if what == "failure":
        seen.failures["single: status 500"] += 1
    elif what == "code":
        seen.code = 1
    elif what == "engine":
        seen.degraded = "the engine that was meant fails"
    elif what == "trace":
        seen.log = "Traceback (most recent call last):\n"
    else:
        seen.vitals = []
    assert len(seen.complaints()) == 1


def test_a_look_counts_handles_threads_and_children() -> None:
    before = look(os.getpid())
    with (
        Path(os.devnull).open("rb"),
        Path(os.devnull).open("rb"),
        subprocess.Popen(["sleep", "60"]) as child,
    ):
        during = look(os.getpid())
        child.kill()
    assert during.handles == before.handles + 2
    assert during.children == before.children + 1
    assert during.cpu_s >= before.cpu_s > 0
    assert during.family_mb > during.rss_mb > during.anon_mb > 0
    with pytest.raises(psutil.Error, match=str(child.pid)):
        look(child.pid)


def test_slopes_and_percentiles_are_what_they_are_called() -> None:
    assert slope_per_min([0, 30, 60, 90], [5, 6, 7, 8]) == pytest.approx(2)
    assert slope_per_min([5], [1]) == 0
    assert [percentile(list(range(1, 101)), rank) for rank in (50, 99, 100)] == [50, 99, 100]
    assert math.isnan(percentile([], 50))
