from __future__ import annotations

import random
from typing import TYPE_CHECKING

from bundler.bundle import read_bundle
from bundler.electron import integration
from bundler.electron.integration import (
    NSIS_BYTES,
    Payload,
    PayloadPart,
    payload_findings,
    payload_table,
    weigh_payload,
)
from bundler.targets import TARGETS
from tests.support import smallbundle

if TYPE_CHECKING:
    from pathlib import Path

    from bundler.bundle import ListedBundle

MB = 1_000_000


def of(**sizes: tuple[int, int]) -> Payload:
    parts = [
        PayloadPart(name=name, files=1, size=size, packed=packed)
        for name, (size, packed) in sizes.items()
    ]
    return Payload(target="win-x64", parts=tuple(parts))


def made(root: Path, target: str, files: dict[str, bytes] | None = None) -> ListedBundle:
    return read_bundle(smallbundle.make(root, target, files))


def test_every_component_is_weighed_and_the_sum_is_the_bundles(tmp_path: Path) -> None:
    found = weigh_payload(made(tmp_path, "win-x64"))
    assert [part.name for part in found.parts] == ["python", "models", "service"]
    assert found.whole.size == sum(len(data) for data in _contents().values())
    assert found.whole.files == len(_contents())
    assert 0 < found.whole.packed < found.whole.size


def _contents() -> dict[str, bytes]:
    return smallbundle.contents(TARGETS["win-x64"])


def test_what_does_not_shrink_is_taken_whole_and_what_does_is_not(tmp_path: Path) -> None:
    files = {
        "python/noise": random.Random(1).randbytes(MB // 4),
        "models/zeros": bytes(MB // 4),
        "embedding_sidecar/empty": b"",
    }
    noise, zeros, empty = weigh_payload(made(tmp_path, "linux-x64", files)).parts
    assert noise.packed == noise.size
    assert zeros.packed < zeros.size / 100
    assert (empty.files, empty.size, empty.packed) == (1, 0, 0)


def test_samples_stand_for_the_bytes_around_them(tmp_path: Path) -> None:
    half = {"python/noise": random.Random(1).randbytes(MB // 4), "python/zeros": bytes(MB // 4)}
    (part, *_) = weigh_payload(made(tmp_path, "linux-x64", half)).parts
    assert 0.4 < part.packed / part.size < 0.6


def test_the_same_files_give_the_same_estimate(tmp_path: Path) -> None:
    one = made(tmp_path / "one", "linux-x64")
    other = made(tmp_path / "other", "linux-x64")
    assert weigh_payload(one) == weigh_payload(other)


def test_payload_near_the_nsis_limit_is_refused() -> None:
    (first, second) = payload_findings(
        of(models=(NSIS_BYTES, NSIS_BYTES - 100 * MB), python=(MB, MB))
    )
    assert "too large for NSIS" in first
    assert all(way in first for way in ("nsis-web", "msi", "lean"))
    assert second == "win-x64: models is 100 % of what is packed"


def test_a_payload_that_is_large_only_unpacked_is_told_of() -> None:
    (first, _) = payload_findings(of(heavy=(NSIS_BYTES, 700 * MB)))
    assert "2,147 MB unpacked" in first
    assert "`compression: store`" in first


def test_a_small_payload_has_only_its_largest_component_named() -> None:
    assert list(payload_findings(of(a=(10, 1), b=(2, 2)))) == [
        "win-x64: b is 67 % of what is packed"
    ]


def test_nothing_at_all_is_no_division_by_zero() -> None:
    assert list(payload_findings(of(a=(0, 0)))) == ["win-x64: a is 0 % of what is packed"]


def test_the_table_has_each_component_and_their_sum() -> None:
    lines = list(payload_table([of(a=(5 * MB, MB), b=(2 * MB, 2 * MB))]))
    assert lines[-1] == "| win-x64 | all | 2 | 7.0 | 3.0 |"
    assert len(lines) == 5


def test_the_room_left_for_the_app_is_counted() -> None:
    close = of(a=(NSIS_BYTES, NSIS_BYTES - integration.RESERVED_BYTES))
    assert "too large" in next(payload_findings(close))
