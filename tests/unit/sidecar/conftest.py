"""What the service's tests share: an app around a stub engine, and a twin per family of models."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.stub_engine import Served
from tests.support.twins import SHAPES, Twin, make_twin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.close()


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Set logging back to what it was, as the service takes all of it."""
    root, ours = logging.getLogger(), logging.getLogger("sidecar")
    before = (root.handlers[:], root.level, ours.level, logging.raiseExceptions)
    hooks = (threading.excepthook, sys.unraisablehook)
    yield
    threading.excepthook, sys.unraisablehook = hooks
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level, ours.level, logging.raiseExceptions = before


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Return both ends of a pipe, which the test may close."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


@pytest.fixture(scope="session")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Twin]:
    """Return one twin per family: loading the reference takes seconds."""
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
