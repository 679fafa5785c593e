from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from bundler.artifacts import debian
from bundler.artifacts.debian import Packages, held, sources, unpacked
from bundler.errors import UnreachableError
from tests.support import tinydebian
from tests.support.tinydebian import archive

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = Packages(
    suite="bookworm",
    architecture="arm64",
    names=("pear", "fig"),
    kept=("usr/lib/", "usr/bin/pear"),
)
LISTING = b"pear 1.2-3 " + b"0" * 64 + b"\nlibfig 4 " + b"1" * 64 + b"\n"
DEB822 = """\
# A note: that is no field.
Types: deb deb-src
# another one
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://elsewhere.example/
Suites: bookworm
Components: stable

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no
"""
ONE_LINE = """\
deb [arch=amd64 signed-by=/keys/one.gpg trusted=yes] http://one.example/debian bookworm main
deb http://one.example/security bookworm-security main contrib # a note
deb-src http://one.example/debian bookworm main
deb http://other.example/x ./
"""


TREE = archive(
    ("./packages.txt", LISTING, 0o600),
    ("./usr/bin/pear", b"program", 0o4755),
    ("./usr/bin/pear-of-another-name", b"", 0o755),
    ("./usr/lib/libfig.so.1", "libfig.so.1.0", 0o777),
    ("./usr/lib/libfig.so.1.0", b"library", 0o600),
    ("./usr/lib/fig.so", "/usr/lib/libfig.so.1", 0o777),
    ("./usr/lib/outside", "../../../../../../etc/hostname", 0o777),
    ("./usr/lib/round", "round", 0o777),
    ("./usr/lib/../../escaped", b"", 0o644),
    ("./etc/pear.conf", b"", 0o644),
)


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the program in mmdebstrap's place."""
    folder = tmp_path / "path"
    tinydebian.install(folder, TREE)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(debian, "sources", lambda _: "Types: deb\n")
    return folder


def test_what_is_wanted_of_the_packages_is_unpacked_and_links_become_files(
    tool: Path, tmp_path: Path
) -> None:
    root = unpacked(PACKAGES, tmp_path / "roots")
    assert root.versions == {"pear": "1.2-3", "libfig": "4"}
    files = {p.relative_to(root.path).as_posix(): p for p in root.path.rglob("*") if p.is_file()}
    assert set(files) == {
        *("packages.txt", "usr/bin/pear"),
        *("usr/lib/libfig.so.1", "usr/lib/libfig.so.1.0", "usr/lib/fig.so"),
    }
    assert not any(path.is_symlink() for path in files.values())
    assert files["usr/lib/fig.so"].read_bytes() == b"library"
    assert files["usr/bin/pear"].stat().st_mode & 0o7777 == 0o755
    words = (tool / "words").read_text().splitlines()
    assert {"--architectures=arm64", "--include=pear,fig", "--variant=extract"} <= set(words)
    assert words[-3:-1] == ["bookworm", "-"]
    assert (tool / "sources").read_text() == "Types: deb\n"


def test_what_lies_there_is_not_fetched_again(tool: Path, tmp_path: Path) -> None:
    assert held(PACKAGES, tmp_path / "roots") is None
    first = unpacked(PACKAGES, tmp_path / "roots")
    (tool / "mmdebstrap").unlink()
    assert unpacked(PACKAGES, tmp_path / "roots") == held(PACKAGES, tmp_path / "roots") == first


def test_other_packages_lie_elsewhere() -> None:
    others = (
        Packages(suite="trixie", architecture="arm64", names=PACKAGES.names, kept=PACKAGES.kept),
        Packages(suite="bookworm", architecture="arm64", names=("pear",), kept=PACKAGES.kept),
        Packages(suite="bookworm", architecture="arm64", names=PACKAGES.names, kept=("usr/",)),
    )
    assert len({PACKAGES.folder, *(other.folder for other in others)}) == 4


@pytest.mark.parametrize(
    ("tree", "code"),
    [
        (TREE, 25),
        (b"", 25),
        (b"no tar" * 500, 0),
        (archive(("./usr/bin/pear", b"x", 0o755)), 0),
    ],
)
def test_packages_that_cannot_be_had_leave_nothing(
    tool: Path, tmp_path: Path, tree: bytes, code: int
) -> None:
    tinydebian.install(tool, tree, code=code)
    with pytest.raises(UnreachableError, match="packages are not available") as caught:
        unpacked(PACKAGES, tmp_path / "roots")
    assert caught.value.why == "E: no such suite"
    assert list((tmp_path / "roots").iterdir()) == []


def test_without_the_program_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnreachableError, match="packages are not available") as caught:
        unpacked(PACKAGES, tmp_path / "roots")
    assert caught.value.next_step == "apt-get install mmdebstrap"


def test_a_machine_without_sources_of_debian_needs_debians_keys(
    tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "sources", lambda _: None)
    keyring = tmp_path / "keyring.gpg"
    monkeypatch.setattr(debian, "KEYRING", keyring)
    with pytest.raises(UnreachableError, match="packages are not available") as caught:
        unpacked(PACKAGES, tmp_path / "roots")
    assert caught.value.next_step == "apt-get install debian-archive-keyring"
    keyring.touch()
    assert unpacked(PACKAGES, tmp_path / "roots").versions["pear"] == "1.2-3"
    words = (tool / "words").read_text().splitlines()
    assert f"--keyring={keyring}" in words
    assert words[-2:] == ["bookworm", "-"]


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "etc/sources.list.d").mkdir(parents=True)
    facts = {"ID": "debian", "VERSION_CODENAME": "bookworm"}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: facts)
    return tmp_path / "etc"


def made(etc: Path, suite: str) -> list[str]:
    text = sources(suite, etc=etc)
    return text.split("\n\n") if text else []


def test_the_suite_of_this_machine_keeps_its_updates(etc: Path) -> None:
    (etc / "sources.list.d/debian.sources").write_text(DEB822)
    first, second = made(etc, "bookworm")
    assert first.splitlines() == [
        "Types: deb",
        "URIs: http://mirror.example/debian",
        "Suites: bookworm bookworm-updates",
        "Components: main contrib",
        "Signed-By: /usr/share/keyrings/debian.gpg",
    ]
    assert "Suites: bookworm-security" in second
    assert second.endswith(" mQINBF\n -----END PGP PUBLIC KEY BLOCK-----\n")


def test_another_suite_takes_the_place_of_this_machines(etc: Path) -> None:
    (etc / "sources.list.d/debian.sources").write_text(DEB822)
    (stanza,) = made(etc, "trixie")
    assert stanza == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\n"
        "Components: main contrib\nSigned-By: /usr/share/keyrings/debian.gpg\n"
    )


def test_sources_of_one_line_are_read_too(etc: Path) -> None:
    (etc / "sources.list").write_text(ONE_LINE)
    (stanza,) = made(etc, "trixie")
    assert stanza == (
        "Types: deb\nURIs: http://one.example/debian\nSuites: trixie\n"
        "Components: main\nSigned-By: /keys/one.gpg\nTrusted: yes\n"
    )
    assert [s.splitlines()[2] for s in made(etc, "bookworm")] == [
        "Suites: bookworm",
        "Suites: bookworm-security",
    ]


@pytest.mark.parametrize("facts", [{"ID": "ubuntu", "VERSION_CODENAME": "noble"}, None])
def test_a_machine_without_sources_of_debian_gives_none(
    etc: Path, monkeypatch: pytest.MonkeyPatch, facts: dict[str, str] | None
) -> None:
    def release() -> dict[str, str]:
        if facts is None:
            raise OSError
        return facts

    monkeypatch.setattr(platform, "freedesktop_os_release", release)
    (etc / "sources.list").write_text("deb http://ubuntu.example/ubuntu noble main\n")
    assert made(etc, "trixie") == []
