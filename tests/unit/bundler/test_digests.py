from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from bundler.digests import Artifact, Digest, tree_digest

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


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def test_a_tree_is_its_paths_and_contents(tmp_path: Path) -> None:
    one = tree_digest(tree(tmp_path / "one", {"a/b.py": b"x", "c.py": b"yy"}))
    assert one == tree_digest(tree(tmp_path / "two", {"c.py": b"yy", "a/b.py": b"x"}))
    assert one.size == 3
    for number, files in enumerate(
        ({"a/b.py": b"x"}, {"a/b.py": b"yy", "c.py": b"x"}, {"a/c.py": b"x", "c.py": b"yy"})
    ):
        assert one != tree_digest(tree(tmp_path / str(number), files))


def test_bytecode_and_other_suffixes_do_not_count(tmp_path: Path) -> None:
    tree(tmp_path, {"a.py": b"x"})
    before = tree_digest(tmp_path, suffixes=(".py",))
    tree(tmp_path, {"__pycache__/a.pyc": b"1", "notes.md": b"2", "sub/__pycache__/b.py": b"3"})
    assert tree_digest(tmp_path, suffixes=(".py",)) == before
    assert tree_digest(tmp_path) != before
