"""What it costs to write vectors as an answer, in the interpreter that serves them."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.errors import SmokeError
from bundler.launch import scrubbed

if TYPE_CHECKING:
    from bundler.bench.served import Program

ROWS, COLUMNS, REPEATS = 1_000, 768, 7
SECONDS = 120
# Reads its numbers as arguments: the service's folder, rows, columns, repeats.
SCRIPT = """
import json, statistics, sys, time
sys.path.insert(0, sys.argv[1])
import numpy
from sidecar.web import vectors
rows, columns, repeats = map(int, sys.argv[2:5])
made = numpy.random.default_rng(0).standard_normal((rows, columns), dtype=numpy.float32)
found = {}
for name in ("as_json", "as_base64_json", "raw"):
    write = getattr(vectors, name)
    size, seconds = len(write(made)), []
    for _ in range(repeats):
        started = time.perf_counter()
        write(made)
        seconds.append(time.perf_counter() - started)
    found[name] = [statistics.median(seconds), size]
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """One form of an answer: seconds to write it, and its bytes."""

    form: str
    seconds: float
    size: int


def measure(program: Program, *, rows: int = ROWS, repeats: int = REPEATS) -> list[Writing]:
    """Return the cost of each form for `rows` vectors of 768. Raises SmokeError."""
    interpreter, folder = program.words[0], str(program.service)
    numbers = [str(number) for number in (rows, COLUMNS, repeats)]
    try:
        done = subprocess.run(
            [interpreter, "-I", "-B", "-c", SCRIPT, folder, *numbers],
            capture_output=True,
            text=True,
            check=True,
            timeout=SECONDS,
            env=scrubbed(os.environ),
        )
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise SmokeError("the cost of an answer could not be measured", why=said[-400:]) from error
    return [
        Writing(form=form, seconds=float(seconds), size=int(size))
        for form, (seconds, size) in found.items()
    ]
