"""The service's own program around a stub engine: `python stub_service.py [OPTION]... OPTIONS`.

Everything is real but the model: signals, streams, the port, the web server, the exit code.
`--slow-load` loads for ten minutes; `--short` gives a connection two seconds for anything. A text
`wait` holds the thread that computes, a word `sleep` holds it for a second and a half.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "service"), str(ROOT)]

from sidecar import cli, settings  # noqa: E402 (the path comes first)
from sidecar.process import listener  # noqa: E402 (the path comes first)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.models.loader import Loaded

LONG_S = 600
SLEEP_S = 1.5


def main(arguments: list[str]) -> None:
    """Run the service with the options left in `arguments`."""
    is_slow = "--slow-load" in arguments
    own = ("--slow-load", "--short")
    options = [argument for argument in arguments if argument not in own]
    if "--short" in arguments:
        quick = settings.Bounds(idle_s=2, head_s=2, body_s=2, linger_s=2, window_s=2, grace_s=2)
        vars(cli)["bounded"] = lambda _bounds: quick

    def listen_then_stub(*given: Any, **named: Any) -> Any:
        sock = listener.listen(*given, **named)  # nothing heavy may be imported before
        stub(is_slow=is_slow)
        return sock

    vars(cli)["listen"] = listen_then_stub
    cli.run(options)


def stub(*, is_slow: bool) -> None:
    """Put the stub engine in place of the model that the settings ask for."""
    from sidecar.models import loader  # noqa: PLC0415
    from tests.support.stub_engine import PROMPTS, SNAPSHOT, StubEngine  # noqa: PLC0415

    class Engine(StubEngine):
        def tokenize(self, texts: Any, **named: Any) -> Any:
            if "wait" in texts:
                self.gate.clear()
            return super().tokenize(texts, **named)

        def encode(self, batch: Any, **named: Any) -> Any:
            if any(self.token("sleep") in ids for ids in batch):
                time.sleep(SLEEP_S)
            return super().encode(batch, **named)

    def load(_settings: object, events: Any, report: Callable[[str], None]) -> Loaded:
        report("loading")
        events.write_event("model_cached", {"model": SNAPSHOT.repository})
        if is_slow:
            time.sleep(LONG_S)
        return loader.Loaded(engine=Engine(), snapshot=SNAPSHOT, prompts=PROMPTS)

    loader.load = load  # type: ignore[assignment]


if __name__ == "__main__":
    main(sys.argv[1:])
