from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

import pytest

from bundler import atomic
from bundler.artifacts.store import Store, WrongBytesError, lay
from bundler.digests import Digest
from bundler.errors import DiskError, IntegrityError, UnreachableError

if TYPE_CHECKING:
    from pathlib import Path

DATA = b"some bytes worth keeping" * 100
DIGEST = Digest.of_bytes(DATA)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def damage(path: Path, data: bytes = b"rot") -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def fail_after(store: Store, data: bytes) -> None:
    def fail() -> None:
        with store.writer(DIGEST) as writer:
            writer.write(data)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()


def unfinished(store: Store) -> list[Path]:
    return sorted((store.root / "partial").glob("*"))


def test_bytes_are_found_again_by_their_digest(store: Store) -> None:
    digest = store.add_bytes(DATA)
    assert digest == DIGEST
    path = store.verified(digest)
    assert path.read_bytes() == DATA
    assert store.path(digest) == path
    assert path.relative_to(store.root).as_posix() == (
        f"sha256/{digest.sha256[:2]}/{digest.sha256}"
    )


def test_entries_are_read_only_whatever_the_umask(store: Store) -> None:
    old = os.umask(0o077)
    try:
        path = store.verified(store.add_bytes(DATA))
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_looking_into_a_store_that_does_not_exist_makes_nothing(store: Store) -> None:
    assert store.path(DIGEST) is None
    assert store.noted("key") is None
    assert store.sweep() == 0
    assert store.free_bytes() > 0
    assert not store.root.exists()


def test_a_missing_entry_is_out_of_reach_by_its_name(store: Store) -> None:
    with pytest.raises(UnreachableError, match=r"torch\.whl is not in the store"):
        store.verified(DIGEST, "torch.whl")


def test_the_store_is_tagged_for_backup_programs(store: Store) -> None:
    store.add_bytes(DATA)
    tag = (store.root / "CACHEDIR.TAG").read_bytes()
    assert tag.startswith(b"Signature: 8a477f597d28d172789f06886806bc55\n")


def test_an_entry_damaged_before_this_process_is_dropped_with_both_hashes(store: Store) -> None:
    store.add_bytes(DATA)
    damage(store.root / "sha256" / DIGEST.sha256[:2] / DIGEST.sha256)
    later = Store(store.root)
    with pytest.raises(IntegrityError) as caught:
        later.verified(DIGEST, "torch.whl")
    assert caught.value.exit_code == 4
    assert "torch.whl" in caught.value.what
    assert DIGEST.sha256 in caught.value.why
    assert Digest.of_bytes(b"rot").sha256 in caught.value.why
    assert later.path(DIGEST) is None


@pytest.fixture
def windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to remove what is read-only, as Windows does."""
    unlink = type(tmp_path).unlink

    def refusing(path: Path, *, missing_ok: bool = False) -> None:
        if path.exists() and not path.stat().st_mode & stat.S_IWUSR:
            raise PermissionError(errno.EACCES, "Access is denied")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(atomic, "IS_WINDOWS", True)
    monkeypatch.setattr(type(tmp_path), "unlink", refusing)


@pytest.mark.usefixtures("windows")
def test_damaged_entries_and_records_are_dropped_on_windows_too(store: Store) -> None:
    store.add_bytes(DATA)
    store.note("key", {})
    for path in [path for path in store.root.glob("*/*/*") if path.is_file()]:
        damage(path)
        path.chmod(0o444)
    with pytest.raises(IntegrityError):
        Store(store.root).verified(DIGEST)
    assert store.noted("key") is None
    assert not any(path.is_file() for path in store.root.glob("*/*/*"))


@pytest.mark.usefixtures("windows")
def test_an_entry_is_laid_where_it_was_laid_before(store: Store, tmp_path: Path) -> None:
    entry = store.verified(store.add_bytes(DATA))
    for _ in range(2):
        lay(entry, tmp_path / "links" / "a.whl")
    assert (tmp_path / "links" / "a.whl").read_bytes() == DATA


def test_an_entry_damaged_while_this_process_runs_is_noticed_too(store: Store) -> None:
    path = store.verified(store.add_bytes(DATA))
    damage(path, DATA[::-1])
    os.utime(path, ns=(1, 1))
    with pytest.raises(IntegrityError):
        store.verified(DIGEST)


def test_an_untouched_entry_is_hashed_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add_bytes(DATA)
    later = Store(store.root)
    later.verified(DIGEST)
    monkeypatch.setattr(
        "bundler.artifacts.store.file_sha256", lambda _: pytest.fail("hashed again")
    )
    assert later.verified(DIGEST).read_bytes() == DATA


def test_adding_what_is_there_keeps_the_entry_and_mends_a_damaged_one(store: Store) -> None:
    path = store.verified(store.add_bytes(DATA))
    inode = path.stat().st_ino
    store.add_bytes(DATA)
    assert path.stat().st_ino == inode
    damage(path)
    store.add_bytes(DATA)
    assert path.read_bytes() == DATA
    assert unfinished(store) == []


def test_a_writer_publishes_only_the_bytes_asked_for(store: Store) -> None:
    with store.writer(DIGEST) as writer:
        writer.write(DATA)
        assert writer.is_complete
        path = writer.commit()
    assert path == store.verified(DIGEST)
    assert unfinished(store) == []


def test_other_bytes_of_the_same_length_are_refused(store: Store) -> None:
    wrong = DATA[::-1]
    with store.writer(DIGEST) as writer:
        writer.write(wrong)
        with pytest.raises(WrongBytesError) as caught:
            writer.commit()
    assert caught.value.sha256 == Digest.of_bytes(wrong).sha256
    assert store.path(DIGEST) is None


def test_the_next_writer_continues_where_a_failed_one_stopped(store: Store) -> None:
    fail_after(store, DATA[:700])
    assert len(unfinished(store)) == 1
    with Store(store.root).writer(DIGEST) as again:
        assert again.offset == 700
        again.write(DATA[700:])
        again.commit()
    assert store.verified(DIGEST).read_bytes() == DATA
    assert unfinished(store) == []


def test_a_writer_that_got_nothing_leaves_nothing(store: Store) -> None:
    fail_after(store, b"")
    assert unfinished(store) == []


def test_of_several_leftovers_the_longest_is_continued_and_none_stays(store: Store) -> None:
    folder = store.root / "partial"
    folder.mkdir(parents=True)
    (folder / f"{DIGEST.sha256}.aa").write_bytes(DATA[:10])
    (folder / f"{DIGEST.sha256}.bb").write_bytes(DATA[:300])
    with store.writer(DIGEST) as writer:
        assert writer.offset == 300
        assert unfinished(store) == [writer.partial.path]
        writer.restart()
        assert writer.offset == 0


def test_two_writers_of_one_digest_never_share_a_file(store: Store) -> None:
    with store.writer(DIGEST) as first, store.writer(DIGEST) as second:
        first.write(DATA[:500])
        assert second.offset == 0
        second.write(DATA)
        assert second.commit().read_bytes() == DATA
        first.write(DATA[500:])
        assert first.commit().read_bytes() == DATA
    assert unfinished(store) == []


def test_a_writer_spares_its_own_file_where_locks_lie(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with store.writer(DIGEST) as writer:
        assert unfinished(store) == [writer.partial.path]


def test_a_sweep_spares_the_living_and_takes_the_dead(store: Store) -> None:
    with store.writer(DIGEST) as living:
        living.write(DATA)
        (store.root / "partial" / "new.dead").write_bytes(b"left")
        assert store.sweep() == 1
        assert living.commit().read_bytes() == DATA


def test_bytes_that_cannot_fit_are_refused_with_both_figures(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundler.atomic.free_bytes", lambda _: 1000)
    with store.writer(DIGEST, "torch.whl") as writer:
        writer.write(b"x" * 24)
        with pytest.raises(DiskError) as caught:
            writer.expect(5000)
    assert caught.value.exit_code == 6
    assert "torch.whl" in caught.value.what
    assert "4976 bytes are needed" in caught.value.why
    assert unfinished(store) == []


def test_a_place_that_cannot_be_written_is_a_disk_error_naming_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DiskError, match="cannot be written") as caught:
        Store(tmp_path / "file" / "store").add_bytes(DATA)
    assert str(tmp_path / "file") in caught.value.why


def test_what_was_noted_is_found_by_its_key(store: Store) -> None:
    assert store.noted("layer v1 of abc") is None
    store.note("layer v1 of abc", {"size": 1})
    assert Store(store.root).noted("layer v1 of abc") == {"size": 1}
    assert store.noted("layer v2 of abc") is None
    store.note("layer v1 of abc", {"size": 2})
    assert store.noted("layer v1 of abc") == {"size": 2}
    assert unfinished(store) == []


@pytest.mark.parametrize(
    "record",
    [b"", b"[]", b"{}", b'{"facts":{"size":2},"key":"key","sha256":"%s"}', b"\xff", b"[" * 100_000],
)
def test_a_record_that_makes_no_sense_is_removed(store: Store, record: bytes) -> None:
    store.note("key", {"size": 1})
    (path,) = (path for path in (store.root / "derived").rglob("*") if path.is_file())
    damage(path, record.replace(b"%s", DIGEST.sha256.encode()))
    assert store.noted("key") is None
    assert not path.exists()
