"""How much is measured: more rounds and texts cost time and make noise smaller."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Numbers of texts, rounds and clients: by default those of a full measurement.

    `requests` are of `request_size` texts each.
    """

    texts: int = 1024
    rounds: int = 3
    starts: int = 3
    requests: int = 16
    singles: int = 64
    clients: int = 64
    crowd_texts: int = 256
    beside: int = 100
    bulk_size: int = 256
    sweep_texts: int = 256
    sweep_sizes: tuple[int, ...] = (1, 8, 32, 128)
    sweep_clients: tuple[int, ...] = (1, 4, 16)
    ceiling_rows: tuple[int, ...] = (512, 1024, 2048)
    request_size: int = 32
    pause_s: float = 0.05

    def lighter(self) -> Effort:
        """Return an effort with a quarter of the texts, for models that cost so much more."""
        return replace(
            self,
            texts=max(self.request_size, self.texts // 4),
            requests=max(1, self.requests // 4),
            singles=max(4, self.singles // 2),
            crowd_texts=max(self.clients, self.crowd_texts // 4),
            beside=max(4, self.beside // 2),
            bulk_size=max(self.request_size, self.bulk_size // 4),
            sweep_texts=max(self.request_size, self.sweep_texts // 4),
        )


FULL = Effort()
QUICK = Effort(
    texts=128,
    rounds=2,
    starts=1,
    requests=3,
    singles=12,
    crowd_texts=64,
    beside=10,
    bulk_size=128,
    sweep_texts=64,
    sweep_sizes=(8, 64),
    sweep_clients=(1, 4),
    ceiling_rows=(512,),
)
