"""The summary says what was not read, and what the packets of a run without a handshake were."""

from __future__ import annotations

import re

import msgspec
import pytest

from tracer.aggregate.aggregate import Aggregate, balance
from tracer.aggregate.summary import summarize
from tracer.aggregate.unread import Source
from tracer.ipc.event_header import struct
from tracer.records.record import SCHEMA
from tracer.records.run import End
from tracer.vocabulary.packets import MALFORMED, NOT_READ, malformed, not_read

COUNTERS = tuple(one.name for one in struct("counters").fields)
CAPTURE, RECORDS = Source.CAPTURE, Source.RECORDS


def end(handshakes: int = 0, **counters: int) -> End:
    """The record that closes a run in which the programs counted these and zero of all else."""
    counted = {**dict.fromkeys(COUNTERS, 0), **counters}
    totals = msgspec.structs.replace(Aggregate().totals(), handshakes=handshakes)
    sheet = balance(counted, 0, 0, 0)
    return End(SCHEMA, "", "asked", 0, 1.0, totals, sheet, counted, not_read=not_read(counted))


def told(record: End, source: Source = Source.INTERFACES) -> list[str]:
    """The summary but for its first and last sentence, which every run has, and what it says of Fast Open."""
    said: list[str] = []
    summarize(record, said.append, source=source)
    assert re.fullmatch(r"\d+ handshakes? in 1\.0 s(: .*|)", said[0])
    assert said[-1] == "nothing lost"
    return [one for one in said[1:-1] if not one.startswith("Fast Open: ")]


def test_every_counter_of_the_programs_has_its_words() -> None:
    assert {f"not_read_{kind}" for kind in NOT_READ} == {name for name in COUNTERS if name.startswith("not_read_")}
    of_packets = {name for name in COUNTERS if name.startswith("malformed_") and "option" not in name}
    assert {f"malformed_{reason}" for reason in MALFORMED} == of_packets


def test_kinds_come_by_number_and_without_zeros() -> None:
    counters = {"not_read_mpls": 40, "not_read_gre": 0, "not_read_vxlan": 12034, "malformed_tcp_flags": 1, "packets": 9}
    found = not_read(counters)
    assert found is not None
    assert list(found.items()) == [("vxlan", 12034), ("mpls", 40)]
    assert not_read({"not_read_gre": 0}) == {}
    assert not_read({"packets": 9}) is None, "an older file: nobody counted"
    assert malformed(counters) == {"tcp_flags": 1}


def test_what_was_not_read_is_told_with_the_place_where_it_can_be_seen() -> None:
    frames = {"not_read_vxlan": 12034, "not_read_mpls": 40}
    (live,) = told(end(handshakes=3, packets=20000, syns=3, **frames))
    assert live == (
        "not read: 12,034 frames inside VXLAN, 40 inside MPLS. Handshakes in there are seen only at the tunnel's own "
        "interface (vxlan0, say), if this host is its end: trace that, or `any`"
    )
    (recorded,) = told(end(handshakes=3, packets=20000, syns=3, **frames), RECORDS)
    assert recorded.endswith(". Handshakes in there are not among these")
    (none,) = told(end(handshakes=3, packets=2, not_read_sgt=1))
    assert none == "not read: 1 frame inside Cisco SGT. Handshakes in there are not among these"


def test_a_replay_says_what_it_would_have_read_into() -> None:
    (said,) = told(end(handshakes=1, packets=50, not_read_mpls=40, not_read_vlan=2), CAPTURE)
    assert said == (
        "not read: 40 frames inside MPLS, 2 inside 3+ VLAN tags. Handshakes in there are not among these: "
        "a replay reads into GRE, VXLAN, GENEVE and IP in IP, and into nothing else"
    )
    (nested,) = told(end(handshakes=1, packets=50, not_read_vxlan=40), CAPTURE)
    assert nested.endswith(
        "are not among these: they are cut, fragmented, nested too deep, or of a form that a replay does not read"
    )


def test_nothing_is_said_of_what_is_not_there_or_not_known() -> None:
    assert told(end(handshakes=3, packets=20000, syns=3, not_tcp=5, malformed_tcp_header=7)) == []
    assert told(msgspec.structs.replace(end(), counters={}, not_read=None), RECORDS) == []
    assert told(msgspec.structs.replace(end(handshakes=1), not_read={"of_a_later_version": 4})) == []


@pytest.mark.parametrize("source", list(Source))
def test_a_run_without_packets_says_so(source: Source) -> None:
    assert told(end(), source) == ["no packet was read"]


def test_malformed_packets_are_told_by_their_main_reason() -> None:
    assert told(end(packets=4, malformed_tcp_offset=4), CAPTURE) == [
        "4 packets seen: 4 malformed (a TCP data offset beyond the segment)"
    ]
    assert told(end(packets=9, malformed_tcp_offset=2, malformed_ip_length=5, fragments=1, not_tcp=1), CAPTURE) == [
        "9 packets seen: 7 malformed (mostly an IP length beyond the frame), 1 fragment after the first, "
        "1 of other kinds"
    ]


def test_connections_whose_beginning_was_not_seen_are_told() -> None:
    seen = "1,200 packets seen: 1,100 TCP without SYN, 100 of other kinds"
    for source in Source:
        assert told(end(packets=1200, not_tcp=100), source) == [seen, source.value]
    assert Source.CAPTURE.value == "the capture has no SYN: it began after the connections did, or was filtered"
    assert told(end(packets=2, synacks=2, synack_unmatched=2), CAPTURE)[-1] == Source.CAPTURE.value


def test_tunnels_alone_are_no_missing_syn() -> None:
    first, second = told(end(packets=1, not_read_vxlan=1))
    assert first == "1 packet seen: 1 not read"
    assert second.startswith("not read: 1 frame inside VXLAN. ")


def test_syns_that_opened_nothing_are_told_with_why() -> None:
    first, second = told(end(packets=3, syns=3, filtered=3))
    assert first == "3 packets seen: 3 SYNs"
    assert second == "3 SYNs did not match --filter, not followed"


def test_an_older_recording_does_not_tell_tcp_from_the_rest() -> None:
    record = msgspec.structs.replace(end(), counters={"packets": 7, "malformed_tcp_header": 1}, not_read=None)
    assert told(record, RECORDS) == ["7 packets seen: 1 malformed (a bad or cut TCP header)"]


@pytest.mark.parametrize("unread", [{"malformed_tcp_header": 2}, {"fragments": 2}, {"not_read_vxlan": 2}])
def test_where_some_could_not_be_read_nobody_says_that_there_was_no_syn(unread: dict[str, int]) -> None:
    for source in Source:
        assert source.value not in told(end(packets=4, **unread), source)
