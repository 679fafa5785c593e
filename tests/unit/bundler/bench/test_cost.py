from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundler.bench.cost import measure
from bundler.bench.served import from_checkout
from bundler.errors import SmokeError
from tests.support.benched import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def test_each_form_of_an_answer_is_written_by_the_services_own_code() -> None:
    found = {
        each.form: each
        for each in measure(from_checkout(ROOT / "service", threads=1), rows=3, repeats=1)
    }
    assert set(found) == {"as_json", "as_base64_json", "raw"}
    assert found["raw"].size == 3 * 768 * 4
    assert found["raw"].size < found["as_base64_json"].size < found["as_json"].size


def test_a_folder_without_the_service_cannot_be_measured(tmp_path: Path) -> None:
    program = replace(from_checkout(ROOT / "service", threads=1), service=tmp_path)
    with pytest.raises(SmokeError) as caught:
        measure(program, rows=1, repeats=1)
    assert "ModuleNotFoundError" in caught.value.why
