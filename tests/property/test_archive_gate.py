"""Whatever an archive says, every file lands inside, and what lands is portable."""

from __future__ import annotations

import os
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.assembly.path_rules import ArchiveLimits, Member, MemberCheck
from bundler.assembly.safe_extract import extract
from bundler.errors import IntegrityError, PolicyError
from tests.support.tinytar import Entry, write_tar

PART = st.sampled_from(
    ["..", ".", "", "a", "A", "b", "link", "con", "nul.txt", "\u00e9", "e\u0301", "a.", "a:b", "\\"]
)
NAME = st.one_of(st.lists(PART, min_size=1, max_size=5).map("/".join), st.text(max_size=20))
TYPES = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
)
ENTRY = st.builds(
    lambda name, kind, link, mode, data: Entry(
        name=name,
        type=kind,
        link=link,
        mode=mode,
        data=data if kind == tarfile.REGTYPE else b"",
    ),
    NAME,
    TYPES,
    NAME,
    st.sampled_from([0o644, 0o755, 0o600, 0o4755]),
    st.binary(max_size=20),
)


def encodable(entry: Entry) -> bool:
    """Return whether the entry can be put into a tar at all."""
    try:
        (entry.name + entry.link).encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in entry.name + entry.link


@settings(max_examples=300, deadline=None)
@given(st.lists(ENTRY.filter(encodable), max_size=6), st.integers(0, 1))
def test_no_archive_writes_outside_or_leaves_a_link(entries: list[Entry], strip: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        inner = Path(name, "one", "two")
        inner.mkdir(parents=True)
        packed = write_tar(inner / "a.tar", entries)
        try:
            paths = extract(packed, inner / "out", strip=strip)
        except (IntegrityError, PolicyError):
            assert [path.name for path in inner.iterdir()] == ["a.tar"]
        else:
            found = [
                Path(parent, file).relative_to(inner / "out").as_posix()
                for parent, _, files in os.walk(inner / "out")
                for file in files
            ]
            assert sorted(found) == list(paths)
            assert not any(path.is_symlink() for path in (inner / "out").rglob("*"))
        assert [path.name for path in Path(name, "one").iterdir()] == ["two"]


@given(NAME, st.integers(0, 2))
def test_an_admitted_path_is_relative_normal_and_below(name: str, strip: int) -> None:
    gate = MemberCheck(archive="a", limits=ArchiveLimits(), packed_bytes=1, strip=strip)
    try:
        path = gate.admit(Member(name=name, kind="file"))
    except PolicyError:
        return
    pure = PurePosixPath(path)
    assert path == pure.as_posix() == os.path.normpath(path)
    assert not pure.is_absolute()
    assert ".." not in pure.parts


@given(st.lists(NAME, max_size=12))
def test_claimed_paths_stay_apart_where_case_does_not_count(names: list[str]) -> None:
    gate = MemberCheck(archive="a", limits=ArchiveLimits(), packed_bytes=1)
    claimed = []
    for name in names:
        try:
            path = gate.admit(Member(name=name, kind="file"))
            gate.claim(name, path)
        except PolicyError:
            continue
        claimed.append(path)
    assert len({path.casefold() for path in claimed}) == len(claimed)


@given(st.integers(min_value=-5, max_value=1 << 70), st.integers(0, 1 << 40))
def test_no_size_over_the_limits_passes(size: int, packed: int) -> None:
    limits = ArchiveLimits(member_bytes=1 << 30, total_bytes=1 << 31, ratio=100)
    gate = MemberCheck(archive="a", limits=limits, packed_bytes=packed)
    try:
        gate.admit(Member(name="a", kind="file", size=size))
    except PolicyError:
        return
    assert 0 <= size <= 1 << 30
    assert size <= max(8 << 20, 100 * max(packed, 1))
