"""AES of 128 bits in cipher block chaining (FIPS 197), to write test documents with."""

from __future__ import annotations

BLOCK = 16


def _boxes() -> list[int]:
    box, p, q = [0] * 256, 1, 1
    while True:
        p ^= (p << 1) ^ (0x11B if p & 0x80 else 0)
        p &= 0xFF
        for shift in (1, 2, 4):
            q ^= q << shift & 0xFF
        q ^= 0x09 if q & 0x80 else 0
        turned = q
        for shift in (1, 2, 3, 4):
            turned ^= (q << shift | q >> (8 - shift)) & 0xFF
        box[p] = turned ^ 0x63
        if p == 1:
            box[0] = 0x63
            return box


_BOX = _boxes()


def _doubled(value: int) -> int:
    return (value << 1 ^ (0x11B if value & 0x80 else 0)) & 0xFF


def _round_keys(key: bytes) -> list[bytes]:
    words, factor = [key[at : at + 4] for at in range(0, BLOCK, 4)], 1
    for number in range(4, 44):
        word = words[-1]
        if number % 4 == 0:
            word = bytes(_BOX[byte] for byte in word[1:] + word[:1])
            word = bytes([word[0] ^ factor]) + word[1:]
            factor = _doubled(factor)
        words.append(bytes(a ^ b for a, b in zip(words[-4], word, strict=True)))
    return [b"".join(words[at : at + 4]) for at in range(0, 44, 4)]


def _mixed(column: bytes) -> bytes:
    total = column[0] ^ column[1] ^ column[2] ^ column[3]
    return bytes(
        byte ^ total ^ _doubled(byte ^ column[(at + 1) % 4]) for at, byte in enumerate(column)
    )


def _block(keys: list[bytes], block: bytes) -> bytes:
    state = bytes(a ^ b for a, b in zip(block, keys[0], strict=True))
    for number, key in enumerate(keys[1:], start=1):
        state = bytes(_BOX[state[(at + 4 * (at % 4)) % BLOCK]] for at in range(BLOCK))
        if number < len(keys) - 1:
            state = b"".join(_mixed(state[at : at + 4]) for at in range(0, BLOCK, 4))
        state = bytes(a ^ b for a, b in zip(state, key, strict=True))
    return state


def encrypted_cbc(key: bytes, data: bytes, *, start: bytes = bytes(BLOCK)) -> bytes:
    """Return `start` and `data`, filled up as PKCS 7 says, under `key`."""
    keys = _round_keys(key)
    fill = BLOCK - len(data) % BLOCK
    data += bytes([fill]) * fill
    out = [start]
    for at in range(0, len(data), BLOCK):
        mixed = bytes(a ^ b for a, b in zip(data[at : at + BLOCK], out[-1], strict=True))
        out.append(_block(keys, mixed))
    return b"".join(out)
