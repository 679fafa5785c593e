"""What the fuzzer starts from keeps the claims that it tries to break."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fuzzed import archive_seeds, claim_archive, claim_pdf, pdf_seeds

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", sorted(pdf_seeds()))
def test_a_pdf_that_the_fuzzer_starts_from_keeps_the_claim(name: str) -> None:
    claim_pdf(pdf_seeds()[name])


@pytest.mark.parametrize("name", sorted(archive_seeds()))
def test_an_archive_that_the_fuzzer_starts_from_keeps_the_claim(name: str, tmp_path: Path) -> None:
    claim_archive(archive_seeds()[name], tmp_path)
