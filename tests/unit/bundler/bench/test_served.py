from __future__ import annotations

import socket
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundler.bench.served import CHECKOUT, free_port, from_bundle, from_checkout, start
from bundler.errors import SmokeError, UsageError
from tests.support.benched import ROOT, stub_program

if TYPE_CHECKING:
    from pathlib import Path


def test_a_service_is_watched_from_its_start_to_its_first_vector() -> None:
    running = start(stub_program(), "first")
    try:
        found = running.start
        assert 0 < found.port_s <= found.ready_s <= found.vector_s
        assert found.phases[-1][0] == "ready"
        assert running.info["dim"] > 0
        assert running.pid == running.service.process.pid
    finally:
        assert running.service.stop() == 0


def test_a_service_that_ends_leaves_its_last_words() -> None:
    with pytest.raises(SmokeError) as caught:
        start(stub_program("--host", "192.0.2.1"), "first")
    assert "exit code 2" in caught.value.why


def test_a_service_is_told_its_threads_behind_its_options() -> None:
    program = replace(stub_program("--engine", "packed"), threads=3)
    assert program.settings() == ("--engine", "packed", "--threads", "3")


def test_a_bundle_is_told_to_take_a_model_that_it_does_not_vouch_for(tmp_path: Path) -> None:
    bundle = replace(stub_program(), origin="bundle x").with_model(tmp_path)
    assert bundle.options == ("--allow-download", "--model", str(tmp_path))
    assert stub_program().with_model(tmp_path).options == ("--model", str(tmp_path))


def test_the_sources_are_run_by_this_python() -> None:
    program = from_checkout(ROOT / "service", threads=2)
    assert program.words == (sys.executable, "-I", "-B", str(ROOT / "service"))
    assert program.origin == CHECKOUT


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no bundle") as caught:
        from_bundle(tmp_path, threads=1)
    assert "assemble" in caught.value.next_step


def test_a_free_port_can_be_bound() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free_port()))
