"""Payloads wait for their record within a bound, and their bytes are counted correctly."""

from __future__ import annotations

import numpy as np

from tracer.handshake.syn_payloads import PayloadBlock, SynPayload
from tracer.ring.payloads import BLOCKS_MAX, WAIT_NS, PayloadCache
from tracer.vocabulary.vocabulary import HandshakeResult


def payload(number: int, size: int = 100) -> SynPayload:
    return SynPayload(number, number * 10, size, number.to_bytes(8, "big") + bytes(size - 8))


def block(*numbers: int) -> PayloadBlock:
    return PayloadBlock.of(map(payload, numbers))


def events(*numbers: int, length: int = 100, result: int = 1, resumed: int = 0) -> np.ndarray:
    dtype = np.dtype(
        [("id", "u8"), ("syn_ns", "u8"), ("syn", [("payload_len", "u2")]), ("result", "u1"), ("resumed", "u1")]
    )
    rows = np.zeros(len(numbers), dtype)
    rows["id"] = numbers
    rows["syn_ns"] = [number * 10 for number in numbers]
    rows["syn"]["payload_len"] = length
    rows["result"] = result
    rows["resumed"] = resumed
    return rows


def keys(*numbers: int) -> set[tuple[int, int]]:
    return {(number, number * 10) for number in numbers}


def test_a_record_takes_its_own_payload_once() -> None:
    cache = PayloadCache()
    cache.add([block(1, 2)])
    assert dict(cache.take(events(2, 3))) == {(2, 20): payload(2)}
    assert dict(cache.take(events(2))) == {}
    assert dict(cache.take(events(1))) == {(1, 10): payload(1)}


def test_each_record_of_one_id_takes_that_of_its_time() -> None:
    cache = PayloadCache()
    sides = [SynPayload(7, 100 + side, 4, b"way%d" % side) for side in range(2)]
    cache.add([PayloadBlock.of(sides[:1]), PayloadBlock.of(sides[1:])])
    rows = events(7)
    for side in sides:
        rows["syn_ns"] = side.syn_ns
        assert list(cache.take(rows).values()) == [side]


def test_a_second_record_finds_the_payload_of_the_one_that_failed() -> None:
    cache = PayloadCache()
    cache.add([block(1, 2)])
    for number in (1, 2):
        taken = cache.take(events(number, result=HandshakeResult.ABORTED))
        assert dict(taken) == {(number, number * 10): payload(number)}
    assert dict(cache.take(events(1, resumed=HandshakeResult.ABORTED))) == {(1, 10): payload(1)}
    assert dict(cache.take(events(2))) == {}


def test_of_the_failed_only_the_latest_are_kept() -> None:
    cache = PayloadCache()
    cache.add([block(*range(1, 201))])
    cache.take(events(*range(1, 201), result=HandshakeResult.REJECTED))
    again = cache.take(events(*range(1, 201), resumed=HandshakeResult.REJECTED))
    assert set(again) == keys(*range(137, 201))


def test_records_without_data_take_nothing() -> None:
    cache = PayloadCache()
    cache.add([block(1)])
    assert dict(cache.take(events(1, length=0))) == {}


def test_the_oldest_go_first_and_are_counted() -> None:
    cache = PayloadCache(limit_bytes=1000)  # six of 100 bytes with what stands beside each
    for number in range(1, 8):
        cache.add([block(number)])
    assert cache.dropped == 2
    assert set(cache.take(events(*range(1, 8)))) == keys(3, 4, 5, 6, 7)


def test_the_same_payload_again_is_held_once() -> None:
    cache = PayloadCache(limit_bytes=1000)
    for _ in range(50):
        cache.add([block(1)])
    assert cache.dropped == 0
    cache.add([block(2, 3)])
    assert set(cache.take(events(1, 2, 3))) == keys(1, 2, 3)


def test_those_of_lost_records_go_after_a_while() -> None:
    cache = PayloadCache()
    cache.add([block(1, 2)])
    cache.add([PayloadBlock.of([SynPayload(3, 15 + WAIT_NS, 100, bytes(100))])])
    assert cache.dropped == 1
    assert set(cache.take(events(1, 2))) == keys(2)


def test_one_that_waits_does_not_keep_the_memory_of_those_beside_it() -> None:
    cache = PayloadCache()
    count, size = 400, 1000
    for first in range(0, 50 * count, count):
        cache.add([PayloadBlock.of(payload(number, size) for number in range(first, first + count))])
        cache.take(events(*range(first + 1, first + count)))
        assert sum(map(len, cache._blocks.values())) < 2 * 50 * size + (2 << 20)
    waiting = range(0, 50 * count, count)
    assert dict(cache.take(events(*waiting))) == {(one, one * 10): payload(one, size) for one in waiting}


def test_many_small_blocks_become_one() -> None:
    cache = PayloadCache()
    numbers = range(1, 3 * BLOCKS_MAX)
    for number in numbers:
        cache.add([block(number)])
        assert len(cache._blocks) <= BLOCKS_MAX + 1
    assert set(cache.take(events(*numbers))) == keys(*numbers)


def test_random_comings_and_goings_agree_with_a_dictionary() -> None:
    rng = np.random.default_rng(3)
    cache, expected = PayloadCache(), dict[tuple[int, int], SynPayload]()
    for _ in range(300):
        numbers = rng.integers(1, 500, int(rng.integers(0, 20))).tolist()
        some = [payload(number, int(rng.integers(8, 5000))) for number in numbers]
        half = len(some) // 2
        cache.add([PayloadBlock.of(some[:half]), PayloadBlock.of(some[half:])])
        expected |= {(one.id, one.syn_ns): one for one in some}
        wanted = rng.integers(1, 500, int(rng.integers(0, 20))).tolist()
        taken = cache.take(events(*wanted))
        assert dict(taken) == {key: expected.pop(key) for key in keys(*wanted) if key in expected}
    assert cache.dropped == 0
