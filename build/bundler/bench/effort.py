"""How much is measured: more rounds and texts cost time and make noise smaller."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Numbers of texts, rounds and clients. `requests` are of `request_size` texts each."""

    texts: int
    rounds: int
    starts: int
    requests: int
    singles: int
    clients: int
    crowd_texts: int
    beside: int
    bulk_size: int
    sweep_texts: int
    sweep_sizes: tuple[int, ...]
    sweep_clients: tuple[int, ...]
    ceiling_rows: tuple[int, ...]
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


FULL = Effort(
    texts=1024,
    rounds=3,
    starts=3,
    requests=16,
    singles=64,
    clients=64,
    crowd_texts=256,
    beside=100,
    bulk_size=256,
    sweep_texts=256,
    sweep_sizes=(1, 8, 32, 128),
    sweep_clients=(1, 4, 16),
    ceiling_rows=(512, 1024, 2048),
)
QUICK = Effort(
    texts=128,
    rounds=2,
    starts=1,
    requests=3,
    singles=12,
    clients=64,
    crowd_texts=64,
    beside=10,
    bulk_size=128,
    sweep_texts=64,
    sweep_sizes=(8, 64),
    sweep_clients=(1, 4),
    ceiling_rows=(512,),
)
