"""The same packets give the same records with every hook and buffer, also behind another program.

Hand-made frames are sent on a veth pair one after the other on one CPU: from the peer for the ingress hook, from the
traced end for the egress hook. Every conversation comes twice: from a client beyond the interface and from one on this
side. The records must be equal except for hook, times and the key of cookie ids.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.decoder import ACK, FIN, RST, SYN
from tests.support.hooks import BY_DEFAULT, foreign_filter, foreign_tcx
from tests.support.load import Host, Records, Traced, client_hello
from tests.support.netbox import NetBox
from tests.support.packets import Flow, address, ethernet, ipv4, ipv6, option, padded, tcp_header
from tests.support.patience import PATIENCE_S
from tests.support.tracing import INFERRING

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

ISN, SERVER_ISN = 1_000_000, 9_000_000
COOKIE, OTHER_COOKIE = bytes(range(8)), bytes(range(50, 58))
HELLO = client_hello()
REQUEST = b"GET /x HTTP/1.1\r\nHost: agree.example\r\n\r\n"
PSH_ACK = 0x18
HOP_BY_HOP, DESTINATION_OPTIONS = 0, 60
ETH_P_ALL = 3

Frames = list[tuple[bool, bytes]]  # from the client?, frame
Verdict = tuple[str, str | None, str]  # handshake.result, tfo.outcome, handshake.settled_by


def stamped(value: int, echo: int = 0, *more: bytes) -> bytes:
    """MSS, SACK permitted, timestamps, window scale and `more`."""
    times = option(8, struct.pack("!II", value, echo))
    return padded(option(2, b"\x05\xb4") + option(4) + times + b"\x01" + option(3, b"\x07") + b"".join(more))


def tfo(cookie: bytes = b"") -> bytes:
    return option(34, cookie)


def shake(
    f: Flow, options: bytes, answer_options: bytes = b"", *, data: bytes = b"", acked: int = 0, answer: bytes = b""
) -> Frames:
    """A handshake and the server's first data."""
    ack = ISN + 1 + acked
    return [
        (True, f.frame(SYN, ISN, payload=data, options=options)),
        (False, f.back.frame(SYN | ACK, SERVER_ISN, ack, payload=answer, options=answer_options)),
        (True, f.frame(ACK, ISN + 1 + acked, SERVER_ISN + 1 + len(answer))),
        (False, f.back.frame(PSH_ACK, SERVER_ISN + 1 + len(answer), ack, payload=b"hello")),
        (False, f.back.frame(FIN | ACK, SERVER_ISN + 6 + len(answer), ack)),
    ]


def retransmitted(f: Flow) -> Frames:
    return [
        (True, f.frame(SYN, ISN, payload=REQUEST, options=stamped(100, 0, tfo(COOKIE)))),
        (True, f.frame(SYN, ISN, options=stamped(1100))),
        (False, f.back.frame(SYN | ACK, SERVER_ISN, ISN + 1, options=stamped(7, 1100))),
        (False, f.back.frame(SYN | ACK, SERVER_ISN, ISN + 1, options=stamped(8, 1100))),
        (True, f.frame(ACK, ISN + 1, SERVER_ISN + 1, options=b"\x01\x01" + option(8, struct.pack("!II", 1101, 7)))),
        (False, f.back.frame(PSH_ACK, SERVER_ISN + 1, ISN + 1, payload=b"hello")),
    ]


def simultaneous(f: Flow) -> Frames:
    return [
        (True, f.frame(SYN, ISN, options=stamped(1))),
        (False, f.back.frame(SYN, SERVER_ISN, options=stamped(2))),
        (True, f.frame(SYN | ACK, ISN, SERVER_ISN + 1, options=stamped(1, 2))),
        (False, f.back.frame(SYN | ACK, SERVER_ISN, ISN + 1, options=stamped(2, 1))),
    ]


def port_unreachable(f: Flow) -> Frames:
    syn = f.frame(SYN, ISN, payload=REQUEST, options=stamped(1, 0, tfo(COOKIE)))
    quoted = syn[14 : 14 + (28 if f.is_ipv4 else 48)]
    router = address("203.0.113.9") if f.is_ipv4 else address("2001:db8:9::9")
    kind, code = (3, 3) if f.is_ipv4 else (1, 4)
    body = bytes([kind, code]) + bytes(6) + quoted
    packet = ipv4(router, f.src, body, protocol=1) if f.is_ipv4 else ipv6(router, f.src, body, protocol=58)
    return [(True, syn), (False, ethernet(packet))]


def with_extension_headers(f: Flow) -> Frames:
    chain = [(HOP_BY_HOP, bytes([0, 0]) + bytes(6)), (DESTINATION_OPTIONS, bytes([0, 1]) + bytes(14))]

    def wrapped(flow: Flow, tcp: bytes) -> bytes:
        return ethernet(ipv6(flow.src, flow.dst, tcp, extensions=chain, traffic_class=2, flow=77, hops=57))

    syn = tcp_header(f.sport, f.dport, ISN, 0, SYN | 0xC0, options=stamped(1, 0, tfo(COOKIE)))
    synack = tcp_header(f.dport, f.sport, SERVER_ISN, ISN + 1 + len(HELLO), SYN | ACK | 0x40, options=stamped(2, 1))
    return [
        (True, wrapped(f, syn + HELLO)),
        (False, wrapped(f.back, synack)),
        (True, wrapped(f, tcp_header(f.sport, f.dport, ISN + 1 + len(HELLO), SERVER_ISN + 1, ACK))),
        (False, wrapped(f.back, tcp_header(f.dport, f.sport, SERVER_ISN + 1, ISN + 1 + len(HELLO), ACK) + b"hello")),
    ]


def with_ip_options(f: Flow) -> Frames:
    """IPv4 options, and a SYN that is a first fragment; the second one has no TCP header."""
    tcp = tcp_header(f.sport, f.dport, ISN, 0, SYN, options=stamped(1)) + bytes(40)
    first = ipv4(f.src, f.dst, tcp, options=b"\x94\x04\0\0", ttl=250, tos=3, ident=99, fragment=0x2000)
    second = ipv4(f.src, f.dst, bytes(64), ttl=250, ident=99, fragment=10)
    return [(True, ethernet(first)), (True, ethernet(second)), *shake(f, b"")[1:]]


def two_isns(f: Flow) -> Frames:
    return [(True, f.frame(SYN, ISN - 5000, options=stamped(1))), *shake(f, stamped(5), stamped(1, 5))]


@dataclass(frozen=True)
class Case:
    """Frames of a conversation, and the verdicts in the order of settling; `v6` runs it over IPv6."""

    name: str
    frames: Callable[[Flow], Frames]
    verdicts: list[Verdict]
    v6: bool = False
    vlans: tuple[int | tuple[int, int], ...] = ()


def established(outcome: str, by: str = "response") -> list[Verdict]:
    return [("established", outcome, by)]


ACCEPTED = (stamped(1, 0, tfo(COOKIE)), stamped(2, 1))
CASES = [
    Case("plain", lambda f: shake(f, stamped(1), stamped(2, 1)), established("not_attempted")),
    Case("plain, v6", lambda f: shake(f, stamped(1), stamped(2, 1)), established("not_attempted"), v6=True),
    Case("request and grant", lambda f: shake(f, stamped(1, 0, tfo()), stamped(2, 1, tfo(COOKIE))),
         established("cookie_granted")),
    Case("data accepted", lambda f: shake(f, *ACCEPTED, data=HELLO, acked=len(HELLO)), established("data_acked")),
    Case("data accepted, v6", lambda f: shake(f, *ACCEPTED, data=HELLO, acked=len(HELLO)), established("data_acked"),
         v6=True),
    Case("a full segment", lambda f: shake(f, *ACCEPTED, data=bytes(1400), acked=1400), established("data_acked")),
    Case("one byte", lambda f: shake(f, *ACCEPTED, data=b"\x16", acked=1), established("data_acked")),
    Case("partly", lambda f: shake(f, *ACCEPTED, data=REQUEST, acked=7), established("data_partly_acked")),
    Case("over", lambda f: shake(f, *ACCEPTED, data=REQUEST, acked=999), established("over_acked")),
    Case("another cookie", lambda f: shake(f, ACCEPTED[0], stamped(2, 1, tfo(OTHER_COOKIE)), data=REQUEST),
         established("data_not_acked_new_cookie")),
    Case("the same cookie", lambda f: shake(f, ACCEPTED[0], stamped(2, 1, tfo(COOKIE)), data=REQUEST),
         established("data_not_acked_same_cookie")),
    Case("experimental", lambda f: shake(f, padded(option(254, b"\xf9\x89" + COOKIE)), data=b"hi", acked=2),
         established("data_acked")),
    Case("malformed", lambda f: shake(f, padded(option(34, b"abc") + b"\x02\x04\x05\xb4" + b"\x05\x00")),
         established("not_attempted")),
    Case("cut option", lambda f: shake(f, b"\x01\x01\x01\x22"), established("not_attempted")),
    Case("forty options", lambda f: shake(f, b"\x01" * 40), established("not_attempted")),
    Case("answer with data", lambda f: shake(f, *ACCEPTED, data=REQUEST, acked=len(REQUEST), answer=b"early"),
         established("data_acked")),
    Case("retransmitted", retransmitted, established("syn_timeout_fallback")),
    Case("rejected", lambda f: [(True, f.frame(SYN, ISN, payload=REQUEST, options=stamped(1, 0, tfo(COOKIE)))),
                                (False, f.back.frame(RST | ACK, 0, ISN + 1 + len(REQUEST)))],
         [("rejected", "rejected", "rst")]),
    Case("aborted", lambda f: [*shake(f, stamped(1))[:2], (True, f.frame(RST, ISN + 1))],
         [("aborted", "not_attempted", "rst")]),
    Case("unreachable", port_unreachable, [("unreachable", "rejected", "icmp")]),
    Case("unreachable, v6", port_unreachable, [("unreachable", "rejected", "icmp")], v6=True),
    Case("simultaneous", simultaneous, [("simultaneous_open", "not_attempted", "ack")]),
    Case("challenge ACK", lambda f: [(True, f.frame(SYN, ISN)), (False, f.back.frame(ACK, SERVER_ISN, 4_000_000_000))],
         [("syn_on_established", "not_attempted", "at_end")]),
    Case("closed", lambda f: [*shake(f, stamped(1))[:3], (True, f.frame(FIN | ACK, ISN + 1, SERVER_ISN + 1)),
                              (False, f.back.frame(FIN | ACK, SERVER_ISN + 1, ISN + 2))],
         established("not_attempted", "fin")),
    Case("one VLAN", lambda f: shake(f, *ACCEPTED, data=HELLO, acked=len(HELLO)), established("data_acked"),
         vlans=(7,)),
    Case("two VLANs", lambda f: shake(f, *ACCEPTED, data=HELLO, acked=len(HELLO)), established("data_acked"),
         vlans=((0x88A8, 7), (0x8100, 0x6008))),
    Case("one VLAN, v6", lambda f: shake(f, *ACCEPTED, data=HELLO, acked=len(HELLO)), established("data_acked"),
         v6=True, vlans=(9,)),
    Case("extension headers", with_extension_headers, established("data_acked"), v6=True),
    Case("IP options", with_ip_options, established("data_not_acked")),
    Case("two ISNs", two_isns, [*established("not_attempted"), ("no_reply", "not_attempted", "at_end")]),
    # what stays open is settled at the end, in the order of the table
    Case("half open", lambda f: shake(f, stamped(1, 0, tfo()), stamped(2, 1))[:2],
         [("half_open", "cookie_not_granted", "at_end")]),
    Case("no reply", lambda f: shake(f, ACCEPTED[0], data=REQUEST)[:1], [("no_reply", "no_answer", "at_end")]),
    Case("no response", lambda f: shake(f, stamped(1), stamped(2, 1))[:3], established("not_attempted", "at_end")),
]  # fmt: skip

TRACED, PEER = "left", "right"
REMOTE_CLIENT, LOCAL_CLIENT = False, True


def conversation(case: Case, number: int, local_client: bool) -> Frames:
    net = "2001:db8:{}::{}" if case.v6 else "192.0.2.{1}" if local_client else "198.51.100.{1}"
    client, server = (address(net.format(int(local_client), host)) for host in (1, 2))
    return case.frames(Flow(client, server, 20_000 + number, 443, case.vlans))


def key_of(record: dict[str, Any]) -> tuple[str, int]:
    return record["client"]["ip"], record["client"]["port"]


class Wire:
    """Puts frames on the pair and waits until each has gone through the traced end's hooks."""

    def __init__(self, stack: ExitStack) -> None:
        self._ends = {}
        for name in (TRACED, PEER):
            end = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
            end.bind((name, 0))
            self._ends[name] = end
        # hears what arrives at the traced end behind XDP and with tc, and what leaves through it after tc
        self._tap = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)))
        self._tap.bind((TRACED, ETH_P_ALL))
        self._tap.settimeout(PATIENCE_S)

    def put(self, frame: bytes, egress: bool) -> None:
        self._ends[TRACED if egress else PEER].send(frame)
        # on this CPU a packet's way is not interrupted: once we run again it has passed tc too
        self._tap.recv(2048)


@contextmanager
def on_one_cpu() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def trace_all(hook: str, transport: str = "ring", foreign: str = "") -> Records:
    """Every conversation through one kind of hook."""
    box = NetBox()
    try:
        box.make_pair(TRACED, PEER)
        with ExitStack() as stack:
            stack.enter_context(box.inside())
            others = [
                stack.enter_context((foreign_tcx if foreign == "tcx" else foreign_filter)(TRACED, egress=egress))
                for egress in ((False, True) if foreign else ())
            ]
            run = Traced(Host.existing(box.name), "--hook", hook, "--transport", transport, "--show-cookies", INFERRING,
                         interface=TRACED)  # fmt: skip
            stack.callback(run.close)
            run.wait_ready()
            wire = Wire(stack)
            stack.enter_context(on_one_cpu())
            for local_client in (REMOTE_CLIENT, LOCAL_CLIENT):
                for number, case in enumerate(CASES):
                    for from_client, frame in conversation(case, number, local_client):
                        wire.put(frame, egress=from_client == local_client)
            assert all(other.count > len(CASES) for other in others), "we kept packets from the other programs"
            return run.stop()
    finally:
        box.close()


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """The record without what may differ; of durations and keyed ids only whether there is one stays."""
    plain = {name: value for name, value in record.items() if name not in ("ts", "hook")}
    handshake, tfo_ = dict(plain["handshake"]), dict(plain["tfo"])
    handshake["reset"] = reset = dict(handshake["reset"] or {})
    for part in (handshake, tfo_, reset):
        for name in part:
            if name.endswith(("_us", "cookie_id")) and part[name] is not None:
                part[name] = "known"
    return {**plain, "handshake": handshake, "tfo": tfo_}


def split(records: Records) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Records settled by a packet, in order; those settled at the end, by connection."""
    all_of_them = [comparable(record) for record in records.handshakes]
    at_end = [record for record in all_of_them if record["handshake"]["settled_by"] == "at_end"]
    return [r for r in all_of_them if r["handshake"]["settled_by"] != "at_end"], sorted(at_end, key=key_of)


@pytest.fixture(scope="module")
def reference() -> Records:
    """Records through TCX and the ring buffer, with which the others are compared."""
    return trace_all("tc")


def verdict_of(record: dict[str, Any]) -> Verdict:
    return record["handshake"]["result"], record["tfo"]["outcome"], record["handshake"]["settled_by"]


@pytest.mark.parametrize("local_client", [REMOTE_CLIENT, LOCAL_CLIENT], ids=["remote client", "local client"])
def test_reference_is_right(reference: Records, local_client: bool) -> None:
    """Agreeing on nothing, or on something wrong, would be no agreement."""
    assert reference.exit_code == 0, reference.narration
    seen: dict[str, list[Verdict]] = {}
    for number, case in enumerate(CASES):
        flow_records = [
            record for record in reference.handshakes
            if record["client"]["port"] == 20_000 + number and is_local(record) == local_client
        ]  # fmt: skip
        seen[case.name] = [verdict_of(record) for record in flow_records]
    assert seen == {case.name: case.verdicts for case in CASES}


def is_local(record: dict[str, Any]) -> bool:
    return record["client"]["ip"] in ("192.0.2.1", "2001:db8:1::1")


def test_reference_details(reference: Records) -> None:
    by_case = {(CASES[r["client"]["port"] - 20_000].name, is_local(r)): r for r in reference.handshakes}
    for local in (REMOTE_CLIENT, LOCAL_CLIENT):
        assert by_case["data accepted", local]["tls"]["sni"] == "load.example"
        assert by_case["partly", local]["http"] == {"method": "GET", "host": "agree.example"}
        assert by_case["one VLAN", local]["vlan"] == [7]
        assert by_case["two VLANs", local]["vlan"] == [7, 8]
        assert by_case["a full segment", local]["payload"] == {
            "protocol": "other", "captured": True, "truncated": False,
        }  # fmt: skip
        assert by_case["one byte", local]["payload"]["captured"] is True
        assert by_case["retransmitted", local]["handshake"]["syn_count"] == 2
        assert by_case["retransmitted", local]["tfo"]["delay_us"] > 0
        assert by_case["experimental", local]["tfo"]["kind"] == 254
        assert by_case["malformed", local]["tfo"]["request"] == "malformed"


WAYS = {
    "clsact": {"hook": "clsact"},
    "xdp-native": {"hook": "xdp-native"},
    "xdp-generic": {"hook": "xdp-generic"},
    "perf": {"hook": "tc", "transport": "perf"},
    "xdp-generic-perf": {"hook": "xdp-generic", "transport": "perf"},
    "behind-tcx": {"hook": "tc", "foreign": "tcx"},
    "behind-filter": {"hook": "tc", "foreign": "filter"},
    "clsact-behind-filter": {"hook": "clsact", "foreign": "filter"},
}
HOOK_NAMES = {"tc": BY_DEFAULT.value, "clsact": "clsact", "xdp-native": "xdp-native", "xdp-generic": "xdp-generic"}


@pytest.mark.parametrize("way", WAYS)
def test_same_records(reference: Records, way: str) -> None:
    records = trace_all(**WAYS[way])
    assert records.exit_code == 0, records.narration
    assert {record["hook"] for record in records.handshakes} == {HOOK_NAMES[WAYS[way]["hook"]]}
    found, wanted = split(records), split(reference)
    assert [key_of(record) for record in found[0]] == [key_of(record) for record in wanted[0]]
    for got, expected in zip(found[0] + found[1], wanted[0] + wanted[1], strict=True):
        # conversations of two clients look like one that is translated, to whom both are settled at once; and of the
        # two sides of this host, either may be settled first
        beside = {"nat": None, "changed_on_host": None}
        assert got | beside == expected | beside
    assert records.end["counters"] == reference.end["counters"]
    assert records.end["balance"] == reference.end["balance"]
