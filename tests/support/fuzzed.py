"""What a coverage-guided fuzzer feeds: the reading of PDFs, and the front of archives.

`python -m tests.support.fuzzed pdf|archive SECONDS FOLDER` starts from files made by code, keeps
what it learnt in FOLDER/corpus, and leaves an input that breaks a claim in FOLDER. Needs atheris.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.casepdf import drawing, form, lines, placed, visual
from tests.support.tinypdf import bombs, pdf
from tests.support.tinytar import Entry, tar_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PAGES, CHARS = 5, 10_000
LARGEST_SEED = 20_000
LARGEST = 1 << 16
# An input that takes longer is kept and told; the service kills what reads so long.
SLOW_S = 20


def claim_pdf(data: bytes) -> None:
    """Any bytes are pages of text within the limits, or a known word."""
    from tests.support.pdfparts import said  # noqa: PLC0415 (after the instruments)

    said(data, max_pages=PAGES, room=CHARS)


def claim_archive(data: bytes, folder: Path) -> None:
    """Any bytes are unpacked inside, to plain files, or refused by an error of ours."""
    from bundler.assembly import safe_extract  # noqa: PLC0415 (after the instruments)
    from bundler.assembly.path_rules import ArchiveLimits  # noqa: PLC0415
    from bundler.errors import BundlerError  # noqa: PLC0415

    archive, target = folder / "archive", folder / "tree"
    archive.write_bytes(data)
    limits = ArchiveLimits(members=1_000, member_bytes=1 << 20, total_bytes=1 << 22)
    try:
        paths = safe_extract.extract(archive, target, limits=limits)
    except BundlerError:
        paths = {}
    assert {path.name for path in folder.iterdir()} <= {"archive", "tree"}
    found = {path for path in target.rglob("*") if not path.is_dir() or path.is_symlink()}
    assert {path.relative_to(target).as_posix() for path in found} == set(paths)
    assert all(path.is_file() and not path.is_symlink() for path in found)
    shutil.rmtree(target, ignore_errors=True)


def pdf_seeds() -> Mapping[str, bytes]:
    """Return small PDFs, whole and broken, by name; slow ones would teach nothing."""
    slow = ("stream", "forms")
    found = {
        name: data for name, (data, _) in bombs().items() if not any(word in name for word in slow)
    }
    marked = placed([(20, 100, "\u0633\u0652"), (14, 100, "\u0645\u0650"), (8, 100, "\u0644")])
    written = {"right": visual("\u05d0\u05d1 (12) ab"), "marked": marked, "form": form()}
    divided = drawing(lines("a divi-", "ded word, well-", "known"))
    return {**found, **written, "divided": divided, "pages": pdf(["one", "two", "three"])}


def archive_seeds() -> Mapping[str, bytes]:
    """Return tars, plain and packed, harmless and not, by name."""
    import gzip  # noqa: PLC0415 (the fuzzer instruments what is imported before)

    import zstandard  # noqa: PLC0415

    a = Entry(name="top/a", data=b"a")
    entries = {
        "plain": [a, Entry(name="top/b/c", data=b"bc", mode=0o755)],
        "links": [
            *(a, Entry(name="top/l", type=b"2", link="a")),
            Entry(name="top/h", type=b"1", link="top/a"),
        ],
        "outside": [Entry(name="top/../../x", data=b"x"), Entry(name="/y", data=b"y")],
        "long": [Entry(name="top/" + "n" * 200, data=b"n", headers={"comment": "c" * 99})],
        "device": [Entry(name="top/null", type=b"3")],
    }
    made = {name: tar_bytes(members) for name, members in entries.items()}
    packed = {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in made.items()}
    zipped = {f"{name}.zst": zstandard.compress(data) for name, data in made.items()}
    return {**made, **packed, **zipped}


def main(target: str, seconds: int, folder: Path) -> None:
    """Fuzz for `seconds`; the process ends with libFuzzer's code, 0 if no claim was broken."""
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: PLC0415

    with atheris.instrument_imports(include=["sidecar", "bundler", "tarfile"]):
        if target == "pdf":
            import tests.support.pdfparts  # noqa: F401, PLC0415
        else:
            import bundler.assembly.safe_extract  # noqa: F401, PLC0415
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for name, data in (pdf_seeds() if target == "pdf" else archive_seeds()).items():
        if len(data) <= LARGEST_SEED:
            (corpus / name.replace(" ", "-")).write_bytes(data)
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={folder}/", f"-timeout={SLOW_S}"]
    options += [f"-max_len={LARGEST}", "-print_final_stats=1", "-verbosity=1", str(corpus)]
    with tempfile.TemporaryDirectory() as scratch:
        claim: Callable[[bytes], None] = claim_pdf
        if target == "archive":
            place = Path(scratch).resolve()

            def claim(data: bytes) -> None:
                claim_archive(data, place)

        atheris.Setup([sys.argv[0], *options], claim)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).resolve())
