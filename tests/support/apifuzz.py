"""Requests made from the OpenAPI document of a running service, and its answers held against it.

python -m tests.support.apifuzz BUNDLE [CASES] starts the bundle's service on loopback with a folder
of small documents, sends that many cases, good and bad, stops it, and prints statuses and failures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import schemathesis
from schemathesis import engine
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished

from tests.support.running import program, running
from tests.support.tinypdf import pdf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemathesis.engine.recorder import ScenarioRecorder

MAX_SECONDS = 3 * 3600
# Drawn for each route that takes a body, in one round.
MIN_EXAMPLES, MAX_EXAMPLES = 20, 400
REQUEST_SECONDS = 60
# What only a running service under load or out of memory may say.
SERVER_ERRORS = ("503", "507")
TEXT_ROUTES = "^/(embed|similarity|tokenize|v1/embeddings|api/embed(dings)?)$"


@dataclass(slots=True, kw_only=True)
class Fuzzed:
    """What was sent and what came back; `failures` by their kind, each with an example."""

    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        """How many requests were sent."""
        return self.statuses.total()

    def report(self) -> str:
        """Return the figures as people read them."""
        lines = [f"{count:6} x {label}: {said}" for (label, said), count in self.statuses.items()]
        failed = [
            f"{count} x {what}\n{self.examples[what]}" for what, count in self.failures.items()
        ]
        return "\n".join([*sorted(lines), f"failures {self.failures.total()}", *failed])

    def fail(self, what: str, example: str) -> None:
        """Count a failure, and keep the first example of its kind."""
        self.failures[what] += 1
        self.examples.setdefault(what, example)

    def take(self, scenario: ScenarioRecorder) -> None:
        """Count what one scenario of schemathesis sent and found."""
        for sent in scenario.interactions.values():
            status = str(sent.response.status_code) if sent.response else "no answer"
            self.statuses[scenario.label, status] += 1
            if sent.response is None:
                self.fail(f"{scenario.label}: no answer", sent.request.uri)
        for checks in scenario.checks.values():
            for check in checks:
                if check.failure_info is not None:
                    found = check.failure_info.failure
                    example = f"{found.message}\n{check.failure_info.code_sample}"
                    self.fail(f"{scenario.label}: {check.name}: {found.title}", example)


def fuzz(port: int, *, files: Sequence[Path], cases: int, seed: int) -> Fuzzed:
    """Return how the service on `port` answered at least `cases` requests made with `seed`.

    The first round also sends every boundary that the document has. `files` are paths that half of
    the requests for files name; /shutdown is left out.
    """
    fuzzed, number = Fuzzed(), 0
    url = f"http://127.0.0.1:{port}"
    while fuzzed.cases < cases and not fuzzed.failures.total():
        examples = max(MIN_EXAMPLES, min(MAX_EXAMPLES, (cases - fuzzed.cases) // 3))
        config = _config(url, files, seed=seed + number, examples=examples)
        config.projects.default.phases.coverage.enabled = number == 0
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
        before = fuzzed.cases
        for event in engine.from_schema(schema).execute():
            if isinstance(event, ScenarioFinished):
                fuzzed.take(event.recorder)
            elif isinstance(event, (NonFatalError, FatalError)):
                fuzzed.fail(f"schemathesis: {type(event).__name__}", repr(event))
        if fuzzed.cases == before:
            fuzzed.fail("schemathesis: nothing was sent", url)
        number += 1
    return fuzzed


def _config(url: str, files: Sequence[Path], *, seed: int, examples: int) -> schemathesis.Config:
    in_time = {"not_a_server_error": {"expected-statuses": ["2xx", "4xx", *SERVER_ERRORS]}}
    # Whether a path leads anywhere, an overlap fits its chunk, a text is a duration, or a model has
    # a prompt of some name or vectors of some length is beyond what a schema says.
    wishes = ["2xx", "400", "404", "422", "429", *SERVER_ERRORS]
    accepted = ["2xx", "403", "404", "409", "413", "422", "429", "431", *SERVER_ERRORS]
    # 431 is a prompt that is too long for a query.
    refused = ["400", "403", "404", "405", "409", "415", "422", "429", "431", *SERVER_ERRORS]
    return schemathesis.Config.from_dict(
        {
            "seed": seed,
            "base-url": url,
            "continue-on-failure": True,
            "request-timeout": REQUEST_SECONDS,
            "cache": {"enabled": False},
            "checks": in_time,
            "generation": {"max-examples": examples, "database": "none", "no-shrink": True},
            "phases": {"stateful": {"enabled": False}, "examples": {"enabled": False}},
            "dictionaries": {"files": {"values": [str(path) for path in files]}},
            "operations": [
                {"include-path": "/shutdown", "enabled": False},
                {
                    "include-path-regex": TEXT_ROUTES,
                    "checks": {"positive_data_acceptance": {"expected-statuses": wishes}},
                },
                {
                    "include-path-regex": "^/embed-file",
                    "checks": {
                        "positive_data_acceptance": {"expected-statuses": accepted},
                        "negative_data_rejection": {"expected-statuses": refused},
                    },
                    "parameters": {"body.path": {"dictionary": "files", "probability": 0.5}},
                },
            ],
        }
    )


def documents(folder: Path) -> list[Path]:
    """Return small documents of every kind, made in `folder`: two of them are no good."""
    line = "A harbour at dawn has room for boats that bring salt and news from the north. "
    made = {
        "note.txt": (line * 12).encode(),
        "page.md": ("# Boats\n\n" + line * 40).encode(),
        "empty.txt": b"",
        "paper.pdf": pdf([line, "The second page."]),
        "broken.pdf": pdf([line])[:200],
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in made]


def main(arguments: Sequence[str]) -> int:
    """Start, send, stop, report; 0 if nothing failed and the service stopped with 0."""
    parser = argparse.ArgumentParser(prog="ci/fuzz-api", description="Hold answers to the API.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("cases", type=int, nargs="?", default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        words = [*program(options.bundle), "--port", "0", "--allow-dir", str(folder)]
        with running(words, max_seconds=MAX_SECONDS) as service:
            port, files = service.wait_ready(), documents(folder)
            seen = fuzz(port, files=files, cases=options.cases, seed=options.seed)
            code = service.stop()
    sys.stdout.write(f"{seen.report()}\nstopped with {code}\n")
    return 1 if seen.failures or code else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
