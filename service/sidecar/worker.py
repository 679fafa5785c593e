"""The program that reads one PDF and ends: run as a script, in a process that may be killed.

Reads the PDF from stdin and writes one JSON object to stdout: `{"pages": [...], "complete": …}`
or `{"error": "…"}`. It has no network, no paths and no settings but three numbers as arguments:
pages, characters and seconds of CPU.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import warnings

STREAM_BYTES = 16 << 20
MEMORY_BYTES = 2 << 30


def limit_resources(cpu_s: int) -> None:
    """Let the system end this process at `cpu_s` seconds of CPU or 2 GiB, where it can."""
    try:
        import resource  # noqa: PLC0415 (not on Windows)
    except ImportError:
        return
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def extract(data: bytes, *, max_pages: int, max_chars: int) -> dict[str, object]:
    """Return the text of every page of a PDF, or the word for what is wrong with it."""
    import pypdf  # noqa: PLC0415 (after the limits)

    pypdf.overwrite_configuration(
        maximum_declared_stream_length=STREAM_BYTES,
        array_based_stream_maximum_output_length=STREAM_BYTES,
        jbig2_maximum_output_length=STREAM_BYTES,
        lzw_maximum_output_length=STREAM_BYTES,
        run_length_maximum_output_length=STREAM_BYTES,
        zlib_maximum_output_length=STREAM_BYTES,
        brotli_maximum_output_length=STREAM_BYTES,
        image_maximum_buffer_size=STREAM_BYTES,
        jbig2dec_binary=None,  # a program of the user's own
    )
    if data.lstrip()[:5] != b"%PDF-":
        return {"error": "not-pdf"}
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted:
            return {"error": "encrypted"}
        count = len(reader.pages)
        if not count:
            return {"error": "no-pages"}
        pages: list[str] = []
        room = max_chars
        for number in range(min(count, max_pages)):
            text = reader.pages[number].extract_text()
            # Half a surrogate pair cannot be written, sent or read by a tokenizer.
            text = text.encode("utf-8", "replace").decode("utf-8")
            pages.append(text[:room])
            room -= len(text)
            if room <= 0:
                break
    except Exception:  # noqa: BLE001 (a parser meets everything here)
        return {"error": "unreadable"}
    else:
        return {"pages": pages, "complete": len(pages) == count and room >= 0}


def main() -> int:
    """Read, extract, write."""
    max_pages, max_chars, cpu_s = (int(argument) for argument in sys.argv[1:4])
    limit_resources(cpu_s)
    warnings.simplefilter("ignore")
    answer = extract(sys.stdin.buffer.read(), max_pages=max_pages, max_chars=max_chars)
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
