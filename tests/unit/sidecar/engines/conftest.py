"""One twin per family for all tests of the engines: loading the reference takes seconds."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.twins import SHAPES, Twin, make_twin

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Twin]:
    base = tmp_path_factory.mktemp("twins")
    return {family: make_twin(base / family, shape) for family, shape in SHAPES.items()}


@pytest.fixture(params=SHAPES)
def twin(request: pytest.FixtureRequest, twins: dict[str, Twin]) -> Twin:
    """Return each family's twin in turn; its folder is shared, so nobody changes it."""
    return twins[request.param]


@pytest.fixture
def bert(twins: dict[str, Twin], tmp_path: Path) -> Path:
    """Return a copy of the twin of BERT that a test may spoil."""
    return shutil.copytree(twins["bert"].folder, tmp_path / "bert")


@pytest.fixture
def xlmr(twins: dict[str, Twin], tmp_path: Path) -> Path:
    """Return a copy of the twin of XLM-RoBERTa that a test may spoil."""
    return shutil.copytree(twins["xlm-roberta"].folder, tmp_path / "xlmr")
