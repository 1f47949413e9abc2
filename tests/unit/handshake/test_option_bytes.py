"""Masking many segments' options at once equals masking each one."""

from __future__ import annotations

import numpy as np

from tests.support.rows import golden_events, random_batch
from tracer.handshake.option_bytes import WIDTH, layout_keys, masked


def by_hand(options: bytes, stamps: int, cookie: int, cookie_len: int) -> bytes:
    found = bytearray(options)
    for start, length in ((stamps, 8), (cookie, cookie_len)):
        for place in range(start, min(start + length, len(found))):
            found[place] = 0
    return bytes(found)


def test_masked_options() -> None:
    rng = np.random.default_rng(1)
    odd = random_batch(1, 2000).events["syn"]
    odd["options"] = rng.integers(0, 256, odd["options"].shape)
    for name in ("ts_offset", "tfo_offset", "cookie_len"):
        odd[name] = rng.choice([0, 2, 4, 20, 33, 38, 39, 40, 41, 254, 255], len(odd))
    assert odd["options"].shape[1] == WIDTH
    for segment in (odd, golden_events()["syn"], golden_events()["synack"]):
        expected = [
            by_hand(one["options"].tobytes(), int(one["ts_offset"]), int(one["tfo_offset"]), int(one["cookie_len"]))
            for one in segment
        ]
        found = masked(segment)
        assert [one.tobytes() for one in found] == expected
        lengths = segment["options_len"]
        assert layout_keys(found, lengths) == [
            one[:length] for one, length in zip(expected, lengths.tolist(), strict=True)
        ]
