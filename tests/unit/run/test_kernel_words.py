"""How the kernel's words are joined with records: by numbers, in time, and never on what worked."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from tests.support.rows import INTERFACES, START_NS, batch_of
from tracer.encode.composer import Composer
from tracer.encode.lines import Lines, PlainLines
from tracer.handshake.batch import Batch
from tracer.handshake.events import Events
from tracer.handshake.words import words
from tracer.ipc.event_header import struct
from tracer.ipc.layout import to_dtype
from tracer.ipc.messages import Evidence, PlaceAnswer, PlaceQuestion
from tracer.records.drop import Drop
from tracer.records.record import Handshake
from tracer.ring.drops import SLOTS
from tracer.run.kernel_words import ANSWER_NS, HOLD_NS, LATE_NS, OTHERS_MAX, SIDES_NS, TABLE_MAX, KernelWords
from tracer.vocabulary.vocabulary import Confidence, HandshakeCause, Has, ResetFrom, Vantage
from tracer.vocabulary.vocabulary import HandshakeResult as Result
from tracer.vocabulary.vocabulary import SettleReason as Settled

OWN, OTHER, AT = 100, 200, 0xFFFFFFFF81000005
OVERFLOW = "TCP_LISTEN_OVERFLOW"
REASONS = {
    2: "NOT_SPECIFIED", 3: "NO_SOCKET", 5: "SOCKET_FILTER", 12: "NETFILTER_DROP", 16: "IP_RPFILTER",
    17: "IP_INADDRERRORS", 90: OVERFLOW,
}  # fmt: skip
SYN, SYNACK, ACK, RST = 2, 18, 16, 20
ISN, SERVER_ISN = 0xFFFFFFFF, 5000
_DROPS, _EVENTS = to_dtype(struct("drop_event")), to_dtype(struct("handshake_event"))


class Desk:
    """The user part's half, and what it asks."""

    def __init__(self, *, places: bool = True) -> None:
        self.asked: list[PlaceQuestion] = []
        self.is_read = True
        evidence = Evidence(4096, REASONS, {1: "NO_SOCKET"}, places, OWN)
        self.words = KernelWords(evidence, self._ask)

    def _ask(self, question: PlaceQuestion) -> bool:
        if self.is_read:
            self.asked.append(question)
        return self.is_read

    def said(self, batch: Batch) -> list[Drop | None]:
        self.words.tell(batch)
        return [self.words.drops[number] for number in batch.causes.drop.tolist()]


def record(result: Result, reason: Settled = Settled.BY_TIMEOUT, **more: int) -> Events:
    """A handshake from port 40000 to 443, opened 5 s before it was settled."""
    events = np.zeros(1, _EVENTS)
    for name, value in {
        "syn_ns": START_NS, "settled_ns": START_NS + 5_000_000_000, "client_port": 40000, "server_port": 443,
        "family": 4, "result": int(result), "reason": int(reason), "ifindex": 2, "syn_count": 1, **more,
    }.items():  # fmt: skip
        events[name] = value
    events["client"], events["server"] = 1, 2
    events["syn"]["seq"], events["syn"]["has"] = ISN, Has.SEGMENT
    if result in (Result.HALF_OPEN, Result.ESTABLISHED, Result.ABORTED):
        events["synack_ns"] = START_NS + 1000
        events["synack"]["seq"], events["synack"]["ack"], events["synack"]["has"] = SERVER_ISN, 0, Has.SEGMENT
        events["synack_count"] = more.get("synack_count", 1)
    return events


def word(flags: int, number: int = 12, netns: int = OWN, after_ns: int = 1000, **more: int) -> Events:
    """What the kernel says of a segment whose numbers fit."""
    drops = np.zeros(1, _DROPS)
    from_client = flags in (SYN, ACK)
    numbers = {
        SYN: (ISN, 0), SYNACK: (SERVER_ISN, 0), ACK: (0, SERVER_ISN + 1), RST: (0, 0),
    }[flags]  # fmt: skip
    for name, value in {
        "now_ns": START_NS + after_ns, "location": AT, "seq": numbers[0], "ack": numbers[1], "reason": number,
        "netns": netns, "ifindex": 2, "tcp_flags": flags, "family": 4, "src_port": 40000 if from_client else 443,
        "dst_port": 443 if from_client else 40000, **more,
    }.items():  # fmt: skip
        drops[name] = value
    drops["src"], drops["dst"] = (1, 2) if from_client else (2, 1)
    return drops


def causes(batch: Batch) -> list[tuple[str | None, str | None, str | None]]:
    """Cause, confidence and where it lies, of each record."""
    names = ("handshake.cause", "handshake.cause_confidence", "handshake.cause_at")
    return [*zip(*(words(batch, name) for name in names), strict=True)]


def heard(desk: Desk, *words: Events, place: str = "nft_do_chain") -> None:
    desk.words.note(np.concatenate(words), START_NS)
    if desk.asked:
        desk.words.answered(PlaceAnswer(dict.fromkeys(desk.asked[-1].addresses, place)))


FAILED = [
    (Result.NO_REPLY, Settled.BY_TIMEOUT, SYN, "syn"),
    (Result.REJECTED, Settled.BY_RST, SYN, "syn"),
    (Result.UNREACHABLE, Settled.BY_ICMP, SYN, "syn"),
    (Result.SYN_ON_ESTABLISHED, Settled.BY_TIMEOUT, SYN, "syn"),
    (Result.NO_REPLY, Settled.BY_TIMEOUT, SYNACK, "synack"),
    (Result.HALF_OPEN, Settled.BY_TIMEOUT, SYNACK, "synack"),
    (Result.HALF_OPEN, Settled.BY_TIMEOUT, ACK, "ack"),
]


@pytest.mark.parametrize(("result", "settled", "flags", "segment"), FAILED)
@pytest.mark.parametrize(("netns", "told"), [(OWN, None), (OTHER, OTHER)])
def test_a_drop_is_told(
    result: Result, settled: Settled, flags: int, segment: str, netns: int, told: int | None
) -> None:
    desk = Desk()
    at = 5_000_000_000 if settled in (Settled.BY_RST, Settled.BY_ICMP) else 1000
    heard(desk, word(flags, netns=netns, after_ns=at))
    assert desk.said(batch_of(record(result, settled))) == [Drop(segment, "NETFILTER_DROP", "nft_do_chain", told)]


@pytest.mark.parametrize(
    "changed",
    [{"seq": 7}, {"src_port": 40001}, {"dst_port": 80}, {"netns": 0}, {"after_ns": -2 * HOLD_NS},
     {"after_ns": 6_000_000_000}, {"number": 5}, {"number": 2}],
)  # fmt: skip
def test_what_does_not_fit_is_not_told(changed: dict[str, int]) -> None:
    desk = Desk()
    heard(desk, word(SYN, **changed))
    assert desk.said(batch_of(record(Result.NO_REPLY))) == [None]


def test_no_reason_says_enough_only_where_the_route_forbids_it() -> None:
    desk = Desk()
    desk.words.note(word(SYN, 2), START_NS)
    desk.words.answered(PlaceAnswer({AT: "ip_error"}))
    assert desk.said(batch_of(record(Result.NO_REPLY))) == [Drop("syn", "NOT_SPECIFIED", "ip_error", None)]


def test_the_traced_namespaces_word_comes_first_then_the_later_segments() -> None:
    desk = Desk()
    heard(desk, word(SYN, 3, OTHER), word(SYN, 12))
    assert desk.said(batch_of(record(Result.NO_REPLY))) == [Drop("syn", "NETFILTER_DROP", "nft_do_chain", None)]
    heard(desk, word(SYNACK, 3))
    assert desk.said(batch_of(record(Result.NO_REPLY))) == [Drop("synack", "NO_SOCKET", "nft_do_chain", None)]


def test_nothing_is_said_of_what_worked() -> None:
    desk = Desk()
    heard(desk, word(SYN), word(SYNACK), word(ACK))
    served = record(Result.ESTABLISHED, Settled.BY_RESPONSE, response_ns=START_NS + 2000, ack_ns=START_NS + 1500)
    acked = record(Result.ESTABLISHED, request_acked=1, ack_ns=START_NS + 1500)
    assert desk.said(batch_of(np.concatenate([served, acked]))) == [None, None]
    silent = record(Result.ESTABLISHED, ack_ns=START_NS + 1500, synacks_after_ack=2)
    assert desk.said(batch_of(silent)) == [Drop("ack", "NETFILTER_DROP", "nft_do_chain", None)]


def test_a_reset_that_a_firewall_drops_and_one_that_tcp_takes() -> None:
    desk = Desk()
    refused = record(Result.REJECTED, Settled.BY_RST, reset_from=int(ResetFrom.SERVER))
    heard(desk, word(RST, 3, after_ns=5_000_000_000))  # nobody waits for it any more
    assert desk.said(batch_of(refused)) == [None]
    heard(desk, word(RST, 12, after_ns=5_000_000_000))
    assert desk.said(batch_of(refused)) == [Drop("rst", "NETFILTER_DROP", "nft_do_chain", None)]


def test_why_this_host_sent_the_reset() -> None:
    desk = Desk()
    refused = record(Result.REJECTED, Settled.BY_RST, reset_from=int(ResetFrom.SERVER), settled_ns=START_NS + 2000)
    heard(desk, word(RST, 1, is_reset=1, location=0))
    batch = batch_of(refused)
    desk.words.tell(batch)
    assert [desk.words.reset_reasons[number] for number in batch.causes.reset_reason] == ["NO_SOCKET"]
    elsewhere = Desk()
    heard(elsewhere, word(RST, 1, OTHER, is_reset=1, location=0))
    batch = batch_of(refused)
    elsewhere.words.tell(batch)
    assert not batch.causes.reset_reason.any()


# --- causes ---

CERTAIN = ("certain", "this_host")
NO_CAUSE = (None, None, None)


def caused(desk: Desk, events: Events) -> tuple[str | None, str | None, str | None]:
    batch = batch_of(events)
    desk.words.tell(batch)
    (cause,) = causes(batch)
    return cause


@pytest.mark.parametrize(("result", "settled", "flags", "segment"), FAILED)
def test_a_firewall_is_blamed(result: Result, settled: Settled, flags: int, segment: str) -> None:
    refused = result in (Result.REJECTED, Result.UNREACHABLE)
    at = 5_000_000_000 if refused else 1000
    ours, others = Desk(), Desk()
    heard(ours, word(flags, after_ns=at))
    heard(others, word(flags, netns=OTHER, after_ns=at))
    cause = "firewall_rejected" if refused else "host_dropped"
    failed = record(result, settled, egress=int(result is Result.HALF_OPEN))
    assert caused(ours, failed) == (cause, *CERTAIN), segment
    assert caused(others, failed) == NO_CAUSE


@pytest.mark.parametrize(
    ("result", "settled", "number", "cause"),
    [
        (Result.NO_REPLY, Settled.BY_TIMEOUT, 12, "not_forwarded"),
        (Result.NO_REPLY, Settled.BY_TIMEOUT, 16, "not_forwarded"),
        (Result.UNREACHABLE, Settled.BY_ICMP, 16, "not_forwarded"),  # the host says so itself
        (Result.UNREACHABLE, Settled.BY_ICMP, 12, "firewall_rejected"),
        (Result.REJECTED, Settled.BY_RST, 12, "firewall_rejected"),
    ],
)
def test_what_was_to_pass_through_is_not_forwarded(result: Result, settled: Settled, number: int, cause: str) -> None:
    desk = Desk()
    heard(desk, word(SYN, number, after_ns=5_000_000_000))
    batch = batch_of(record(result, settled), np.array([Vantage.TRANSIT], np.uint8))
    assert desk.said(batch) != [None]
    assert causes(batch) == [(cause, "certain", "this_host")]


def test_a_copy_at_another_interface_is_not_the_segment() -> None:
    desk = Desk()
    server = np.array([Vantage.SERVER], np.uint8)
    heard(desk, word(SYN, 16, ifindex=3))
    batch = batch_of(record(Result.NO_REPLY), server)
    desk.said(batch)
    assert causes(batch) == [NO_CAUSE]
    # nor do the two make two
    desk = Desk()
    heard(desk, word(SYN, ifindex=3), word(SYN))
    batch = batch_of(record(Result.NO_REPLY, syn_count=2), server)
    desk.said(batch)
    assert causes(batch) == [NO_CAUSE]
    # a router drops what it passes on by the interface where that leaves
    heard(desk, word(SYN, ifindex=3))
    batch = batch_of(record(Result.NO_REPLY), np.array([Vantage.TRANSIT], np.uint8))
    desk.said(batch)
    assert causes(batch) == [("not_forwarded", *CERTAIN)]


@pytest.mark.parametrize("settled", [Settled.AT_END, Settled.BY_NEW_SYN])
def test_what_was_cut_short_might_have_gone_on(settled: Settled) -> None:
    desk = Desk()
    heard(desk, word(SYN))
    batch = batch_of(record(Result.NO_REPLY, settled))
    assert desk.said(batch) == [Drop("syn", "NETFILTER_DROP", "nft_do_chain", None)]
    assert causes(batch) == [NO_CAUSE]


def test_a_host_that_only_looks_on_does_not_fail_to_forward() -> None:
    """It gets copies for its own address, and forwards nothing: what its kernel drops was answered elsewhere."""
    transit = np.array([Vantage.TRANSIT], np.uint8)
    for ifindex, cause in ((2, NO_CAUSE), (3, ("not_forwarded", *CERTAIN))):
        desk = Desk()
        desk.words.tell(batch_of(record(Result.ESTABLISHED, Settled.BY_RESPONSE, ifindex=ifindex), transit))
        heard(desk, word(SYN, 17), place="ip_error")
        batch = batch_of(record(Result.NO_REPLY), transit)
        assert desk.said(batch) == [Drop("syn", "IP_INADDRERRORS", "ip_error", None)]
        assert causes(batch) == [cause]
        # a firewall drops what would have been forwarded
        heard(desk, word(SYN, 12))
        batch = batch_of(record(Result.NO_REPLY), transit)
        desk.said(batch)
        assert causes(batch) == [("not_forwarded", *CERTAIN)]


def stray(**more: int) -> Events:
    """A SYN-ACK of another address, which acks the SYN; the client's kernel finds no socket for it."""
    found = word(SYNACK, 3, **more)
    found["src"] = 9
    return found


@pytest.mark.parametrize(
    ("vantage", "word_of_it", "cause"),
    [
        (Vantage.CLIENT, stray(), ("nat_one_way", "likely", None)),
        (Vantage.CLIENT, stray(src_port=8443), ("nat_one_way", "likely", None)),
        (Vantage.CLIENT, word(SYNACK, 3), NO_CAUSE),  # of the asked one, too late
        (Vantage.CLIENT, word(SYNACK, 3, src_port=8443), ("nat_one_way", "likely", None)),
        (Vantage.SERVER, stray(), NO_CAUSE),
        (Vantage.TRANSIT, stray(), NO_CAUSE),
        (Vantage.CLIENT, stray(ack=7), NO_CAUSE),
        (Vantage.CLIENT, stray(dst_port=40001), NO_CAUSE),
        (Vantage.CLIENT, stray(reason=12), NO_CAUSE),
        (Vantage.CLIENT, stray(netns=OTHER), NO_CAUSE),
        (Vantage.CLIENT, stray(after_ns=-1), NO_CAUSE),
        (Vantage.CLIENT, stray(after_ns=6_000_000_000), NO_CAUSE),
    ],
)
def test_an_answer_of_another_address(
    vantage: Vantage, word_of_it: Events, cause: tuple[str | None, str | None, str | None]
) -> None:
    desk = Desk()
    heard(desk, word_of_it)
    batch = batch_of(record(Result.NO_REPLY, egress=1), np.array([vantage], np.uint8))
    desk.words.tell(batch)
    assert causes(batch) == [cause]
    answered = batch_of(record(Result.HALF_OPEN, egress=1), np.array([vantage], np.uint8))
    desk.words.tell(answered)
    assert causes(answered) == [NO_CAUSE]


def test_one_of_the_syns_was_forwarded() -> None:
    desk = Desk()
    heard(desk, word(SYN))
    batch = batch_of(record(Result.NO_REPLY, syn_count=2), np.array([Vantage.TRANSIT], np.uint8))
    desk.said(batch)
    assert causes(batch) == [(None, None, None)]


def test_a_drop_of_another_syn_than_the_refused_one() -> None:
    """The first SYN met a rule that limits rates; the second one was refused by somebody else."""
    desk = Desk()
    heard(desk, word(SYN, after_ns=1000))
    assert caused(desk, record(Result.REJECTED, Settled.BY_RST, syn_count=2)) == NO_CAUSE


def test_some_of_the_syns_went_on() -> None:
    desk = Desk()
    heard(desk, word(SYN), word(SYN, after_ns=2000))
    assert caused(desk, record(Result.NO_REPLY, syn_count=3)) == NO_CAUSE
    heard(desk, word(SYN, after_ns=3000))
    assert caused(desk, record(Result.NO_REPLY, syn_count=3)) == ("host_dropped", *CERTAIN)
    heard(desk, word(SYN, seq=77))
    assert caused(desk, record(Result.NO_REPLY)) == NO_CAUSE


@pytest.mark.parametrize("syn_count", [1, 2])
def test_a_syn_that_was_seen_leaving_went_on(syn_count: int) -> None:
    """The word is on another SYN, which the hook did not see: a rule lets some pass."""
    desk = Desk()
    heard(desk, word(SYN), word(SYN, after_ns=2000))
    left = record(Result.NO_REPLY, syn_count=syn_count, egress=1)
    assert desk.said(batch_of(left)) == [Drop("syn", "NETFILTER_DROP", "nft_do_chain", None)]
    assert caused(desk, left) == NO_CAUSE


def test_an_answer_that_was_seen_leaving_went_on() -> None:
    desk = Desk()
    heard(desk, word(SYNACK), word(SYNACK, after_ns=2000))
    assert caused(desk, record(Result.HALF_OPEN, synack_count=1)) == NO_CAUSE
    assert caused(desk, record(Result.HALF_OPEN, synack_count=3, egress=1)) == NO_CAUSE
    assert caused(desk, record(Result.HALF_OPEN, synack_count=2, egress=1)) == ("host_dropped", *CERTAIN)
    assert caused(desk, record(Result.NO_REPLY)) == ("host_dropped", *CERTAIN)


@pytest.mark.parametrize(
    ("egress", "after_ns", "cause"),
    [(0, 2000, ("host_dropped", *CERTAIN)), (0, 2_000_000_000, NO_CAUSE), (1, 2000, NO_CAUSE)],
)
def test_only_the_first_ack_counts(
    egress: int, after_ns: int, cause: tuple[str | None, str | None, str | None]
) -> None:
    """What came later, or left, is not what the server waited for."""
    desk = Desk()
    heard(desk, word(ACK, after_ns=after_ns), word(ACK, after_ns=3_000_000_000), word(ACK, after_ns=3_100_000_000))
    silent = record(Result.ESTABLISHED, ack_ns=START_NS + 1500, synacks_after_ack=2, egress=egress)
    assert caused(desk, silent) == cause


@pytest.mark.parametrize("more", [{"synacks_after_ack": 2}, {"request_ns": START_NS + 9, "request_repeats": 1}])
def test_a_drop_of_some_acks_is_not_the_cause(more: dict[str, int]) -> None:
    """Others of the same number went on, to a server that did not take them: its queue was full, perhaps."""
    desk = Desk()
    heard(desk, word(ACK, after_ns=2000), word(ACK, after_ns=1_000_000_000))
    silent = record(Result.ESTABLISHED, ack_ns=START_NS + 1500, **{"synacks_after_ack": 1, **more})
    assert caused(desk, silent) == NO_CAUSE


@pytest.mark.parametrize("misfit", ["misfit_rsts", "misfit_synacks", "misfit_icmps"])
def test_who_answers_has_not_dropped(misfit: str) -> None:
    """A socket's filter drops a copy, and another one's owner answers: by numbers that do not fit."""
    desk = Desk()
    heard(desk, word(SYN))
    assert caused(desk, record(Result.NO_REPLY)) == ("host_dropped", *CERTAIN)
    assert caused(desk, record(Result.NO_REPLY, **{misfit: 1})) == NO_CAUSE


def test_a_reset_for_the_answer_is_no_drop() -> None:
    """As of a scan of ports: the scanner's own socket takes the SYN-ACK, and the kernel resets it."""
    desk = Desk()
    heard(desk, word(SYNACK))
    assert caused(desk, record(Result.HALF_OPEN, egress=1)) == ("host_dropped", *CERTAIN)
    assert caused(desk, record(Result.ABORTED, egress=1, reset_from=1)) == NO_CAUSE


@pytest.mark.parametrize(("place", "is_full"), [("tcp_v6_rcv", True), ("raw_rcv", False), (None, False)])
def test_a_full_accept_queue(place: str | None, is_full: bool) -> None:
    desk = Desk()
    desk.words.note(word(ACK, 90, after_ns=2000), START_NS)
    desk.words.answered(PlaceAnswer({AT: place}))
    again = record(Result.ESTABLISHED, ack_ns=START_NS + 1500, synacks_after_ack=2)
    batch = batch_of(again)
    batch.causes.handshake_cause[:] = HandshakeCause.ACCEPT_DEFERRED
    batch.causes.handshake_confidence[:] = Confidence.POSSIBLE
    batch.causes.listener[:] = 1
    desk.words.tell(batch)
    assert causes(batch) == [("accept_queue_full", *CERTAIN) if is_full else ("accept_deferred", "possible", None)]
    assert batch.causes.listener.tolist() == [1]


def test_what_another_cause_has_to_do_with_no_queue() -> None:
    desk = Desk()
    heard(desk, word(SYN))
    batch = batch_of(record(Result.NO_REPLY))
    batch.causes.handshake_cause[:] = HandshakeCause.ACCEPT_QUEUE_FULL
    batch.causes.handshake_confidence[:] = Confidence.LIKELY
    batch.causes.listener[:] = 1
    desk.words.tell(batch)
    assert causes(batch) == [("host_dropped", *CERTAIN)]
    assert batch.causes.listener.tolist() == [0]


@pytest.mark.parametrize("at_once", [True, False])
def test_words_of_different_reasons_are_not_added_up(at_once: bool) -> None:
    desk = Desk()
    said = [word(SYN, 16), word(SYN, 12, after_ns=2000)]
    if at_once:
        heard(desk, *said)
    else:
        for one in said:
            heard(desk, one)
    assert caused(desk, record(Result.NO_REPLY, syn_count=2)) == NO_CAUSE
    other_number = Desk()
    heard(other_number, word(SYN, seq=77), word(SYN, after_ns=2000))
    assert caused(other_number, record(Result.NO_REPLY, syn_count=2)) == NO_CAUSE


def test_a_word_without_reason_hides_no_other_one() -> None:
    desk = Desk()
    heard(desk, word(SYN), word(SYN, 2, after_ns=2000))
    assert caused(desk, record(Result.NO_REPLY)) == ("host_dropped", *CERTAIN)


def test_a_copy_for_a_raw_socket_is_not_the_segment() -> None:
    desk, tcp = Desk(), Desk()
    for one, place in ((desk, "raw_rcv"), (tcp, "tcp_v4_rcv")):
        one.words.note(word(SYN, 5), START_NS)
        one.words.answered(PlaceAnswer({AT: place}))
    assert desk.said(batch_of(record(Result.NO_REPLY))) == [None]
    assert caused(desk, record(Result.NO_REPLY)) == NO_CAUSE
    assert caused(tcp, record(Result.NO_REPLY)) == ("host_dropped", *CERTAIN)


def test_other_namespaces_leave_room_for_this_one() -> None:
    desk = Desk()
    for netns in range(1000, 1000 + TABLE_MAX):
        heard(desk, word(SYN, netns=netns))
        desk.said(batch_of(record(Result.NO_REPLY)))
    assert len(desk.words.drops) <= OTHERS_MAX + 1
    heard(desk, word(SYN))
    assert desk.said(batch_of(record(Result.NO_REPLY))) == [Drop("syn", "NETFILTER_DROP", "nft_do_chain", None)]


def test_nobody_listens() -> None:
    desk, elsewhere = Desk(), Desk()
    refused = record(Result.REJECTED, Settled.BY_RST, reset_from=int(ResetFrom.SERVER))
    for one, place in ((desk, "tcp_v4_rcv"), (elsewhere, "cookie_v4_check")):
        one.words.note(word(SYN, 3, after_ns=5_000_000_000), START_NS)
        one.words.answered(PlaceAnswer({AT: place}))
    assert caused(desk, refused) == ("no_listener", *CERTAIN)
    assert caused(elsewhere, refused) == NO_CAUSE
    by_reset = Desk(places=False)
    heard(by_reset, word(RST, 1, is_reset=1, location=0, after_ns=5_000_000_000))
    assert caused(by_reset, refused) == ("no_listener", *CERTAIN)


def test_what_is_certain_replaces_what_is_not() -> None:
    desk = Desk()
    heard(desk, word(SYN))
    batch = batch_of(record(Result.NO_REPLY))
    batch.causes.handshake_cause[:], batch.causes.handshake_confidence[:] = 2, 2
    desk.words.tell(batch)
    assert causes(batch) == [("host_dropped", *CERTAIN)]
    sure = batch_of(record(Result.NO_REPLY))
    sure.causes.handshake_cause[:], sure.causes.handshake_confidence[:] = 2, int(Confidence.CERTAIN)
    desk.words.tell(sure)
    assert causes(sure)[0][0] == "port_still_in_use"


# --- waiting ---


def test_a_refused_one_waits_for_the_words_of_its_time() -> None:
    desk = Desk()
    refused = record(Result.REJECTED, Settled.BY_RST)
    settled = int(refused["settled_ns"][0])
    served = record(Result.ESTABLISHED, Settled.BY_RESPONSE, client_port=40001)
    silent = record(Result.NO_REPLY, client_port=40002)
    desk.words.note(np.zeros(0, _DROPS), settled)
    ready = desk.words.admit(np.concatenate([served, refused, silent]), settled + 1)
    assert np.concatenate(ready)["client_port"].tolist() == [40001, 40002]
    assert desk.words.is_holding
    assert desk.words.admit(refused[:0], settled + 2) == []
    desk.words.note(np.zeros(0, _DROPS), settled + LATE_NS)
    (ready_now,) = desk.words.admit(refused[:0], settled + LATE_NS)
    assert ready_now["client_port"].tolist() == [40000]
    assert not desk.words.is_holding


def test_a_failed_one_waits_for_the_name_of_a_place_but_not_long() -> None:
    desk = Desk()
    silent = record(Result.NO_REPLY)
    settled = int(silent["settled_ns"][0])
    desk.words.note(word(SYN), settled)
    assert desk.asked == [PlaceQuestion([AT])]
    assert desk.words.admit(silent, settled + 1) == []
    assert len(desk.words.admit(silent[:0], settled + HOLD_NS)) == 1
    desk.words.note(word(SYN), settled)
    assert len(desk.asked) == 1  # it was asked for
    assert desk.words.admit(silent, settled + 1) == []
    assert len(desk.words.close()) == 1


def test_a_question_that_could_not_be_sent_is_asked_again() -> None:
    desk = Desk()
    silent = record(Result.NO_REPLY)
    settled = int(silent["settled_ns"][0])
    desk.is_read = False
    desk.words.note(word(SYN), settled)
    assert len(desk.words.admit(silent, settled + 1)) == 1
    desk.is_read = True
    desk.words.note(word(SYN), settled)
    assert desk.asked == [PlaceQuestion([AT])]


def test_nobody_waits_for_an_answer_that_will_not_come() -> None:
    desk = Desk()
    silent = record(Result.NO_REPLY)
    settled = int(silent["settled_ns"][0])
    desk.words.note(word(SYN), settled - ANSWER_NS)
    assert len(desk.words.admit(silent, settled + 1)) == 1


def test_without_evidence_nobody_waits() -> None:
    deaf = KernelWords(Evidence(), lambda _: True)
    refused = record(Result.REJECTED, Settled.BY_RST)
    assert deaf.admit(refused, int(refused["settled_ns"][0])) == [refused]
    batch = batch_of(refused)
    deaf.tell(batch)
    assert not batch.causes.drop.any()


def test_a_silent_one_waits_for_its_other_side() -> None:
    events = np.concatenate([record(Result.NO_REPLY), record(Result.ESTABLISHED, Settled.BY_RESPONSE)])
    settled_ns = int(events["settled_ns"][0])
    for evidence in (Evidence(), Evidence(4096, REASONS, {}, True, OWN)):
        words = KernelWords(evidence, lambda _: True, has_sides=True)
        words.note(np.zeros(0, _DROPS), settled_ns + HOLD_NS)
        (first,) = words.admit(events, settled_ns + SIDES_NS // 2)
        assert first["result"].tolist() == [Result.ESTABLISHED]
        (second,) = words.admit(np.zeros(0, _EVENTS), settled_ns + 2 * SIDES_NS)
        assert second["result"].tolist() == [Result.NO_REPLY]


def test_hidden_places_are_not_asked_for() -> None:
    desk = Desk(places=False)
    heard(desk, word(SYN))
    assert desk.asked == []
    assert desk.said(batch_of(record(Result.NO_REPLY))) == [Drop("syn", "NETFILTER_DROP", None, None)]


def test_a_flood_overwrites_and_takes_no_more_memory() -> None:
    desk = Desk()
    said = np.concatenate([word(SYN)] * (3 * SLOTS))
    said["src_port"], said["src"][:, 0] = np.arange(len(said)) % 65536, np.arange(len(said)) // 65536
    heard(desk, said)
    records = np.concatenate([record(Result.NO_REPLY)] * len(said))
    records["client_port"], records["client"][:, 0] = said["src_port"], said["src"][:, 0]
    found = batch_of(records)
    desk.words.tell(found)
    assert SLOTS // 2 < np.count_nonzero(found.causes.drop) <= SLOTS
    assert len(desk.words.drops) == 2


# --- records ---


def test_lines_and_records_say_the_same() -> None:
    desk = Desk()
    kinds = [record(result, settled, client_port=40000 + at) for at, (result, settled, *_) in enumerate(FAILED)]
    said = [
        word(flags, after_ns=5_000_000_000, **{"src_port" if flags in (SYN, ACK) else "dst_port": 40000 + at})
        for at, (*_, flags, _segment) in enumerate(FAILED)
    ]
    heard(desk, *said)
    batch = batch_of(np.concatenate(kinds))
    desk.words.tell(batch)
    composer = Composer(INTERFACES, drops=desk.words.drops, reset_reasons=desk.words.reset_reasons)
    lines = b"".join(Lines(composer).lines(batch))
    assert lines == b"".join(PlainLines(composer).lines(batch))
    records = [msgspec.json.decode(line, type=Handshake) for line in lines.splitlines()]
    assert [one.handshake.drop.segment for one in records if one.handshake.drop] == [segment for *_, segment in FAILED]


@pytest.mark.parametrize("number", [12, 90])
def test_of_silence_only_a_full_queue_is_said(number: int) -> None:
    """An idle client's ACK may be freed for other reasons, as by a local synproxy, and the connection lives."""
    desk = Desk()
    heard(desk, word(ACK, number, after_ns=2000), place="tcp_v4_rcv")
    idle = record(Result.ESTABLISHED, ack_ns=START_NS + 1500)
    full = number == 90
    assert caused(desk, idle) == (("accept_queue_full", *CERTAIN) if full else NO_CAUSE)
    assert desk.said(batch_of(idle)) == [Drop("ack", OVERFLOW, "tcp_v4_rcv", None) if full else None]


def test_a_copy_says_nothing() -> None:
    """One of those that a bridge floods, or TEE's: the segment itself went on."""
    desk = Desk()
    heard(desk, word(SYN, is_copy=1))
    assert desk.said(batch_of(record(Result.NO_REPLY))) == [None]


@pytest.mark.parametrize(
    ("before", "cause"),
    [
        (HandshakeCause.ACCEPT_QUEUE_FULL, "host_dropped"),  # others' SYNs were dropped by that queue
        (HandshakeCause.NO_ROUTE_BACK, "host_dropped"),
        (HandshakeCause.NO_ANSWER_BEYOND, "no_answer_beyond"),  # it was seen to leave
    ],
)
def test_the_word_on_this_segment_goes_before_counters(before: HandshakeCause, cause: str) -> None:
    desk = Desk()
    heard(desk, word(SYN))
    batch = batch_of(record(Result.NO_REPLY))
    batch.causes.handshake_cause[:] = before
    sure = before is not HandshakeCause.NO_ANSWER_BEYOND
    batch.causes.handshake_confidence[:] = Confidence.CERTAIN if sure else Confidence.LIKELY
    desk.words.tell(batch)
    assert causes(batch)[0][0] == cause


@pytest.mark.parametrize("reason", [Settled.AT_END, Settled.BY_NEW_SYN])
def test_what_was_settled_as_it_stood_may_still_work(reason: Settled) -> None:
    desk = Desk()
    heard(desk, word(SYN))
    assert caused(desk, record(Result.NO_REPLY, reason)) == NO_CAUSE
    assert desk.said(batch_of(record(Result.NO_REPLY, reason))) == [Drop("syn", "NETFILTER_DROP", "nft_do_chain", None)]
