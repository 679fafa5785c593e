from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from bundler.artifacts.store import Store, Writer, WrongBytesError
from bundler.digests import Digest
from bundler.errors import IntegrityError, UnreachableError

CONTENT = st.binary(max_size=40)
KEYS = st.sampled_from(["graph", "bytecode"])


class StoreMachine(RuleBasedStateMachine):
    """Two builders on one store, compared with a dict of what must be there."""

    writers = Bundle("writers")
    digests = Bundle("digests")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.root = self.folder / "store"
        self.stores = [Store(self.root), Store(self.root)]
        self.contents: dict[str, bytes] = {}
        self.whole: set[str] = set()
        self.damaged: set[str] = set()
        self.made: dict[str, str] = {}
        self.alive: list[Writer] = []

    def teardown(self) -> None:
        for writer in self.alive:
            writer.partial.close(keep=False)
        shutil.rmtree(self.folder)

    def remember(self, data: bytes) -> Digest:
        digest = Digest.of_bytes(data)
        self.contents[digest.sha256] = data
        return digest

    def kept(self, digest: Digest) -> None:
        self.whole.add(digest.sha256)
        self.damaged.discard(digest.sha256)

    @rule(target=digests, data=CONTENT, which=st.integers(0, 1))
    def add_bytes(self, data: bytes, which: int) -> Digest:
        digest = self.remember(data)
        assert self.stores[which].add_bytes(data) == digest
        self.kept(digest)
        return digest

    @rule(key=KEYS, text=st.text(max_size=9), which=st.integers(0, 1))
    def note(self, key: str, text: str, which: int) -> None:
        self.stores[which].note(key, {"text": text})
        self.made[key] = text

    @rule(key=KEYS, which=st.integers(0, 1))
    def noted(self, key: str, which: int) -> None:
        known = {"text": self.made[key]} if key in self.made else None
        assert self.stores[which].noted(key) == known

    @rule(digest=digests, which=st.integers(0, 1))
    def use(self, digest: Digest, which: int) -> None:
        sha256 = digest.sha256
        if sha256 in self.damaged:
            with pytest.raises(IntegrityError, match="not the file that was locked"):
                self.stores[which].verified(digest)
            self.whole.discard(sha256)
            self.damaged.discard(sha256)
        elif sha256 in self.whole:
            path = self.stores[which].verified(digest)
            assert path.read_bytes() == self.contents[sha256]
        if sha256 not in self.whole:
            with pytest.raises(UnreachableError):
                self.stores[which].verified(digest)

    @rule(digest=digests)
    def damage(self, digest: Digest) -> None:
        path = self.stores[0].path(digest)
        if path is not None:
            path.chmod(0o644)
            path.write_bytes(path.read_bytes() + b"!")
            self.damaged.add(digest.sha256)

    @rule(target=writers, data=CONTENT.filter(bool), which=st.integers(0, 1))
    def begin(self, data: bytes, which: int) -> Writer:
        writer = self.stores[which].writer(self.remember(data))
        assert data.startswith(Path(writer.partial.path).read_bytes())
        self.alive.append(writer)
        return writer

    @rule(writer=writers, count=st.integers(1, 20))
    def write(self, writer: Writer, count: int) -> None:
        if writer in self.alive:
            data = self.contents[writer.digest.sha256]
            writer.write(data[writer.offset : writer.offset + count])

    @rule(writer=writers)
    def restart(self, writer: Writer) -> None:
        if writer in self.alive:
            writer.restart()

    @rule(writer=consumes(writers), fails=st.booleans())
    def leave(self, writer: Writer, *, fails: bool) -> None:
        """End a writer; with `fails` as a process does that is killed."""
        self.alive.remove(writer)
        with writer:
            if fails:
                writer.partial.close(keep=True)
                return
            if writer.partial.sha256 == writer.digest.sha256:
                writer.commit()
                self.kept(writer.digest)
            else:
                with pytest.raises(WrongBytesError):
                    writer.commit()

    @rule(which=st.integers(0, 1))
    def sweep(self, which: int) -> None:
        self.stores[which].sweep()
        left = set((self.root / "partial").glob("*"))
        assert left == {writer.partial.path for writer in self.alive}

    @rule(which=st.integers(0, 1))
    def start_again(self, which: int) -> None:
        self.stores[which] = Store(self.root)

    @invariant()
    def every_entry_has_its_name_and_mode(self) -> None:
        found = {path for path in (self.root / "sha256").rglob("*") if path.is_file()}
        assert {path.name for path in found} == self.whole
        for path in found:
            if path.name not in self.damaged:
                assert path.read_bytes() == self.contents[path.name]


StoreMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestStore = StoreMachine.TestCase
