"""The runtime lock: what is read, what is refused, what a refresh writes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pbs_installer
import pytest

from bundler.errors import BundlerError, PolicyError, UnsupportedError, UsageError
from bundler.locks import runtime
from bundler.project import Project
from bundler.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHA256 = "a" * 64
URL = (
    "https://example.test/releases/20261021/"
    "cpython-3.11.17%2B20261021-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz"
)
LINES = {
    "version": "3.11.17",
    "tag": "20261021",
    "triple": "x86_64-unknown-linux-gnu",
    "flavour": "install_only_stripped",
    "url": URL,
    "sha256": SHA256,
}


def lock(table: str = "linux-x64", *, without: str = "", **changes: str) -> str:
    lines = {**LINES, **changes}
    lines.pop(without, None)
    return f"[{table}]\n" + "".join(f'{key} = "{value}"\n' for key, value in lines.items())


def test_a_lock_gives_the_archive_its_name_and_hash() -> None:
    spec = runtime.parse_lock(lock())["linux-x64"]
    assert spec.artifact.name == (
        "cpython-3.11.17+20261021-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz"
    )
    assert spec.artifact.digest.sha256 == SHA256
    assert (spec.version, spec.tag, spec.url) == ("3.11.17", "20261021", URL)


def test_a_mirror_in_the_lock_changes_nothing_but_the_address() -> None:
    mirrored = URL.replace("example.test/releases", "mirror.test/a%20b")
    spec = runtime.parse_lock(lock(url=mirrored))["linux-x64"]
    assert replace(spec, url=URL) == runtime.parse_lock(lock())["linux-x64"]


@pytest.mark.parametrize("key", sorted(LINES))
def test_an_entry_without_one_of_its_keys_is_refused_by_name(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        runtime.parse_lock(lock(without=key))
    assert "[linux-x64]" in caught.value.what
    assert caught.value.why == f"it lacks {key}"
    assert caught.value.exit_code == 2


def test_an_empty_hash_is_a_missing_hash() -> None:
    with pytest.raises(UsageError, match="linux-x64") as caught:
        runtime.parse_lock(lock(sha256=""))
    assert caught.value.why == "it lacks sha256"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (lock(sha256="A" * 64), "not a sha256"),
        (lock(sha256="a" * 63), "not a sha256"),
        (lock(colour="blue"), "unknown keys: colour"),
        (lock("linux-mips"), "there is no such target"),
        (lock("mac-arm64"), "is not aarch64-apple-darwin"),
        (lock(version="3.12.1"), "is not a 3.11 release"),
        (lock(version="3.11"), "is not a 3.11 release"),
        (lock(tag="latest"), "is not a release's date"),
        (lock(flavour="pgo+lto-full"), "is not install_only_stripped"),
        (lock(url=URL.replace("https", "http")), "not an https address"),
        (lock(url=URL.replace("3.11.17", "3.11.16")), "not an https address of cpython-3.11.17"),
        (lock(url="https://[" + URL), "Invalid IPv6 URL"),
        ("linux-x64 = 3\n", "not a table"),
        (lock().replace('"20261021"', "20261021"), "tag is not a string"),
    ],
)
def test_an_entry_that_contradicts_itself_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        runtime.parse_lock(text)
    assert why in caught.value.why
    assert caught.value.next_step == "python3 build lock --runtime"


def test_text_that_is_not_toml_is_refused_with_the_line() -> None:
    with pytest.raises(UsageError, match="not TOML") as caught:
        runtime.parse_lock("[linux-x64\n")
    assert "line 1" in caught.value.why


def test_a_lock_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read") as caught:
        runtime.read_lock(tmp_path / "runtime.lock.toml")
    assert caught.value.next_step == "python3 build lock --runtime"


def test_a_lock_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runtime.lock.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError) as caught:
        runtime.read_lock(path)
    assert caught.value.why == "it is not UTF-8"


def test_what_is_rendered_reads_back_the_same() -> None:
    fresh = runtime.refresh(TARGETS.values())
    assert runtime.parse_lock(runtime.render(fresh)) == fresh


def test_rendering_follows_the_targets_whatever_order_they_come_in() -> None:
    fresh = runtime.refresh(TARGETS.values())
    backwards = dict(reversed(list(fresh.items())))
    assert runtime.render(backwards) == runtime.render(fresh)
    tables = [line for line in runtime.render(fresh).splitlines() if line.startswith("[")]
    assert tables == [f"[{name}]" for name in TARGETS]


def test_a_refresh_locks_one_version_for_every_target() -> None:
    fresh = runtime.refresh(TARGETS.values())
    assert set(fresh) == set(TARGETS)
    assert len({(spec.version, spec.tag) for spec in fresh.values()}) == 1
    assert len({spec.artifact.digest.sha256 for spec in fresh.values()}) == len(TARGETS)


def test_the_committed_lock_is_one_that_a_refresh_wrote() -> None:
    path = Project.here().runtime_lock
    locked = runtime.read_lock(path)
    assert set(locked) == set(TARGETS)
    assert path.read_text(encoding="utf-8") == runtime.render(locked)


def test_writing_replaces_the_lock_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "runtime.lock.toml"
    path.write_text("old", encoding="utf-8")
    runtimes = runtime.parse_lock(lock())
    runtime.write_lock(path, runtimes)
    assert runtime.read_lock(path) == runtimes
    assert [entry.name for entry in tmp_path.iterdir()] == ["runtime.lock.toml"]


class Catalogue:
    """A stand-in for pbs-installer's table: version and hash per architecture and platform."""

    def __init__(self, *, hashes: bool = True, triple: str | None = None) -> None:
        self.newest = {"linux": 17, "macos": 16, "windows": 17}
        self.hashes = hashes
        self.triple = triple

    def get_download_link(
        self, request: str, *, arch: str, platform: str, implementation: str, base_url: str
    ) -> tuple[pbs_installer.PythonVersion, tuple[str, str | None]]:
        assert (implementation, base_url) == ("cpython", "")
        micro = int(request.split(".")[2]) if request.count(".") == 2 else self.newest[platform]
        if micro > self.newest[platform]:
            message = f"Could not find {request}"
            raise ValueError(message)
        suffix = {"linux": "unknown-linux-gnu", "macos": "apple-darwin"}.get(
            platform, "pc-windows-msvc"
        )
        name = runtime.archive_name(
            version=f"3.11.{micro}",
            tag="20261021",
            triple=self.triple or f"{arch}-{suffix}",
            flavour=runtime.FLAVOUR,
        )
        url = f"https://example.test/20261021/{name.replace('+', '%2B')}"
        version = pbs_installer.PythonVersion("cpython", 3, 11, micro)
        return version, (url, SHA256 if self.hashes else None)


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[[Catalogue], None]:
    def replace_table(catalogue: Catalogue) -> None:
        monkeypatch.setattr(pbs_installer, "get_download_link", catalogue.get_download_link)

    return replace_table


def test_a_target_that_lags_behind_holds_the_others_back(
    publish: Callable[[Catalogue], None],
) -> None:
    publish(Catalogue())
    fresh = runtime.refresh(TARGETS.values())
    assert {spec.version for spec in fresh.values()} == {"3.11.16"}


def test_an_archive_without_a_hash_is_refused(publish: Callable[[Catalogue], None]) -> None:
    publish(Catalogue(hashes=False))
    with pytest.raises(PolicyError, match="linux-x64 has no hash") as caught:
        runtime.refresh([TARGETS["linux-x64"]])
    assert caught.value.exit_code == 7


def test_an_archive_for_another_system_is_refused(publish: Callable[[Catalogue], None]) -> None:
    publish(Catalogue(triple="x86_64-unknown-linux-musl"))
    with pytest.raises(UnsupportedError) as caught:
        runtime.refresh([TARGETS["linux-x64"]])
    assert "x86_64-unknown-linux-gnu" in caught.value.why


def test_a_target_that_nobody_publishes_ends_with_code_10(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_request: object, **_rest: object) -> None:
        message = "Could not find a version"
        raise ValueError(message)

    monkeypatch.setattr(pbs_installer, "get_download_link", nothing)
    with pytest.raises(BundlerError, match="no runtime is published") as caught:
        runtime.refresh([TARGETS["win-x64"]])
    assert caught.value.exit_code == 10
    assert caught.value.why == "Could not find a version"


def test_a_refresh_of_nothing_is_nothing() -> None:
    assert runtime.refresh([]) == {}
