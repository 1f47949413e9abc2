"""DNS queries over TCP in a SYN; scapy writes the queries."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR, DNSRROPT, dnsqtypes

from tracer.dissect.dns import TYPES
from tracer.dissect.payload import Dns, Payload, Protocol, classify

LABEL = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789-_"), min_size=1, max_size=20)


def tcp(message: bytes) -> bytes:
    return struct.pack("!H", len(message)) + message


def raw_query(question: bytes, flags: int = 0x0100, counts: tuple[int, ...] = (1, 0, 0, 0)) -> bytes:
    return tcp(struct.pack("!HHHHHH", 0x1234, flags, *counts) + question)


@given(st.lists(LABEL, min_size=1, max_size=10), st.sampled_from(sorted(TYPES)), st.booleans())
def test_query_by_scapy_is_read_on_any_port(labels: list[str], kind: int, edns: bool) -> None:
    name = ".".join(labels)
    additional = [DNSRROPT()] if edns else []
    data = tcp(bytes(DNS(id=7, rd=1, qd=DNSQR(qname=name, qtype=kind), ar=additional)))
    for port in (53, 443, None):
        payload = classify(data, len(data), port)
        assert payload == Payload(Protocol.DNS, False, dns=Dns(name, TYPES[kind]))


def test_type_names_are_those_of_scapy() -> None:
    aliases = {"ALL": "ANY", "OPT": "OPT"}
    known = {kind: aliases.get(name, name) for kind, name in dnsqtypes.items() if kind in TYPES}
    assert len(known) > 40
    assert known == {kind: TYPES[kind] for kind in known}


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (b"\0\0\x02\0\x01", Dns(".", "NS")),
        (b"\x01a\0\xff\0\0\x01", Dns("a", "TYPE65280")),
        (b"\x01a\0\0\0\0\x01", Dns("a", "TYPE0")),
        (b"\x03a.b\x02\\c\0\0\x01\0\x01", Dns("a\\.b.\\\\c", "A")),
        (b"\x04\0\x1b\xff\n\0\0\x1c\0\x01", Dns("\0\x1b\\xff\n", "AAAA")),
        (b"\x03\xed\xa0\x80\0\0\x1c\0\x01", Dns("\\xed\\xa0\\x80", "AAAA")),
    ],
)
def test_odd_questions_become_valid_text(question: bytes, expected: Dns) -> None:
    data = raw_query(question)
    assert classify(data, len(data), 853) == Payload(Protocol.DNS, False, dns=expected)


def test_longest_name_is_read_and_a_longer_one_is_not_dns() -> None:
    longest = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"b" * 61 + b"\0"
    assert len(longest) == 255
    data = raw_query(longest + b"\0\x01\0\x01")
    payload = classify(data, len(data))
    assert payload.dns == Dns(".".join(["a" * 63] * 3 + ["b" * 61]), "A")
    longer = raw_query(b"\x01a" * 128 + b"\0\0\x01\0\x01")
    assert classify(longer, len(longer), 53).protocol is Protocol.OTHER


def test_compression_is_not_followed() -> None:
    extended = b"\x41" + b"a" * 65 + b"\0"  # a label type that RFC 6891 5 withdrew
    for pointer in (b"\xc0\x0c", b"\x01a\xc0\x0c", b"\xff\xff", extended):
        data = raw_query(pointer + b"\0\x01\0\x01")
        assert classify(data, len(data), 53) == Payload(Protocol.OTHER, False)


@pytest.mark.parametrize(
    ("flags", "counts", "accepted"),
    [
        (0x0000, (1, 0, 0, 0), True),
        (0x0130, (1, 0, 0, 1), True),  # AD and CD
        (0x0100, (1, 0, 1, 2), True),  # IXFR with EDNS and TSIG
        (0x8100, (1, 0, 0, 0), False),  # a response
        (0x2800, (1, 0, 0, 0), False),  # an update
        (0x0140, (1, 0, 0, 0), False),  # the reserved bit
        (0x0103, (1, 0, 0, 0), False),  # an rcode
        (0x0100, (0, 0, 0, 0), False),
        (0x0100, (2, 0, 0, 0), False),
        (0x0100, (1, 1, 0, 0), False),
        (0x0100, (1, 0, 2, 0), False),
        (0x0100, (1, 0, 0, 3), False),
    ],
)
def test_only_a_sane_query_header_counts(flags: int, counts: tuple[int, ...], accepted: bool) -> None:
    data = raw_query(b"\x01a\0\0\x01\0\x01", flags, counts)
    assert (classify(data, len(data), 53).protocol is Protocol.DNS) is accepted


def test_a_response_by_scapy_is_not_a_query() -> None:
    data = tcp(bytes(DNS(qr=1, qd=DNSQR(qname="a.example"), an=DNSRR(rrname="a.example", rdata="192.0.2.1"))))
    assert classify(data, len(data), 53) == Payload(Protocol.OTHER, False)


def test_cut_query_shows_its_question_once_that_is_whole() -> None:
    data = tcp(bytes(DNS(rd=1, qd=DNSQR(qname="cut.example"), ar=DNSRROPT())))
    question_end = 14 + len("cut.example") + 2 + 4
    assert len(data) > question_end
    for size in range(14, len(data)):
        expected = Dns("cut.example", "A") if size >= question_end else None
        assert classify(data[:size], len(data), 53) == Payload(Protocol.DNS, True, dns=expected)
        elsewhere = classify(data[:size], len(data), 443)
        assert elsewhere.protocol is (Protocol.DNS if expected else Protocol.OTHER)


def test_a_cut_that_hides_an_impossible_name_does_not_make_it_dns() -> None:
    for question in (b"\x01a\xc0\x0c\0\x01\0\x01", b"\x01a" * 140 + b"\0\0\x01\0\x01"):
        data = raw_query(question, counts=(1, 0, 0, 1)) + bytes(11)
        longer = struct.pack("!H", len(data) - 2) + data[2:]
        assert classify(longer[:-8], len(longer), 53) == Payload(Protocol.OTHER, True)


def test_two_queries_in_one_syn_show_the_first() -> None:
    first = tcp(bytes(DNS(qd=DNSQR(qname="one.example"))))
    data = first + tcp(bytes(DNS(qd=DNSQR(qname="two.example"))))
    assert classify(data, len(data)) == Payload(Protocol.DNS, False, dns=Dns("one.example", "A"))


def test_question_may_not_reach_beyond_its_message() -> None:
    data = raw_query(b"\x01a\0\0\x01\0\x01\0\0\0\0")
    short = struct.pack("!H", 17) + data[2:]
    assert classify(short, len(short), 53) == Payload(Protocol.OTHER, False)


def test_an_odd_class_counts_on_port_53_only() -> None:
    data = raw_query(b"\x01a\0\0\x01\x20\x20")
    assert classify(data, len(data), 53).protocol is Protocol.DNS
    assert classify(data, len(data), 80).protocol is Protocol.OTHER
