"""Payloads wait for their record within a bound, and their bytes are counted correctly."""

from __future__ import annotations

import numpy as np

from tracer.handshake.events import SynPayload
from tracer.ring.payloads import WAIT_NS, PayloadCache
from tracer.vocabulary.vocabulary import HandshakeResult


def payload(number: int, size: int = 100) -> SynPayload:
    return SynPayload(number, number * 10, size, bytes(size))


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


def test_a_record_takes_its_own_payload_once() -> None:
    cache = PayloadCache()
    cache.add([payload(1), payload(2)])
    assert cache.take(events(2, 3)) == {(2, 20): payload(2)}
    assert cache.take(events(2)) == {}
    assert cache.take(events(1)) == {(1, 10): payload(1)}


def test_a_second_record_finds_the_payload_of_the_one_that_failed() -> None:
    cache = PayloadCache()
    cache.add([payload(1), payload(2)])
    for number in (1, 2):
        assert cache.take(events(number, result=HandshakeResult.ABORTED)) == {(number, number * 10): payload(number)}
    assert cache.take(events(1, resumed=HandshakeResult.ABORTED)) == {(1, 10): payload(1)}
    assert cache.take(events(2)) == {}


def test_of_the_failed_only_the_latest_are_kept() -> None:
    cache = PayloadCache()
    cache.add(payload(number) for number in range(1, 201))
    cache.take(events(*range(1, 201), result=HandshakeResult.REJECTED))
    again = cache.take(events(*range(1, 201), resumed=HandshakeResult.REJECTED))
    assert set(again) == {(number, number * 10) for number in range(137, 201)}


def test_records_without_data_take_nothing() -> None:
    cache = PayloadCache()
    cache.add([payload(1)])
    assert cache.take(events(1, length=0)) == {}


def test_the_oldest_go_first_and_are_counted() -> None:
    cache = PayloadCache(limit_bytes=1000)  # three of 100 bytes with what Python adds to each
    cache.add(payload(number) for number in range(1, 6))
    assert cache.dropped == 2
    assert set(cache.take(events(1, 2, 3, 4, 5))) == {(3, 30), (4, 40), (5, 50)}


def test_the_same_payload_again_is_held_once() -> None:
    cache = PayloadCache(limit_bytes=1000)
    for _ in range(50):
        cache.add([payload(1)])
    assert cache.dropped == 0
    cache.add([payload(2), payload(3)])
    assert set(cache.take(events(1, 2, 3))) == {(1, 10), (2, 20), (3, 30)}


def test_those_of_lost_records_go_after_a_while() -> None:
    cache = PayloadCache()
    cache.add([payload(1), payload(2)])
    cache.add([SynPayload(3, 15 + WAIT_NS, 100, bytes(100))])
    assert cache.dropped == 1
    assert set(cache.take(events(1, 2))) == {(2, 20)}
