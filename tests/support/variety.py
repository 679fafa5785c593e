"""Texts of every kind that people send, and of some that nobody should."""

from __future__ import annotations

import random

COUNT = 200
PIECES = (
    "the tide tables for Tuesday",
    "潮汐表在星期二更新",
    "港の朝は静かだ",
    "جدول المد والجزر ليوم الثلاثاء",
    "לוח הגאות",
    "расписание приливов",
    "🌊🛶 👩🏽‍🚒 🇵🇹",
    "ﬁ ﬂ e\u0301 Å ß İ",
    "\u200b\u200d\u202e\ufeff",
    "SELECT * FROM tides;",
    "½ 42 3.14 1e-9",
    "\t\r\n",
)


def varied(known: tuple[str, ...]) -> list[str]:
    """Return COUNT texts: those of the golden file, then mixtures from nothing to very long."""
    chance = random.Random(8421)
    texts = [*known, "", "\0", "x" * 10_000, "word " * 2_000, "𝔘𝔫𝔦" * 300]
    while len(texts) < COUNT:
        length = chance.choice((1, 1, 2, 3, 5, 8, 13, 40))
        texts.append(" ".join(chance.choice(PIECES) for _ in range(length)))
    return texts
