from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.problems import Problem
from sidecar.web import bodies

TEXTS = st.text(alphabet=st.sampled_from('ab"\\\\\n\u00e9\U0001f600'), max_size=6)
VALUES = TEXTS | st.lists(TEXTS, max_size=3) | st.booleans() | st.none() | st.integers()
PAIRS = st.lists(st.tuples(TEXTS, VALUES), max_size=4)


@given(pairs=PAIRS, is_ascii=st.booleans())
def test_a_body_is_read_whole_and_no_duplicate_is_lost(
    pairs: list[tuple[str, Any]], *, is_ascii: bool
) -> None:
    members = (
        json.dumps(name, ensure_ascii=is_ascii) + ":" + json.dumps(value, ensure_ascii=is_ascii)
        for name, value in pairs
    )
    body = ("{" + ",".join(members) + "}").encode()
    if len(dict(pairs)) < len(pairs):
        with pytest.raises(Problem):
            bodies.parse(body)
    else:
        assert bodies.parse(body) == dict(pairs)
