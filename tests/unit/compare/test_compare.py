"""Two places' rows: what is told of made-up paths, and that nothing is told of one that changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import ip_address

import numpy as np
import pytest

from tests.support.schema import assert_valid
from tracer.compare.compare import compare
from tracer.compare.lines import as_json
from tracer.compare.model import Comparison, Towards
from tracer.compare.place import ROW, SECOND_NS, Layouts, Place, Rows
from tracer.compare.text import lines
from tracer.vocabulary.addresses import sixteen_bytes
from tracer.vocabulary.changes import Piece, What
from tracer.vocabulary.vocabulary import After, HandshakeResult, Has, SettleReason

NOW_NS = 1_700_000_000 * SECOND_NS
USUAL = b"\x02\x02\x04\x02\x08\x02\x01\x03\x02"  # as recordings have them: mss, sack_permitted, timestamps, nop, wscale
FAST_OPEN = USUAL + b"\x22\x02"
ONE_WAY_NS = 10_000_000  # from the first place to the second
SERVER_NS = 20_000_000  # from the second place to the server and back


class Listed(Place):
    """A place whose rows a test makes."""

    def __init__(self, name: str, layouts: Layouts, made: Rows) -> None:
        super().__init__(name, layouts)
        self.began_ns = int(made["syn_ns"].min()) - SECOND_NS
        self.ended_ns = int(made["syn_ns"].max()) + 60 * SECOND_NS
        self.made = made

    def rows(self) -> Rows:
        self._chunks = [self.made]
        return Place.rows(self)


def layouts() -> Layouts:
    found = Layouts()
    for one in (b"", USUAL, FAST_OPEN):
        assert found._number(one + bytes(40 - len(one)) + bytes((len(one),))) == len(found.known) - 1
    return found


def seen(count: int, *, seed: int = 1, stamped: bool = True) -> Rows:
    """What a place in front of clients sees: established, every other one with Fast Open and data in its SYN."""
    random = np.random.default_rng(seed)
    rows = np.zeros(count, ROW)
    rows["id"] = random.choice(np.arange(1, 100 * count, dtype=np.uint64), count, replace=False)
    rows["syn_ns"] = NOW_NS + np.sort(random.integers(0, 600 * SECOND_NS, count))
    rows["client"] = np.frombuffer(sixteen_bytes(ip_address("192.0.2.1").packed), np.uint8)
    rows["server"] = np.frombuffer(sixteen_bytes(ip_address("198.51.100.1").packed), np.uint8)
    rows["client_port"] = 1024 + np.arange(count) % 60000
    rows["server_port"] = 443
    rows["family"], rows["syn_count"], rows["synack_count"], rows["synack_isns"] = 4, 1, 1, 1
    rows["result"], rows["after"] = int(HandshakeResult.ESTABLISHED), int(After.RESPONSE)
    rows["reason"] = int(SettleReason.BY_RESPONSE)
    rows["synack_ns"] = rows["syn_ns"] + 2 * ONE_WAY_NS + SERVER_NS
    rows["ack_ns"] = rows["synack_ns"] + 1_000_000
    rows["response_ns"] = rows["ack_ns"] + 2 * ONE_WAY_NS + SERVER_NS
    fast = np.arange(count) % 2 == 0
    for name, sender in (("syn", 1), ("synack", 2)):
        segment = rows[name]
        segment["seq"] = random.integers(0, 1 << 32, count)
        segment["has"] = int(Has.SEGMENT | Has.MSS | Has.WSCALE | Has.SACK)
        if stamped:
            segment["has"] |= int(Has.TIMESTAMPS)
            segment["ts_val"] = rows["syn_ns"] // 1_000_000 % (1 << 32) + sender
        segment["mss"], segment["wscale"], segment["window"], segment["ttl"] = 1460, 7, 64240, 63
        segment["options"] = 1
    rows["syn"]["options"][fast] = 2
    rows["syn"]["has"][fast] |= int(Has.TFO)
    rows["syn"]["payload_len"][fast] = 517
    return rows


def beyond(near: Rows, *, ahead_ns: int = 0, jitter_ns: int = 2_000_000, hops: int = 3, seed: int = 2) -> Rows:
    """The same handshakes at a place nearer to the servers, with a clock of its own."""
    random = np.random.default_rng(seed)
    far = near.copy()
    far["syn_ns"] += ahead_ns + ONE_WAY_NS + random.integers(0, jitter_ns, len(far))
    far["synack_ns"] += ahead_ns - ONE_WAY_NS - random.integers(0, jitter_ns, len(far))
    far["ack_ns"] = far["synack_ns"] + 2 * ONE_WAY_NS
    far["response_ns"] += ahead_ns - ONE_WAY_NS
    far["syn"]["ttl"] -= hops
    far["synack"]["ttl"] += hops
    return far


def told(near: Rows, far: Rows, *, swapped: bool = False) -> Comparison:
    shared = layouts()
    one, other = Listed("near", shared, near), Listed("far", shared, far)
    found = compare(other, one) if swapped else compare(one, other)
    assert list(lines([found]))  # it can be told
    assert_valid(json.loads(as_json([found])))
    return found


def kinds(found: Comparison) -> dict[tuple[What, Piece], int]:
    return {(one.what, one.piece): one.count for one in found.findings}


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("ahead_s", [0, 3, -86400])
def test_nothing_is_invented(stamped: bool, swapped: bool, ahead_s: int) -> None:
    near = seen(10_000, stamped=stamped)
    found = told(near, beyond(near, ahead_ns=ahead_s * SECOND_NS), swapped=swapped)
    assert (found.near, found.far, found.both, found.findings) == ("near", "far", 10_000, [])
    assert (found.missing, found.not_judged, found.other_way, found.hops) == (0, 0, 0, 3)
    assert found.offset is not None
    assert found.offset.error_ns is not None
    assert abs(found.offset.ns - ahead_s * SECOND_NS) <= found.offset.error_ns
    assert found.offset.error_ns < 2 * ONE_WAY_NS
    assert found.times is not None
    assert found.times.between is not None
    assert found.times.between.median_us == pytest.approx(2 * ONE_WAY_NS / 1000, rel=0.2)


def test_clients_at_both_sides() -> None:
    """Some connections go the other way; what changed is told of each in its own direction."""
    near = seen(200)
    far = beyond(near)
    back = slice(150, 200)
    near[back], far[back] = far[back].copy(), near[back].copy()
    far["syn"]["mss"][:150] = 1300
    found = told(near, far)
    assert (found.near, found.other_way) == ("near", 50)
    assert kinds(found) == {(What.MSS_CHANGED, Piece.SYN): 150}
    assert found.findings[0].towards is Towards.SERVER


def _data_cut(far: Rows) -> None:
    far["syn"]["payload_len"] = 0


def _numbers_rewritten(far: Rows) -> None:
    far["id"] += np.uint64(1 << 40)
    far["syn"]["seq"] += np.uint32(77)


def _answers_rewritten(far: Rows) -> None:
    far["synack"]["seq"] += np.uint32(77)


def _ports_translated(far: Rows) -> None:
    far["id"] += np.uint64(1 << 40)
    far["client"][:, 15] = 99


def _cookie_cut(far: Rows) -> None:
    far["syn"]["cookie_len"][::2] = 4


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (_data_cut, {(What.PAYLOAD_STRIPPED, Piece.SYN): 50}),
        (_numbers_rewritten, {(What.ISN_CHANGED, Piece.SYN): 100}),
        (_answers_rewritten, {(What.ISN_CHANGED, Piece.SYNACK): 100}),
        (_ports_translated, {(What.CLIENT_TRANSLATED, Piece.SYN): 100}),
        (_cookie_cut, {(What.COOKIE_CHANGED, Piece.SYN): 50}),
    ],
    ids=["data", "syn_numbers", "synack_numbers", "client", "cookie"],
)
def test_a_box(box: Callable[[Rows], None], expected: dict[tuple[What, Piece], int]) -> None:
    near = seen(100)
    far = beyond(near, ahead_ns=3 * SECOND_NS)
    box(far)
    assert kinds(told(near, far)) == expected


def test_a_box_that_resets_the_server_in_the_clients_name() -> None:
    near = seen(20)
    far = beyond(near)
    near["after"], near["reason"] = int(After.SILENCE), int(SettleReason.BY_TIMEOUT)
    near["response_ns"] = 0
    far["after"], far["reason"], far["reset_from"] = int(After.RESET_BY_CLIENT), int(SettleReason.BY_RST), 1
    far["response_ns"] = 0
    found = told(near, far)
    assert kinds(found) == {(What.REFUSED, Piece.RST): 20}
    assert found.findings[0].towards is Towards.SERVER
    assert not found.findings[0].certain, "the near place might have missed it"


def test_translation_without_timestamps_needs_an_end_in_common() -> None:
    """A sequence number alone is no proof: both ends differ, so nothing is joined."""
    near = seen(50, stamped=False)
    far = beyond(near)
    _ports_translated(far)
    far["server"][:, 15] = 99
    found = told(near, far)
    assert (found.both, found.findings) == (0, [])
    assert found.doubts


@pytest.mark.parametrize("reason", ["server unknown", "not watching", "not whole"])
def test_what_is_not_judged(reason: str) -> None:
    """Handshakes that the far place did not see are no losses unless it would have seen them."""
    near = seen(100)
    near["result"][90:] = int(HandshakeResult.NO_REPLY)
    near["synack"]["has"][90:] = 0
    near["synack_count"][90:] = near["synack_ns"][90:] = near["ack_ns"][90:] = 0
    far = beyond(near)[:90]
    shared = layouts()
    if reason == "server unknown":
        near["server"][90:, 15], near["client"][90:, 15] = 77, 78
    ours, theirs = Listed("near", shared, near), Listed("far", shared, far)
    if reason == "not watching":
        theirs.ended_ns = int(far["syn_ns"].max())
        near["syn_ns"][90:] = theirs.ended_ns + SECOND_NS
    if reason == "not whole":
        theirs.argv = ("tfotrace", "eth0", "--filter=port 443")
    found = compare(ours, theirs)
    assert (found.findings, found.missing, found.not_judged) == ([], 0, 10)
    assert bool(found.doubts) == (reason == "not whole")


def test_an_empty_place() -> None:
    near = seen(5)
    shared = layouts()
    ours = Listed("near", shared, near)
    found = compare(ours, Place("far", shared))
    assert (found.both, found.seen) == (0, (5, 0))
    assert "nothing can be compared" in next(lines([found]))


def test_hostile_names_are_printable() -> None:
    shared = layouts()
    near = seen(5)
    found = compare(Listed("a\x1b[31m", shared, near), Listed("b\r", shared, beyond(near)))
    assert not any("\x1b" in line or "\r" in line for line in lines([found]))


def _translated(far: Rows) -> Rows:
    _ports_translated(far)
    return far


def test_translated_without_timestamps() -> None:
    near = seen(200, stamped=False)
    found = told(near, _translated(beyond(near, ahead_ns=3 * SECOND_NS)))
    assert (found.both, found.translated) == (200, 200)
    assert kinds(found) == {(What.CLIENT_TRANSLATED, Piece.SYN): 200}
    # clients that begin to count timestamps at 0
    near = seen(200)
    near["syn"]["ts_val"] = 0
    assert told(near, _translated(beyond(near))).translated == 200


def _at_another_time(far: Rows) -> None:
    far["syn_ns"][0] += 2 * SECOND_NS


def _with_another_window(far: Rows) -> None:
    far["syn"]["window"][0] = 65535


def _with_other_ends(far: Rows) -> None:
    far["server"][0], far["client_port"][0] = 1, 1


@pytest.mark.parametrize("alter", [_at_another_time, _with_another_window, _with_other_ends])
def test_the_number_alone_joins_nothing(alter: Callable[[Rows], None]) -> None:
    near = seen(200, stamped=False)
    far = _translated(beyond(near))
    alter(far)
    assert told(near, far).translated == 199


def test_unrelated_traffic_is_not_joined_by_chance() -> None:
    """Of 50,000 and 50,000 strangers one or two have the same number."""
    near, far = seen(50_000, stamped=False), seen(50_000, seed=2, stamped=False)
    far["id"] += 1 << 40
    far["syn"]["seq"][:3], far["client_port"] = near["syn"]["seq"][:3], 5
    assert told(near, far).both == 0
