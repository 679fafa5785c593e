from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sidecar import __version__, cli, manifest
from sidecar.errors import UsageError
from sidecar.process import cores
from sidecar.settings import Bounds, Limits

if TYPE_CHECKING:
    from sidecar.settings import Settings

SERVICE = Path(cli.__file__).parents[1]
HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "fastapi",
    "uvicorn",
    "pydantic",
    "numpy",
)
FORMS = [[str(SERVICE)], [str(SERVICE / "embed_server.py")]]


def start(
    *arguments: str, form: list[str] = FORMS[0], flags: tuple[str, ...] = ("-I", "-B")
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, *form, *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        env={},
        cwd="/",
    )


@pytest.mark.parametrize("form", FORMS, ids=["folder", "script"])
@pytest.mark.parametrize("flags", [("-I", "-B"), ()], ids=["isolated", "plain"])
def test_it_starts_in_every_form_from_any_folder(form: list[str], flags: tuple[str, ...]) -> None:
    assert start("--version", form=form, flags=flags).stdout == f"{__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import runpy, sys\n"
        f"sys.argv = [{str(SERVICE)!r}, '--help']\n"
        "import os\n"
        "def leave(code):\n"
        f"    sys.stderr.write(repr([m for m in {HEAVY!r} if m in sys.modules]))\n"
        "    sys.stdout.flush()\n"
        "    sys.stderr.flush()\n"
        "    real(code)\n"
        "real, os._exit = os._exit, leave\n"
        "try:\n"
        f"    runpy.run_path({str(SERVICE)!r}, run_name='__main__')\n"
        "except SystemExit:\n"
        "    leave(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", program],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert "--port" in done.stdout
    assert done.stderr == "[]"


def test_a_busy_port_exits_3_before_anything_heavy_is_imported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # A model that is not there would be exit 5: the port is asked first.
        done = start("--port", str(port), "--model", "no/such-model")
    assert done.returncode == 3
    assert done.stdout == ""
    assert f"port {port}" in done.stderr
    assert json.loads(done.stderr)["next"].endswith("--port 0")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--token=s3cret"], ["--token", "s3cret"], ["s3cret"], ["-t", "s3cret"]]
)
def test_no_value_of_a_mistyped_option_is_repeated(arguments: list[str]) -> None:
    done = start(*arguments)
    assert done.returncode == 2
    assert "unrecognized arguments" in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["--prot", "1"], "unrecognized arguments: --prot; did you mean --port?"),
        (["--token", "x"], "--token; did you mean --token-stdin or --token-file?"),
        (["--th", "2"], "--th; did you mean --threads?"),
        (["--engine", "pakced"], "; did you mean packed?"),
        (["--device", "gpu"], "'mps')\n"),
        (["--port", "nonsense"], "'nonsense' is not a whole number from 0 to 65535"),
    ],
    ids=str,
)
def test_what_is_mistyped_leads_to_what_was_meant_below_the_usage(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.parser().parse_args(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: embedding_sidecar ")
    assert meant in said.splitlines(keepends=True)[-1]


def test_options_can_be_checked_without_serving(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        options = ["--check-options", "--port", port, "--parent-watch", "--token-stdin"]
        done = start(*options, "--allow-dir", str(tmp_path))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        (tmp_path / "file").touch()
        done = start(*options, "--allow-dir", str(tmp_path / "file"))
        assert done.returncode == 2
        assert "--allow-dir names a file, not a folder" in done.stderr
        done = start(*options, "--precision", "int8", "--engine", "reference")
        assert done.returncode == 2
        assert "--precision int8 cannot be served here" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "70000"],
        ["--nonsense"],
        ["--threads", "0"],
        ["--allow-dir=--"],
        ["--allow-dir", __file__],
        ["--host", "0.0.0.0", "--port", "0"],
        ["--host", "no-such-host.invalid", "--port", "0"],
        ["--host", "192.0.2.1", "--port", "0", "--allow-remote"],
    ],
    ids=str,
)
def test_usage_errors_exit_2_without_a_traceback(arguments: list[str]) -> None:
    done = start(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_bundle_without_a_manifest_exits_4(tmp_path: Path) -> None:
    home = tmp_path / "é app" / "embedding_sidecar"
    home.parent.mkdir()
    home.symlink_to(SERVICE)
    done = start("--port", "0", form=[str(home)])
    assert done.returncode == 4, done.stderr
    assert "manifest.json" in done.stderr


def parse(*arguments: str, bundle: Path | None = None) -> Settings:
    return cli.settings_from(cli.parser().parse_args(arguments), bundle=bundle)


def test_the_defaults_are_those_of_v1() -> None:
    settings = parse()
    assert (settings.host, settings.port, settings.device) == ("127.0.0.1", 8421, "auto")
    assert not settings.allow_download
    assert not settings.allow_remote
    assert settings.allow_dirs == ()


def test_allowed_folders_are_resolved_and_repeatable(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    settings = parse("--allow-dir", str(tmp_path / "link"), "--allow-dir", str(tmp_path))
    assert settings.allow_dirs == ((tmp_path / "real").resolve(), tmp_path.resolve())


def test_an_allowed_folder_that_is_missing_is_kept_for_later(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "drive")
    settings = parse("--allow-dir", str(tmp_path / "link" / "none"), "--allow-dir", "a" * 300)
    assert settings.allow_dirs == (
        (tmp_path / "drive" / "none").resolve(),
        Path("a" * 300).absolute(),
    )
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UsageError):
        parse("--allow-dir", str(tmp_path / "loop"))


def test_the_first_of_several_models_is_the_one_of_before() -> None:
    assert (parse().model, parse().more_models) == (None, ())
    assert (parse("--model", "a").model, parse("--model", "a").more_models) == ("a", ())
    settings = parse("--model", "a", "--model", "b", "--model", "c")
    assert (settings.model, settings.more_models) == ("a", ("b", "c"))


def test_models_stay_in_memory_unless_something_else_is_asked() -> None:
    assert (parse().idle_unload_s, parse().max_memory_bytes) == (None, None)
    settings = parse("--idle-unload", "300", "--max-memory", "700")
    assert (settings.idle_unload_s, settings.max_memory_bytes) == (300, 700 << 20)


def test_the_body_limit_is_in_mebibytes() -> None:
    assert parse("--max-body-mb", "3").limits.max_body_bytes == 3 << 20


def test_connections_are_closed_by_age_only_where_that_is_asked() -> None:
    assert parse("--max-connection-age", "7").bounds.max_age_s == 7
    assert parse().bounds == Bounds()


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit of files")
@pytest.mark.parametrize(("files", "idle"), [(400, 100), (4096, 128), (3, 1)])
def test_idle_connections_have_a_quarter_of_the_files_at_most(
    monkeypatch: pytest.MonkeyPatch, files: int, idle: int
) -> None:
    import resource  # noqa: PLC0415 (not on Windows)

    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert cli.bounded(Bounds()).max_idle == idle


def test_the_time_for_a_document_is_in_seconds() -> None:
    limits = parse("--document-cpu-seconds", "3", "--document-seconds", "7").limits
    assert (limits.document_cpu_s, limits.document_wall_s) == (3, 7)
    assert parse().limits == Limits()


def test_threads_are_as_many_as_asked_for_or_one_per_core() -> None:
    assert parse("--threads", "3").threads == 3
    assert parse().threads == cores.count()


def test_vectors_are_exact_unless_bytes_are_asked_for() -> None:
    assert parse().precision == "float32"
    assert parse("--precision", "int8").precision == "int8"


def test_a_bundle_is_known_by_its_folders_name_or_its_manifest(tmp_path: Path) -> None:
    assert manifest.find_bundle(tmp_path / "embedding_sidecar") == tmp_path
    assert manifest.find_bundle(tmp_path / "service") is None
    (tmp_path / "manifest.json").write_bytes(b"")
    assert manifest.find_bundle(tmp_path / "service") == tmp_path
