from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from bundler.digests import Artifact, Digest

if TYPE_CHECKING:
    from pathlib import Path

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize("text", ["", HEX[1:], f"{HEX}0", HEX.upper(), f"{HEX}\n", "sha256:0"])
def test_what_is_not_a_whole_sha256_is_no_digest(text: str) -> None:
    with pytest.raises(ValueError, match="not a sha256"):
        Digest(sha256=text)


def test_an_artifact_without_a_digest_cannot_be_made() -> None:
    with pytest.raises(TypeError):
        Artifact(name="a")  # type: ignore[call-arg]


def test_a_file_and_its_bytes_have_one_digest(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    digest = Digest.of_file(tmp_path / "file")
    assert digest == Digest.of_bytes(b"abc")
    assert digest.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert digest.size == 3


def test_an_unknown_size_admits_any_and_a_known_one_its_own() -> None:
    unknown = Digest(sha256=HEX)
    assert unknown.admits(Digest(sha256=HEX, size=1))
    assert Digest(sha256=HEX, size=1).admits(unknown)
    assert not Digest(sha256=HEX, size=1).admits(Digest(sha256=HEX, size=2))
    assert not unknown.admits(Digest(sha256=HEX[::-1]))
