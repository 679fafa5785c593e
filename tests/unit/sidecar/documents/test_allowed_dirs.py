from __future__ import annotations

import errno
import os
import socket
import threading
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from sidecar.documents.allowed_dirs import AllowedDirs
from sidecar.problems import Problem


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "docs"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"inside")
    (tmp_path / "secret.txt").write_bytes(b"outside")
    return folder


def status(root: Path, path: str, *, max_bytes: int = 100) -> int:
    with pytest.raises(Problem) as caught:
        AllowedDirs([root]).read(path, max_bytes=max_bytes)
    assert "secret" not in caught.value.what
    return caught.value.status


def test_a_file_inside_is_read(root: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "é 1.txt").write_bytes(b"deep")
    reader = AllowedDirs([root / "sub", root])
    assert reader.read(str(root / "a.txt"), max_bytes=6).data == b"inside"
    assert reader.read(str(root / "sub" / ".." / "a.txt"), max_bytes=6).data == b"inside"
    assert reader.read(str(root / "sub" / "é 1.txt"), max_bytes=6).data == b"deep"


def test_no_folder_allowed_is_403_for_any_path(root: Path) -> None:
    with pytest.raises(Problem) as caught:
        AllowedDirs([]).read(str(root / "a.txt"), max_bytes=6)
    assert caught.value.status == 403


def test_outside_and_missing_are_the_same_404(root: Path) -> None:
    answers = []
    for path in (root / "none.txt", root.parent / "secret.txt", root.parent / "none.txt"):
        with pytest.raises(Problem) as caught:
            AllowedDirs([root]).read(str(path), max_bytes=100)
        answers.append((caught.value.status, caught.value.what, caught.value.kind))
    assert len(set(answers)) == 1
    assert answers[0][0] == 404


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "..%252f..%252fetc/passwd", "a.txt", "/etc/passwd"]
)
def test_climbing_and_relative_paths_find_nothing(root: Path, path: str) -> None:
    assert status(root, path) == 404
    assert status(root, str(root / ".." / "secret.txt")) == 404


def test_a_sibling_that_shares_the_prefix_is_outside(root: Path) -> None:
    sibling = root.with_name("docs-private")
    sibling.mkdir()
    (sibling / "secret.txt").write_bytes(b"x")
    assert status(root, str(sibling / "secret.txt")) == 404


def test_links_to_the_outside_find_nothing(root: Path) -> None:
    (root / "link.txt").symlink_to(root.parent / "secret.txt")
    (root / "folder").symlink_to(root.parent)
    (root / "loop.txt").symlink_to(root / "loop.txt")
    assert status(root, str(root / "link.txt")) == 404
    assert status(root, str(root / "folder" / "secret.txt")) == 404
    assert status(root, str(root / "loop.txt")) == 404


def test_a_link_within_the_folder_is_followed(root: Path) -> None:
    (root / "link.txt").symlink_to(root / "a.txt")
    assert AllowedDirs([root]).read(str(root / "link.txt"), max_bytes=6).data == b"inside"


@pytest.mark.parametrize(
    ("link", "file", "suffix"),
    [
        ("k.md", "id_rsa", None),
        ("k.txt", "key.pem", None),
        ("k.pdf", "k.txt.bak", None),
        ("k.txt", "b.MD", ".md"),
        ("notes", "b.pdf", ".pdf"),
        ("sub/../k.md", "id_rsa", None),
    ],
)
def test_the_suffix_is_that_of_the_file_a_link_leads_to(
    root: Path, link: str, file: str, suffix: str | None
) -> None:
    (root / "sub").mkdir()
    (root / file).write_bytes(b"bytes")
    (root / "between").symlink_to(root / file)
    (root / link.rpartition("/")[2]).symlink_to("between")
    path = str(root / link)
    if suffix:
        assert AllowedDirs([root]).read(path, max_bytes=6).suffix == suffix
        return
    with pytest.raises(Problem) as caught:
        AllowedDirs([root]).read(path, max_bytes=6)
    assert (caught.value.status, caught.value.kind) == (422, "file-kind")


@pytest.mark.parametrize("swapped", ["a.txt", "sub"])
def test_a_link_swapped_in_after_the_check_reads_nothing_outside(
    root: Path, swapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "secret.txt").write_bytes(b"inside")
    path = root / ("a.txt" if swapped == "a.txt" else "sub/secret.txt")
    resolve = AllowedDirs._resolve

    def swap(self: AllowedDirs, asked: str) -> tuple[Path, Path]:
        found = resolve(self, asked)
        (root / swapped).rename(root / "old")
        target = root.parent / "secret.txt" if swapped == "a.txt" else root.parent
        (root / swapped).symlink_to(target)
        return found

    monkeypatch.setattr(AllowedDirs, "_resolve", swap)
    assert status(root, str(path)) in (404, 422)


@pytest.mark.parametrize(
    "path",
    ["", "a\0.txt", "/" + "x" * 5_000, "/" + "x" * 300 + ".txt", "/a\ud800.txt"],
    ids=["empty", "NUL", "long", "long name", "surrogate"],
)
def test_a_path_that_no_system_should_be_asked_about_is_422(root: Path, path: str) -> None:
    assert status(root, path) == 422


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize(
    "name", ["CON.txt", "aux.md", "10:30.txt", "a\nb.txt", "end. .txt", "what?.md", "a\\b.txt"]
)
def test_names_that_windows_has_not_are_read_elsewhere(root: Path, name: str) -> None:
    (root / name).write_bytes(b"named")
    assert AllowedDirs([root]).read(str(root / name), max_bytes=9).data == b"named"


def test_only_regular_files_are_read_and_nothing_hangs(root: Path) -> None:
    os.mkfifo(root / "fifo.txt")
    (root / "folder.txt").mkdir()
    assert status(root, str(root)) == 422
    assert status(root, str(root / "folder.txt")) == 422
    assert status(root, str(root / "fifo.txt")) == 422
    with socket.socket(socket.AF_UNIX) as bound:
        home = os.open(root, os.O_RDONLY)
        try:  # by a short name: addresses of sockets are limited in length
            bound.bind(f"/proc/self/fd/{home}/s.txt")
        finally:
            os.close(home)
        assert status(root, str(root / "s.txt")) == 422


def test_a_device_is_refused_without_being_opened() -> None:
    with pytest.raises(Problem) as caught:
        AllowedDirs([Path("/dev")]).read("/dev/zero", max_bytes=10)
    assert caught.value.status == 422


def test_a_file_over_the_cap_is_413(root: Path) -> None:
    assert status(root, str(root / "a.txt"), max_bytes=5) == 413


@pytest.mark.parametrize("change", [b"longer than before", b"tiny"])
def test_a_file_that_changes_while_it_is_read_is_409(
    root: Path, change: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.read

    def change_then_read(descriptor: int, count: int) -> bytes:
        (root / "a.txt").write_bytes(change)
        return read(descriptor, count)

    monkeypatch.setattr(os, "read", change_then_read)
    assert status(root, str(root / "a.txt")) == 409


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, "no-permission"),
        (errno.EPERM, "no-permission"),
        (errno.EIO, "disk-error"),
        (errno.ESTALE, "disk-error"),
    ],
)
@pytest.mark.parametrize("step", ["open", "read"])
def test_what_the_system_refuses_is_503_and_blames_no_file(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: str, step: str
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, step, refuse)
    with pytest.raises(Problem) as caught:
        AllowedDirs([root]).read(str(root / "a.txt"), max_bytes=100)
    assert (caught.value.status, caught.value.kind) == (503, kind)


def test_what_may_not_be_looked_at_is_told_of_inside_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: object) -> Path:
        if path == root:
            return root
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))

    reader = AllowedDirs([root])
    monkeypatch.setattr(Path, "resolve", refuse)
    for path, code in ((root / "b" / "c.txt", 503), (root.parent / "secret.txt", 404)):
        with pytest.raises(Problem) as caught:
            reader.read(str(path), max_bytes=9)
        assert caught.value.status == code


def test_a_folder_that_is_not_there_is_503_and_used_once_it_is(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    late = root.parent / "drive" / "late"
    caplog.set_level("INFO")
    reader = AllowedDirs([root, late])
    assert reader.read(str(root / "a.txt"), max_bytes=9).data == b"inside"
    for path, kind in ((late / "a.txt", "folder-missing"), (late / ".." / "x.txt", "no-file")):
        with pytest.raises(Problem) as caught:
            reader.read(str(path), max_bytes=9)
        assert caught.value.kind == kind
    late.mkdir(parents=True)
    (late / "a.txt").write_bytes(b"late")
    assert reader.read(str(late / "a.txt"), max_bytes=9).data == b"late"
    assert [folder.is_there for folder in reader.listed()] == [True, True]
    late.rename(root.parent / "gone")
    with pytest.raises(Problem) as caught:
        reader.read(str(late / "a.txt"), max_bytes=9)
    assert (caught.value.status, caught.value.kind) == (503, "folder-missing")
    told = [record.getMessage() for record in caplog.records]
    assert [message.partition(" is")[0] for message in told] == ["allowed folder 2"] * 3
    assert "late" not in caplog.text.replace("test_roots", "")


@pytest.mark.parametrize("is_above", [False, True])
def test_a_link_that_appears_in_the_place_of_a_folder_is_not_followed(
    root: Path, *, is_above: bool
) -> None:
    late = root.parent / "drive" / "late"
    (root.parent / "other" / "late").mkdir(parents=True)
    (root.parent / "other" / "late" / "a.txt").write_bytes(b"outside")
    reader = AllowedDirs([late])
    if is_above:
        late.parent.symlink_to(root.parent / "other")
    else:
        late.parent.mkdir()
        late.symlink_to(root.parent / "other" / "late")
    with pytest.raises(Problem) as caught:
        reader.read(str(late / "a.txt"), max_bytes=9)
    assert caught.value.kind == "folder-missing"


NFC, NFD = (unicodedata.normalize(form, "Verträge é/Übersicht é.txt") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(("there", "asked"), [(NFC, NFD), (NFD, NFC)], ids=["NFC", "NFD"])
def test_a_name_is_found_in_its_other_spelling(root: Path, there: str, asked: str) -> None:
    (root / there).parent.mkdir()
    (root / there).write_bytes(b"found")
    assert AllowedDirs([root]).read(str(root / asked), max_bytes=9).data == b"found"
    # The folder itself, and one that a link leads to.
    deep = (root / there).parent
    (root / "link").symlink_to(deep)
    for path in (root / asked, root / "link" / Path(asked).name):
        assert AllowedDirs([deep]).read(str(path), max_bytes=9).data == b"found"
    assert status(root, str((root / asked).with_name("Ubersicht.txt"))) == 404


def test_the_exact_spelling_comes_first_and_of_several_others_none(root: Path) -> None:
    one, two, asked = "a\u0323\u0307.txt", "a\u0307\u0323.txt", "\u1ea1\u0307.txt"
    (root / one).write_bytes(b"one")
    assert AllowedDirs([root]).read(str(root / asked), max_bytes=9).data == b"one"
    (root / two).write_bytes(b"two")
    assert status(root, str(root / asked)) == 404
    assert AllowedDirs([root]).read(str(root / two), max_bytes=9).data == b"two"


def test_another_spelling_leads_nowhere_outside(root: Path) -> None:
    outside = root.parent / unicodedata.normalize("NFD", "é")
    outside.mkdir()
    (outside / "secret.txt").write_bytes(b"outside")
    (root / unicodedata.normalize("NFD", "ü")).symlink_to(outside)
    for path in (root.parent / "é" / "secret.txt", root / "ü" / "secret.txt", root / ".." / "é"):
        assert status(root, str(path)) == 404


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_limit_of_open_files_does_not_make_a_file_look_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="open files") as caught:
        AllowedDirs([root]).read(str(root / "a.txt"), max_bytes=100)
    assert caught.value.errno == number


@pytest.fixture
def without_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend a system that opens by whole paths only, as Windows does."""
    monkeypatch.setattr(os, "supports_dir_fd", set())


@pytest.mark.usefixtures("without_descriptors")
def test_where_folders_have_no_descriptors_files_are_read_and_nothing_else(root: Path) -> None:
    (root / "sub.txt").mkdir()
    os.mkfifo(root / "fifo.txt")
    assert AllowedDirs([root]).read(str(root / "a.txt"), max_bytes=6).data == b"inside"
    assert status(root, str(root / "sub.txt")) == 422
    assert status(root, str(root / "fifo.txt")) == 422
    assert status(root, str(root / "none.txt")) == 404


@pytest.mark.usefixtures("without_descriptors")
def test_swapped_file_is_not_read_without_descriptors(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ = os.open

    def swap(path: str, flags: int, **_: object) -> int:
        (root / "a.txt").rename(root / "old.txt")
        (root / "a.txt").write_bytes(b"another")
        return open_(path, flags)

    monkeypatch.setattr(os, "open", swap)
    assert status(root, str(root / "a.txt")) == 404


def test_a_file_swapped_in_between_the_look_and_the_open_is_not_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ = os.open

    def swap(path: object, *given: Any, **options: Any) -> int:
        if path == "a.txt":
            (root / "a.txt").rename(root / "old.txt")
            os.link(root.parent / "secret.txt", root / "a.txt")
        return open_(path, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", swap)
    monkeypatch.setattr(os, "supports_dir_fd", {swap})
    assert status(root, str(root / "a.txt")) == 404
    assert (root / "old.txt").exists()


def test_a_link_that_is_replaced_while_it_is_read_finds_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "sub").symlink_to(root.parent)
    reader = AllowedDirs([root])
    readlink = os.readlink

    def swap(path: str, **options: Any) -> str:
        if Path(path) == root / "sub":
            (root / "sub").unlink()
            (root / "sub").mkdir()
        return readlink(path, **options)

    monkeypatch.setattr(os, "readlink", swap)
    with pytest.raises(Problem) as caught:
        reader.read(str(root / "sub" / "secret.txt"), max_bytes=9)
    assert caught.value.status == 404


@pytest.mark.parametrize("name", ["a.txt", "sub", "docs"])
def test_links_swapped_in_and_out_all_the_time_never_show_the_outside(
    root: Path, name: str
) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "a.txt").write_bytes(b"inside")
    place = root if name == "docs" else root / name
    target = root.parent / ("secret.txt" if name == "a.txt" else "outside")
    (root.parent / "outside" / "sub").mkdir(parents=True)
    for folder in (root.parent / "outside", root.parent / "outside" / "sub"):
        (folder / "a.txt").write_bytes(b"outside")
    link, kept = root.parent / "link", root.parent / "kept"
    link.symlink_to(target)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            place.rename(kept)
            link.rename(place)
            place.rename(link)
            kept.rename(place)

    reader = AllowedDirs([root])
    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for _ in range(300):
            path = root / ("a.txt" if name == "a.txt" else "sub/a.txt")
            try:
                seen.add(reader.read(str(path), max_bytes=99).data)
            except Problem as problem:
                seen.add(str(problem.status).encode())
    finally:
        stop.set()
        swapping.join()
    assert seen <= {b"inside", b"404", b"422", *([b"503"] if name == "docs" else [])}


def test_a_fifo_swapped_in_before_the_open_does_not_hang(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat_ = os.stat

    def swap(path: object, **options: Any) -> os.stat_result:
        found = stat_(path, **options)  # type: ignore[arg-type]
        if path == "a.txt":
            (root / "a.txt").unlink()
            os.mkfifo(root / "a.txt")
        return found

    monkeypatch.setattr(os, "stat", swap)
    assert status(root, str(root / "a.txt")) == 422


def test_a_file_that_vanishes_while_it_is_read_is_read_whole_or_not_at_all(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.read

    def vanish(descriptor: int, count: int) -> bytes:
        (root / "a.txt").unlink(missing_ok=True)
        return read(descriptor, count)

    monkeypatch.setattr(os, "read", vanish)
    assert AllowedDirs([root]).read(str(root / "a.txt"), max_bytes=6).data == b"inside"
    assert status(root, str(root / "a.txt")) == 404


def test_a_long_name_tells_nothing_of_the_folders_around_it(root: Path) -> None:
    answers = {status(root, f"{parent}/{'x' * 300}") for parent in (root.parent, "/no/such")}
    assert answers == {422}
