from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.bootstrap import connection
from bundler.bootstrap.pip_options import configuration_files, pip_environment, pip_options
from bundler.errors import UsageError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return an environment with a home of its own and none of this machine's settings."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "XDG_")) or name in connection.VARIABLES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "xdg"))
    return dict(os.environ)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def pips_own(environ: dict[str, str]) -> dict[str, str]:
    """Return what pip itself says it is configured to do."""
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-m", "pip", "config", "list"],
        env=environ,
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.partition(".")
        if section in sections and option != "config-file":
            # From pip 26 on each file has a line, and the one that decides comes first.
            sections[section].setdefault(option, str(ast.literal_eval(value)))
    found: dict[str, str] = {}
    for options in sections.values():
        found.update({name: value for name, value in options.items() if value})
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="the files' places are Linux'")
def test_pip_itself_reads_the_same(home: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path / "xdg/pip/pip.conf", "[global]\nindex-url = https://a.example\ntimeout = 3\n")
    write(tmp_path / ".pip/pip.conf", "[global]\nproxy = http://old:1\nretries = 9\n")
    write(
        tmp_path / ".config/pip/pip.conf",
        "[global]\nproxy = http://new:1\nuser = false\nextra_index_url =\n  https://b.example\n"
        "  https://ü.example\n[install]\nindex-url = https://c.example\n[download]\ntimeout = 5\n",
    )
    environ = {**home, "PIP_FIND_LINKS": "/x /y", "PIP_TRUSTED_HOST": "h", "PIP_RETRIES": ""}
    found = pip_options(environ)
    assert found == pips_own(environ)
    assert found["index-url"] == "https://c.example"
    assert found["proxy"] == "http://new:1"
    assert found["extra-index-url"].split() == ["https://b.example", "https://ü.example"]
    assert found["retries"] == "9"


@pytest.mark.skipif(sys.platform != "linux", reason="the files' places are Linux'")
@pytest.mark.parametrize("is_there", [True, False])
def test_a_named_file_replaces_the_users_where_it_is_there(
    home: dict[str, str], tmp_path: Path, *, is_there: bool
) -> None:
    write(tmp_path / ".config/pip/pip.conf", "[global]\nindex-url = https://user.example\n")
    named = tmp_path / "named.conf"
    if is_there:
        write(named, "[global]\nproxy = http://p:1\n")
    environ = {**home, "PIP_CONFIG_FILE": str(named)}
    found = pip_options(environ)
    assert found == pips_own(environ)
    assert ("index-url" in found) is not is_there


def test_no_file_is_read_where_the_null_device_is_named(home: dict[str, str]) -> None:
    assert list(configuration_files({**home, "PIP_CONFIG_FILE": os.devnull})) == []


@pytest.mark.parametrize("data", [b"index-url = x\n", b"[global\n", b"[global]\nx = \xff\xfe\n"])
def test_a_file_that_cannot_be_read_is_named(
    home: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr("locale.getpreferredencoding", lambda _: "utf-8")
    path = tmp_path / "named.conf"
    path.write_bytes(data)
    with pytest.raises(UsageError, match="pip's configuration cannot be read") as caught:
        pip_options({**home, "PIP_CONFIG_FILE": str(path)})
    assert str(path) in caught.value.why


def test_a_file_in_the_encoding_of_the_machine_is_read(
    home: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("locale.getpreferredencoding", lambda _: "latin-1")
    path = tmp_path / "named.conf"
    path.write_bytes("[global]\nindex-url = https://ü.example\n".encode("latin-1"))
    found = pip_options({**home, "PIP_CONFIG_FILE": str(path)})
    assert found["index-url"] == "https://ü.example"


def test_certificates_of_other_programs_count_for_pip(home: dict[str, str]) -> None:
    environ = {**home, "PIP_CONFIG_FILE": os.devnull, "SSL_CERT_FILE": "/ssl.pem"}
    assert pip_options(environ)["cert"] == "/ssl.pem"
    assert pip_options({**environ, "REQUESTS_CA_BUNDLE": "/r.pem"})["cert"] == "/r.pem"
    assert pip_options({**environ, "PIP_CERT": "/pip.pem"})["cert"] == "/pip.pem"


def test_pip_is_told_where_from_and_not_where_to() -> None:
    given = {
        "PATH": "/bin",
        "PIP_USER": "1",
        "PIP_CONFIG_FILE": "/my.conf",
        "PYTHONPATH": "/other",
    }
    options = {
        "user": "1",
        "target": "/t",
        "prefix": "/p",
        "root": "/r",
        "python": "/q",
        "dry-run": "1",
        "no-binary": ":all:",
        "constraint": "/c",
        "index-url": "https://i.example",
        "proxy": "http://p:1",
        "default-timeout": "9",
    }
    assert pip_environment(given, options, None) == {
        "PATH": "/bin",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "https://i.example",
        "PIP_PROXY": "http://p:1",
        "PIP_DEFAULT_TIMEOUT": "9",
    }
    told = pip_environment(given, options, Path("/made.pem"))
    assert told["PIP_CERT"] == "/made.pem"


@pytest.mark.parametrize(
    ("system", "paths"),
    [
        ("win32", ["/programs/pip/pip.ini", "/home/me/pip/pip.ini", "/roaming/pip/pip.ini"]),
        (
            "darwin",
            [
                "/Library/Application Support/pip/pip.conf",
                "/home/me/.pip/pip.conf",
                "/home/me/.config/pip/pip.conf",
            ],
        ),
    ],
)
def test_other_systems_keep_it_elsewhere(
    monkeypatch: pytest.MonkeyPatch, system: str, paths: list[str]
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setenv("HOME", "/home/me")
    found = configuration_files({"PROGRAMDATA": "/programs", "APPDATA": "/roaming"})
    assert [path.as_posix() for path in found][:3] == paths
