from __future__ import annotations

import errno
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bundler import launch
from bundler import launch as serving
from bundler.console import Console
from bundler.errors import AddressInUseError, UsageError
from bundler.launch import check_free, check_options, serve
from bundler.project import Project
from tests.support import stub_service

if TYPE_CHECKING:
    from collections.abc import Sequence

READY = 'print(\'PROGRESS:{"type": "ready", "data": {"port": 4711}}\', flush=True)\n'


def fake(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Make every bundle's service the Python program `code`."""

    def command(_: Path, arguments: Sequence[str], *_rest: object) -> list[str]:
        return [sys.executable, "-I", "-c", code, *arguments]

    monkeypatch.setattr(launch, "command", command)


def test_the_services_options_are_judged_by_the_service() -> None:
    service = Project.here().service
    check_options(service, [])
    check_options(service, ["--allow-dir", str(service), "--engine", "hash"])
    with pytest.raises(UsageError, match="--alow-dir; did you mean --allow-dir") as caught:
        check_options(service, ["--alow-dir", "s3cret"])
    assert "s3cret" not in caught.value.render()
    assert caught.value.next_step == "python3 build up -- --help"
    with pytest.raises(UsageError, match="not a folder") as caught:
        check_options(service, ["--allow-dir", str(service / "__main__.py")])
    assert caught.value.why == str(service / "__main__.py")
    assert caught.value.next_step == "name the folder around it"


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_what_the_service_tells_of_itself_ends_the_command(
    word: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        check_options(Project.here().service, [word])
    assert ended.value.code == 0
    assert capfd.readouterr().out


def test_a_free_port_and_any_port_pass() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    check_free(port)
    check_free(0)


def test_a_taken_port_is_known_before_any_work_is_done() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(AddressInUseError) as caught:
            check_free(listener.getsockname()[1])
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("code", [0, 3, 11])
def test_the_exit_code_is_the_services(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    fake(monkeypatch, f"raise SystemExit({code})")
    stream = io.StringIO()
    assert serve(tmp_path, 0, (), Console(stream)) == code
    assert stream.getvalue() == ""


def test_a_service_that_was_killed_ends_as_shells_say_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake(monkeypatch, "import os\nos.kill(os.getpid(), 9)")
    assert serve(tmp_path, 0, (), Console(io.StringIO())) == 137


def test_its_real_port_is_told_once_it_is_ready(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake(monkeypatch, READY + "import sys\nprint(*sys.argv[1:], file=open(sys.argv[-1], 'w'))")
    stream = io.StringIO()
    assert serve(tmp_path, 0, (str(tmp_path / "seen"),), Console(stream)) == 0
    assert "ready: http://127.0.0.1:4711" in stream.getvalue()
    assert (tmp_path / "seen").read_text(encoding="utf-8").startswith("--log-format text --port 0 ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_reaches_the_service_and_counts_as_success(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals
) -> None:
    fake(monkeypatch, READY + "import time\ntime.sleep(60)")
    before = signal.getsignal(number)
    stream = io.StringIO()

    def stop_once_ready() -> None:
        while "ready" not in stream.getvalue():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=stop_once_ready)
    thread.start()
    assert serve(tmp_path, 0, (), Console(stream)) == 0
    thread.join()
    assert signal.getsignal(number) is before


def test_on_windows_a_stop_is_a_request_and_the_exit_code_the_services(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launch, "IS_WINDOWS", True)
    monkeypatch.setattr(launch, "apart", lambda **_: (0, None))
    monkeypatch.setattr(
        launch,
        "command",
        lambda _, arguments: [sys.executable, "-B", stub_service.__file__, *arguments],
    )
    sent: list[int] = []
    monkeypatch.setattr(subprocess.Popen, "send_signal", lambda _, number: sent.append(number))
    stream = io.StringIO()

    def stop_once_ready() -> None:
        while "ready" not in stream.getvalue():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=stop_once_ready)
    thread.start()
    assert serve(Path("bundle"), 0, (), Console(stream)) == 0
    thread.join()
    assert sent == []
    assert stream.getvalue().endswith("stopped\n")


def test_windows_ctrl_break_is_not_passed_on_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(serving, "HEARD", signal.SIGINT)
    heard = tmp_path / "heard"
    fake(
        monkeypatch,
        f"{READY}import os, time\nwhile not os.path.exists({str(heard)!r}): time.sleep(0.02)\n"
        "raise SystemExit(5)",
    )
    stream = io.StringIO()

    def stop_once_ready() -> None:
        while "ready" not in stream.getvalue():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)
        heard.write_bytes(b"")

    thread = threading.Thread(target=stop_once_ready)
    thread.start()
    assert serve(tmp_path, 0, (), Console(stream)) == 5
    thread.join()


def test_on_windows_the_port_is_tried_for_us_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[int] = []

    class Windows(socket.socket):
        """Refuses a port that another program has for itself alone, with Windows' own number."""

        def setsockopt(self, *arguments: Any) -> None:
            options.append(arguments[1])

        def bind(self, _address: Any) -> None:
            error = OSError(errno.EACCES, "access forbidden by its access permissions")
            error.winerror = 10013  # type: ignore[attr-defined]
            raise error

    monkeypatch.setattr(socket, "socket", Windows)
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", -5, raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(AddressInUseError):
        check_free(8421)
    assert options == [-5]
