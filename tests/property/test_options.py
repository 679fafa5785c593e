from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar import cli
from sidecar.errors import UsageError
from sidecar.settings import MB, Settings

KNOWN = sorted({text for action in cli.parser()._actions for text in action.option_strings})
CHOICES = [str(choice) for action in cli.parser()._actions for choice in action.choices or ()]
# What a process can be given: everything but NUL, bytes that are no UTF-8 as lone surrogates.
WORDS = st.text(
    st.one_of(
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
        st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF),
    ),
    max_size=12,
)
VALUES = st.one_of(
    WORDS,
    st.sampled_from([*CHOICES, "127.0.0.1", "[::1]", "0", "8421", "", "-", "--", "*", "/", "."]),
    st.integers(-10, 70_000).map(str),
    st.sampled_from(["1e3", "0x10", "1_000", " 7", "٣", "9" * 5_000, "/" * 5_000, "a" * 300]),
)
ARGUMENTS = st.lists(
    st.one_of(
        st.sampled_from(KNOWN).map(lambda name: [name]),
        st.tuples(st.sampled_from(KNOWN), VALUES).map(list),
        st.tuples(st.sampled_from(KNOWN), VALUES).map(lambda pair: ["=".join(pair)]),
        VALUES.map(lambda value: [value]),
    ),
    max_size=6,
).map(lambda parts: [word for part in parts for word in part])


def told(arguments: list[str]) -> Settings | int:
    """Return what the arguments mean, or the code that the program would end with."""
    silence = io.StringIO()
    with contextlib.redirect_stderr(silence), contextlib.redirect_stdout(silence):
        try:
            return cli.settings_from(cli.parser().parse_args(arguments), bundle=None)
        except SystemExit as ended:
            return int(ended.code or 0)
        except UsageError as error:
            error.render()
            return error.exit_code


@settings(max_examples=300)
@given(ARGUMENTS)
def test_any_command_line_gives_settings_or_is_refused_with_2(arguments: list[str]) -> None:
    found = told(arguments)
    if isinstance(found, int):
        is_asked = any(word.startswith(("-h", "--help", "--version")) for word in arguments)
        assert found == 2 or (found == 0 and is_asked)
        return
    assert 0 <= found.port <= 65_535
    assert 1 <= found.threads <= 1024
    assert MB <= found.limits.max_body_bytes <= 1024 * MB
    # Path.is_file raises for a name that is too long.
    files = [folder for folder in found.allow_dirs if os.path.isfile(folder)]  # noqa: PTH113
    assert files == []
    assert all(folder.is_absolute() for folder in found.allow_dirs)


@settings(max_examples=300)
@given(st.sampled_from([name for name in KNOWN if name.startswith("--")]), VALUES)
def test_one_option_with_any_value_gives_settings_or_is_refused_with_2(
    name: str, value: str
) -> None:
    found = told([f"{name}={value}"])
    assert isinstance(found, Settings) or found == 2


@pytest.mark.parametrize("value", ["0", "65535"])
def test_the_search_reaches_settings(value: str) -> None:
    found = told(["--port", value, "--allow-dir", "/", "--threads", "2"])
    assert isinstance(found, Settings)
    assert (found.port, found.threads) == (int(value), 2)
    assert found.allow_dirs == (Path("/"),)


def test_no_option_has_an_abbreviation_that_could_change_its_meaning() -> None:
    assert told(["--allow-d", "/"]) == 2
