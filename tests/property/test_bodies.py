from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidecar.web import bodies

TEXTS = st.text(alphabet=st.sampled_from('ab"\\\\\n\u00e9\U0001f600'), max_size=6)
VALUES = TEXTS | st.lists(TEXTS, max_size=3) | st.booleans() | st.none() | st.integers()
PAIRS = st.lists(st.tuples(TEXTS, VALUES), max_size=4)


@given(pairs=PAIRS, is_ascii=st.booleans())
def test_both_ways_to_read_a_body_agree_and_no_duplicate_is_lost(
    pairs: list[tuple[str, Any]], *, is_ascii: bool
) -> None:
    members = (
        json.dumps(name, ensure_ascii=is_ascii) + ":" + json.dumps(value, ensure_ascii=is_ascii)
        for name, value in pairs
    )
    plain = bodies._plain(("{" + ",".join(members) + "}").encode())
    if len(dict(pairs)) < len(pairs):
        assert plain is None
    elif plain is not None:
        assert plain == dict(pairs)
