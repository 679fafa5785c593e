"""How many words of real PDFs are read, held against pdftotext, and at what cost in CPU time.

`python -m tests.support.pdfwords [FOLDER]` takes the PDFs in FOLDER, or those of Debian's packages,
which apt fetches into bundle/out/pdf-words and nothing installs. Prints a table; fails if recall or
precision of the words of three letters or more is below 99 %, if a word of more than 22 letters is
new, or if 500 pages take over 1.5 times the CPU time of PDFium alone.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sidecar.documents import worker
from sidecar.documents.chunking import char_chunks

PACKAGES = (
    *("debian-faq", "maint-guide", "debian-policy", "developers-reference", "r-doc-pdf"),
    *("gnuplot-doc", "docbook-xsl-doc-pdf", "siscone-doc-pdf"),
)
# pdftotext and its library, where it is not installed.
POPPLER = re.compile(r"(libpoppler\d+\w*)")
OUT = Path("bundle/out/pdf-words")
LEAST, MOST_RATIO, LONGEST, PAGES, RUNS = 99.0, 1.5, 22, 500, 7
WORD = re.compile(r"[^\W\d_]{3,}")
DIVIDED = re.compile("(?<=\\w)[-\u2010\u00ad]\\s*\\n\\s*(?=\\w)")
BARE = """
import ctypes, sys
import pypdfium2_raw as pdfium
pdfium.FPDF_InitLibrary()
data = sys.stdin.buffer.read()
document = pdfium.FPDF_LoadMemDocument64(data, len(data), None)
for number in range(min(int(sys.argv[1]), pdfium.FPDF_GetPageCount(document))):
    page = pdfium.FPDF_LoadPage(document, number)
    text = pdfium.FPDFText_LoadPage(page)
    count = pdfium.FPDFText_CountChars(text)
    buffer = (ctypes.c_ushort * (count + 1))()
    pdfium.FPDFText_GetText(text, 0, count, buffer)
    bytes(buffer).decode("utf-16-le", "replace")
    pdfium.FPDFText_ClosePage(text)
    pdfium.FPDF_ClosePage(page)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a process wrote, and the seconds that it computed."""

    said: bytes
    cpu_s: float


def run(command: list[str], sent: bytes) -> Run:
    """Run `command` with `sent` on its stdin, which stays open until it ends."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("no pipes")
    process.stdin.write(sent)
    process.stdin.flush()
    if worker.__file__ not in command:
        process.stdin.close()
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[-3:]} ended with {process.returncode}")
    return Run(said=said, cpu_s=usage.ru_utime + usage.ru_stime)


def read(data: bytes, *, max_pages: int) -> tuple[list[str], float]:
    """Return the pages that a worker reads, and what it computed for them from its start on."""
    limits = (max_pages, 1 << 30, 600, os.getpid())
    # From bytecode, as in a bundle.
    cached = f"-Xpycache_prefix={OUT.resolve() / 'bytecode'}"
    command = [sys.executable, "-I", cached, worker.__file__, *map(str, limits)]
    messages = (json.dumps({"seconds": 600.0}).encode(), data)
    sent = b"".join(worker.LENGTH.pack(len(message)) + message for message in messages)
    done = run(command, sent)
    pages: list[str] = []
    at = len(worker.READY)
    while at < len(done.said):
        (size,) = worker.LENGTH.unpack_from(done.said, at)
        at += worker.LENGTH.size + size
        pages += json.loads(done.said[at - size : at]).get("pages", [])
    return pages, done.cpu_s


def words(text: str) -> Counter[str]:
    """Return the words of three letters or more, folded, those that a line divides as one."""
    folded = DIVIDED.sub("", unicodedata.normalize("NFKC", text)).casefold()
    return Counter(WORD.findall(folded))


def fetched() -> Path:
    """Return the folder with the PDFs of Debian's packages. They are fetched once."""
    folder = OUT / "pdf"
    if folder.is_dir():
        return folder
    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "tree").mkdir(parents=True)
    names = [*PACKAGES]
    if shutil.which("pdftotext") is None:
        needed = subprocess.check_output(["apt-cache", "depends", "poppler-utils"], text=True)
        names += ["poppler-utils", *POPPLER.findall(needed)]
    subprocess.run(["apt-get", "download", "-q", *names], cwd=OUT, check=True)
    for package in OUT.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(OUT / "tree")], check=True)
        package.unlink()
    found = [path for path in (OUT / "tree").rglob("*.pdf*") if not path.is_symlink()]
    stage = OUT / "stage"
    stage.mkdir()
    known = set()
    for path in sorted(found):
        data = path.read_bytes()
        whole = gzip.decompress(data) if path.suffix == ".gz" else data
        if whole in known:  # some packages have one under two names
            continue
        known.add(whole)
        (stage / f"{path.parent.name}-{path.name.removesuffix('.gz')}").write_bytes(whole)
    stage.rename(folder)
    return folder


def reference(path: Path) -> str:
    """Return what pdftotext says of a PDF."""
    tool, environment = shutil.which("pdftotext"), {**os.environ}
    if tool is None:
        tool = str(OUT / "tree/usr/bin/pdftotext")
        libraries = (OUT / "tree/usr/lib").glob("*-linux-gnu")
        environment["LD_LIBRARY_PATH"] = ":".join(str(one.resolve()) for one in libraries)
    command = [tool, "-enc", "UTF-8", str(path), "-"]
    return subprocess.check_output(command, env=environment).decode("utf-8", "replace")


def main(folder: Path) -> int:
    """Print the table; return the number of faults."""
    faults = 0
    largest: tuple[int, bytes] = (0, b"")
    say("| file | pages | words | recall % | precision % | longer than the reference's |")
    say("|---|---:|---:|---:|---:|---|")
    for path in sorted(folder.glob("*.pdf")):
        data = path.read_bytes()
        pages, _ = read(data, max_pages=1 << 20)
        largest = max(largest, (len(pages), data))
        ours, theirs = words("\n".join(pages)), words(reference(path))
        both = (ours & theirs).total()
        recall, precision = (100 * both / max(1, all_of.total()) for all_of in (theirs, ours))
        long = sorted(word for word in ours if len(word) > LONGEST and word not in theirs)
        faults += min(recall, precision) < LEAST or bool(long)
        say(
            f"| {path.name} | {len(pages)} | {theirs.total()} | {recall:.2f} | {precision:.2f} |"
            f" {' '.join(long)} |"
        )
    ratio = cost(largest[1])
    return faults + (ratio > MOST_RATIO)


def cost(data: bytes) -> float:
    """Print what 500 pages of a PDF cost, the least of some; return how often PDFium's alone."""
    bare_s = min(run([sys.executable, "-c", BARE, str(PAGES)], data).cpu_s for _ in range(RUNS))
    found = [read(data, max_pages=PAGES) for _ in range(RUNS)]
    pages, worker_s = min(found, key=lambda one: one[1])
    began = time.process_time()
    chunks = sum(1 for _ in char_chunks("\n".join(pages), size=800, overlap=100))
    chunk_s = time.process_time() - began
    ratio = (worker_s + chunk_s) / bare_s
    say(
        f"\n{len(pages)} pages to {chunks} chunks: {worker_s:.2f} s of the worker,"
        f" {chunk_s:.2f} s to cut, PDFium alone {bare_s:.2f} s: {ratio:.2f} times"
    )
    return ratio


def say(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    sys.exit(min(1, main(given or fetched())))
