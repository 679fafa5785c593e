"""What the command line does before and after it serves, without a process of its own."""

from __future__ import annotations

import json
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from sidecar import cli, manifest
from sidecar.errors import AddressInUseError, ModelError, ServiceError, UnsupportedError, UsageError
from sidecar.process import credentials, logs, signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sidecar.settings import Settings

TOKEN = "0123456789" * 2


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record what the command line does, in order, and do none of it."""
    done: list[str] = []

    def step(name: str) -> Any:
        def record(*_: Any, **__: Any) -> str:
            done.append(name)
            return name

        return record

    served: Any = ModuleType("sidecar.server")

    def serve(settings: Any, *, sock: Any, stop: Any, events: Any) -> int:
        done.append("serve")
        assert (sock, events) == ("listen", "claim")
        assert isinstance(stop, signals.Stop)
        assert settings.port == 8421
        assert settings.token in (None, TOKEN.encode())
        return 0

    served.serve = serve
    monkeypatch.setitem(sys.modules, "sidecar.server", served)
    monkeypatch.setattr("sidecar.server", served, raising=False)
    monkeypatch.setattr(signals, "install", step("signals"))
    monkeypatch.setattr(signals, "watch", step("watch"))
    monkeypatch.setattr(cli, "claim_stdout", step("claim"))
    monkeypatch.setattr(cli, "listen", step("listen"))
    monkeypatch.setattr(cli, "raise_limit", step("limit"))
    monkeypatch.setattr(credentials, "from_stdin", step_token(done))
    monkeypatch.setattr(logs, "configure", step("logs"))
    return done


def step_token(done: list[str]) -> Callable[[], bytes]:
    def read() -> bytes:
        done.append("token")
        return TOKEN.encode()

    return read


def test_the_token_of_the_environment_is_gone_before_anything_else(
    steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIDECAR_TOKEN", TOKEN)
    assert cli.main([]) == 0
    assert steps[-1] == "serve"
    assert "SIDECAR_TOKEN" not in os.environ
    with pytest.raises(SystemExit):
        cli.main(["--token-stdin", "--token-file", "x"])
    monkeypatch.setenv("SIDECAR_TOKEN", "")
    with pytest.raises(UsageError):
        cli.main([])


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    codes: list[int] = []
    monkeypatch.setattr(signals, "exit_at_once", codes.append)
    return codes


def test_signals_are_handled_and_the_port_is_taken_before_anything_is_served(
    steps: list[str],
) -> None:
    assert cli.main([]) == 0
    assert steps == ["logs", "signals", "watch", "claim", "listen", "limit", "serve"]
    del steps[:]
    assert cli.main(["--token-stdin"]) == 0
    assert steps == ["logs", "signals", "watch", "claim", "listen", "limit", "token", "serve"]


def test_the_parent_is_watched_only_when_asked_and_stdin_is_read_last(
    steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Recorded:
        def __init__(self, _stop: signals.Stop) -> None:
            steps.append("lease")

        def begin(self) -> None:
            steps.append("begin")

        def listen(self) -> None:
            steps.append("listen to stdin")

    monkeypatch.setattr(cli, "ParentWatch", Recorded)
    assert cli.main(["--parent-watch"]) == 0
    port = ["claim", "listen", "limit"]
    begun = ["logs", "signals", "watch", "lease", "begin"]
    assert steps == [*begun, *port, "listen to stdin", "serve"]
    del steps[:]
    assert cli.main(["--parent-watch", "--token-stdin"]) == 0
    assert steps == [*begun, *port, "token", "listen to stdin", "serve"]


def test_who_holds_a_taken_port_is_asked_before_it_is_told(
    steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(*_: object, **__: object) -> None:
        raise AddressInUseError("taken")

    def name(error: AddressInUseError, host: str, port: int) -> AddressInUseError:
        assert (str(error), host, port) == ("taken", "127.0.0.1", 8421)
        return AddressInUseError("taken by somebody")

    monkeypatch.setattr(cli, "listen", taken)
    monkeypatch.setattr("sidecar.process.listener.named", name)
    with pytest.raises(AddressInUseError, match="taken by somebody"):
        cli.main([])
    assert "serve" not in steps


def test_a_system_that_is_too_old_is_told_before_the_port_is_taken(
    steps: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_floor: object) -> None:
        raise UnsupportedError("too old")

    monkeypatch.setattr("sidecar.manifest.read", lambda _root: type("M", (), {"floor": {}}))
    monkeypatch.setattr("sidecar.process.min_system.require", refuse)
    with pytest.raises(UnsupportedError):
        cli.main([], service=tmp_path / manifest.BUNDLED_NAME)
    assert steps == ["logs", "signals", "watch"]


def test_outside_of_a_bundle_a_default_one_serves_unless_options_say_what(
    steps: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Path | None] = []

    def serve(settings: Settings, **_: object) -> int:
        served.append(settings.bundle)
        return 0

    monkeypatch.setattr("sidecar.server.serve", serve)

    def default() -> Path:
        steps.append("default")
        return tmp_path

    for argv in ([], ["--model", "x"], ["--engine", "hash"]):
        assert cli.main(argv, service=tmp_path / "service", default=default) == 0
    assert served == [tmp_path, None, None]
    assert cli.main([], service=tmp_path / manifest.BUNDLED_NAME, default=default) == 0
    assert steps.count("default") == 1


def test_a_processor_that_is_too_old_is_told_before_the_port_is_taken(
    steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIDECAR_CPU_LACKS", "x86-64-v2")
    with pytest.raises(UnsupportedError, match="x86-64-v2"):
        cli.main([])
    assert "listen" not in steps


def test_a_processor_can_be_told_to_lack_the_byte_instructions() -> None:
    features = cli.features_from({"SIDECAR_CPU_LACKS": "byte-products"})
    settings = cli.settings_from(cli.parser().parse_args([]), bundle=None, features=features)
    assert settings.has_byte_products is False
    with pytest.raises(UsageError, match="SIDECAR_CPU_LACKS") as caught:
        cli.features_from({"SIDECAR_CPU_LACKS": "avx9"})
    assert "avx9" in caught.value.why


def test_a_bundle_without_a_manifest_is_judged_where_the_model_is_verified(
    steps: list[str], tmp_path: Path
) -> None:
    assert cli.main([], service=tmp_path / manifest.BUNDLED_NAME) == 0
    assert steps[-1] == "serve"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ServiceError("what"), 1),
        (AddressInUseError("what", why="why", next_step="next"), 3),
        (ModelError("what \ud800"), 11),
        (ZeroDivisionError("a secret"), 1),
        (KeyboardInterrupt(), 0),
    ],
)
@pytest.mark.usefixtures("logging_as_before")
def test_process_ends_with_the_errors_code_and_line(
    monkeypatch: pytest.MonkeyPatch, ended: list[int], error: BaseException, code: int
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise error

    reading, writing = os.pipe()
    monkeypatch.setattr(logs, "STDERR", writing)
    monkeypatch.setattr(cli, "main", fail)
    with pytest.raises(SystemExit) as caught:
        cli.run([])
    os.close(writing)
    with os.fdopen(reading, "rb") as talk:
        said = talk.read()
    assert (ended, caught.value.code) == ([code], code)
    if isinstance(error, KeyboardInterrupt):
        assert said == b""
        return
    line = json.loads(said)
    assert line["level"] == "error"
    assert "secret" not in said.decode()
    if isinstance(error, ServiceError):
        assert line["message"].startswith("what")
        assert line["exit_code"] == code
        assert (line.get("why", ""), line.get("next", "")) == (error.why, error.next_step)
    else:
        assert (line["error"], code) == ("ZeroDivisionError", 1)


@pytest.mark.usefixtures("logging_as_before")
def test_a_service_that_stopped_ends_with_0(
    monkeypatch: pytest.MonkeyPatch, ended: list[int]
) -> None:
    monkeypatch.setattr(cli, "main", lambda *_, **__: 0)
    with pytest.raises(SystemExit):
        cli.run([])
    assert ended == [0]


def test_the_names_that_clients_call_us_by_are_spelled_as_headers_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = cli.parser().parse_args(
        ["--allow-host", "Side.Car", "--allow-host", "::1", "--allow-host", "*"]
    )
    settings = cli.settings_from(options, bundle=None)
    assert settings.allow_hosts == ("side.car", "[::1]", "*")
    with pytest.raises(SystemExit) as caught:
        cli.parser().parse_args(["--allow-host", "http://a:1"])
    assert caught.value.code == 2
    assert "--allow-host" in capsys.readouterr().err


def test_origins_are_taken_whole_and_a_wrong_one_ends_the_start() -> None:
    given = ["--allow-origin", "app://obsidian.md", "--allow-origin", "http://localhost:3000"]
    settings = cli.settings_from(cli.parser().parse_args(given), bundle=None)
    assert settings.allow_origins == ("app://obsidian.md", "http://localhost:3000")
    with pytest.raises(UsageError):
        cli.main(["--check-options", "--allow-origin", "*"])


def test_values_out_of_range_and_cut_options_are_usage_errors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments in (
        ["--port", "65536"],
        ["--port", "-1"],
        ["--port", "x"],
        ["--max-body-mb", "1025"],
        ["--max-body-mb", "0"],
        ["--document-seconds", "0"],
        ["--document-cpu-seconds", "3601"],
        ["--device", "tpu"],
        ["--por", "1"],
        ["--instance", "short"],
        ["--instance", "an id with spaces"],
        ["--instance", "x" * 65],
    ):
        with pytest.raises(SystemExit) as caught:
            cli.parser().parse_args(arguments)
        assert caught.value.code == 2
    assert "whole number from" in capsys.readouterr().err


def test_a_folder_that_is_a_file_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    options = cli.parser().parse_args(["--allow-dir", str(tmp_path / "a")])
    with pytest.raises(ServiceError, match="not a folder"):
        cli.settings_from(options, bundle=None)
