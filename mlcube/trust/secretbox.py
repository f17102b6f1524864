"""NaCl's secret box (XSalsa20 and Poly1305), in which cosign keeps a private key; for a few hundred bytes."""

import struct

__all__ = ["NONCE_BYTES", "opened", "sealed"]

NONCE_BYTES = 24
_TAG_BYTES = 16
_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_QUARTERS = (
    *((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11)),
    *((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14)),
)
"""Which words a round mixes: columns, then rows."""


def sealed(content: bytes, nonce: bytes, key: bytes) -> bytes:
    """The content under a key of 32 bytes; a nonce is used once."""
    stream = _stream(nonce, key, 32 + len(content))
    hidden = _mixed(content, stream[32:])
    return _tag(hidden, stream[:32]) + hidden


def opened(box: bytes, nonce: bytes, key: bytes) -> bytes | None:
    """The content of a box; None when the key is another, or the box was changed."""
    import hmac

    tag, hidden = box[:_TAG_BYTES], box[_TAG_BYTES:]
    stream = _stream(nonce, key, 32 + len(hidden))
    if len(nonce) != NONCE_BYTES or not hmac.compare_digest(tag, _tag(hidden, stream[:32])):
        return None
    return _mixed(hidden, stream[32:])


def _tag(hidden: bytes, key: bytes) -> bytes:
    from cryptography.hazmat.primitives.poly1305 import Poly1305

    return Poly1305.generate_tag(key, hidden)


def _mixed(content: bytes, stream: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(content, stream, strict=True))


def _stream(nonce: bytes, key: bytes, length: int) -> bytes:
    """XSalsa20: a key of the nonce's first 16 bytes, then blocks counted beside its last 8."""
    words = struct.unpack("<8I", key)
    nonce_words = struct.unpack("<6I", nonce.ljust(NONCE_BYTES, b"\0")[:NONCE_BYTES])
    mixed = _rounds(_state(words, nonce_words[:4]))
    inner = tuple(mixed[place] for place in (0, 5, 10, 15, 6, 7, 8, 9))
    blocks = bytearray()
    for counter in range(-(-length // 64)):
        state = _state(inner, (*nonce_words[4:], counter, 0))
        added = ((a + b) & 0xFFFFFFFF for a, b in zip(state, _rounds(state), strict=True))
        blocks += struct.pack("<16I", *added)
    return bytes(blocks[:length])


def _state(key: tuple[int, ...], middle: tuple[int, ...]) -> list[int]:
    return [_SIGMA[0], *key[:4], _SIGMA[1], *middle, _SIGMA[2], *key[4:], _SIGMA[3]]


def _rounds(state: list[int]) -> list[int]:
    """The 20 rounds of Salsa20, without the last addition."""
    words = list(state)
    for _ in range(10):
        for a, b, c, d in _QUARTERS:
            words[b] ^= _turned(words[a] + words[d], 7)
            words[c] ^= _turned(words[b] + words[a], 9)
            words[d] ^= _turned(words[c] + words[b], 13)
            words[a] ^= _turned(words[d] + words[c], 18)
    return words


def _turned(word: int, bits: int) -> int:
    word &= 0xFFFFFFFF
    return ((word << bits) | (word >> (32 - bits))) & 0xFFFFFFFF
