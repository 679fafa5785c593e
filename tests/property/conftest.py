"""One twin per family for all properties: loading the reference takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.twins import SHAPES, Twin, make_twin

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session", params=SHAPES)
def twin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Twin:
    folder: Path = tmp_path_factory.mktemp("twins") / request.param
    return make_twin(folder, SHAPES[request.param])
