from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from bundler.bench import machine
from sidecar.process import cores

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_machine_is_described_by_what_decides_its_figures() -> None:
    found = machine.describe()
    assert found["usable_cores"] == cores.count() <= found["hardware_threads"]
    assert found["processor"]
    assert set(found["flags"]) <= set(machine.TELLING)
    assert datetime.fromisoformat(found["date"]).tzinfo is not None
    assert re.fullmatch(r"3\.11\.\d+", found["python"])


def test_a_system_that_says_nothing_of_its_processor_is_described_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")
    found = machine.describe()
    assert found["processor"]
    assert found["flags"] == []


def test_arm_spells_its_instructions_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd i8mm\n")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    assert machine.describe()["flags"] == ["asimd", "i8mm"]
