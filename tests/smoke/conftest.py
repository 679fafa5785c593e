"""The bundle that the smoke tests look at: this machine's own, assembled once for all of them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.manifest import read
from sidecar.models.golden import read as read_golden
from tests.support.lacking import lack
from tests.support.reference import Reference, reference

OUT_OF_REACH = 5
COUNT = 200
PIECES = (
    "the tide tables for Tuesday",
    "潮汐表在星期二更新",
    "港の朝は静かだ",
    "جدول المد والجزر ليوم الثلاثاء",
    "לוח הגאות",
    "расписание приливов",
    "🌊🛶 👩🏽‍🚒 🇵🇹",
    "ﬁ ﬂ e\u0301 Å ß İ",
    "\u200b\u200d\u202e\ufeff",
    "SELECT * FROM tides;",
    "½ 42 3.14 1e-9",
    "\t\r\n",
)
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def bundle() -> Path:
    """Return a whole bundle: the one that SIDECAR_BUNDLE names, or else what `assemble` makes.

    What is there already is reused after its hashes were checked.
    """
    return given("SIDECAR_BUNDLE") or assembled()


@pytest.fixture(scope="session")
def lean() -> Path:
    """Return a bundle of the profile lean, found or reused like the other."""
    return given("SIDECAR_LEAN_BUNDLE") or assembled("--profile", "lean")


@pytest.fixture(scope="session")
def arm() -> Path:
    """Return a lean bundle for Linux on Arm, made here by one process of the tests for all.

    Its runtime is a stand-in where that of the release cannot be had.
    """
    import fcntl  # noqa: PLC0415 - not on Windows

    with (CHECKOUT / "bundle/out/arm.lock").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        done = assembly("--target", "linux-arm64", "--profile", "lean")
    if done.returncode == OUT_OF_REACH:
        lack(done.stderr)
    return path_of(done)


def given(variable: str) -> Path | None:
    path = os.environ.get(variable)
    return Path(path).resolve() if path else None


def assembled(*arguments: str) -> Path:
    return path_of(assembly(*arguments))


def assembly(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, CHECKOUT / "build", "assemble", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def path_of(done: subprocess.CompletedProcess[str]) -> Path:
    if done.returncode:
        pytest.fail(f"no bundle could be assembled, exit code {done.returncode}\n{done.stderr}")
    return Path(done.stdout.strip())


def varied(known: tuple[str, ...]) -> list[str]:
    """Return COUNT texts: those of the golden file, then mixtures from nothing to very long."""
    chance = random.Random(8421)
    texts = [*known, "", "\0", "x" * 10_000, "word " * 2_000, "𝔘𝔫𝔦" * 300]
    while len(texts) < COUNT:
        length = chance.choice((1, 1, 2, 3, 5, 8, 13, 40))
        texts.append(" ".join(chance.choice(PIECES) for _ in range(length)))
    return texts


@pytest.fixture(scope="session")
def texts(bundle: Path) -> list[str]:
    golden = read(bundle).models[0].golden
    assert golden is not None
    return varied(read_golden(bundle / golden).texts)


@pytest.fixture(scope="session")
def truth(bundle: Path, texts: list[str]) -> Reference:
    """Return what sentence-transformers makes of the texts, in the bundle's own interpreter."""
    manifest = read(bundle)
    python = bundle / manifest.runtime.executable
    return reference(python, bundle / manifest.models[0].snapshot, texts)
