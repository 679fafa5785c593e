from __future__ import annotations

import pytest

from bundler.errors import UsageError
from bundler.project import parse_mirrors

SOURCES = {"hub": "https://hub.example", "torch": "https://torch.example"}


def test_a_mirror_is_taken_by_the_name_of_its_source() -> None:
    given = ["hub=http://127.0.0.1:1/a=b", "torch=/folder"]
    assert parse_mirrors(given, SOURCES) == {"hub": "http://127.0.0.1:1/a=b", "torch": "/folder"}


@pytest.mark.parametrize("text", ["hub", "hub=", "=x", "pypi=http://127.0.0.1", ""])
def test_a_mirror_of_nothing_is_a_usage_error_that_lists_the_sources(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_mirrors([text], SOURCES)
    assert caught.value.why == "the sources are hub, torch"


def test_a_mirror_that_is_no_address_is_refused_without_showing_it() -> None:
    with pytest.raises(UsageError, match="an address of --mirror hub is none") as caught:
        parse_mirrors(["hub=https://me:s3cret@[x"], SOURCES)
    assert "s3cret" not in caught.value.render()
