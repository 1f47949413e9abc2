"""Which causes the kernel's words make certain, and what they must not blame."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.desk import (
    ACK,
    AT,
    CERTAIN,
    FAILED,
    NO_CAUSE,
    OTHER,
    OVERFLOW,
    RST,
    SYN,
    SYNACK,
    Desk,
    caused,
    causes,
    heard,
    record,
    word,
)
from tests.support.rows import START_NS, batch_of
from tracer.handshake.events import Events
from tracer.ipc.messages import PlaceAnswer
from tracer.records.drop import Drop
from tracer.run.kernel_words import OTHERS_MAX, TABLE_MAX
from tracer.vocabulary.vocabulary import Confidence, HandshakeCause, ResetFrom, Vantage
from tracer.vocabulary.vocabulary import HandshakeResult as Result
from tracer.vocabulary.vocabulary import SettleReason as Settled


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


def test_a_router_that_resets_the_answer_in_the_clients_name() -> None:
    transit = np.array([Vantage.TRANSIT], np.uint8)
    for reason, sender, cause in (
        (12, ResetFrom.CLIENT, ("firewall_rejected", *CERTAIN)),
        (12, ResetFrom.SERVER, NO_CAUSE),
        (16, ResetFrom.CLIENT, NO_CAUSE),
    ):
        desk = Desk()
        heard(desk, word(SYNACK, reason))
        batch = batch_of(record(Result.ABORTED, egress=1, reset_from=sender), transit)
        desk.said(batch)
        assert causes(batch) == [cause]


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


@pytest.mark.parametrize("number", [12, 90])
def test_of_silence_only_a_full_queue_is_said(number: int) -> None:
    """An idle client's ACK may be freed for other reasons, as by a local synproxy, and the connection lives."""
    desk = Desk()
    heard(desk, word(ACK, number, after_ns=2000), place="tcp_v4_rcv")
    idle = record(Result.ESTABLISHED, ack_ns=START_NS + 1500)
    full = number == 90
    assert caused(desk, idle) == (("accept_queue_full", *CERTAIN) if full else NO_CAUSE)
    assert desk.said(batch_of(idle)) == [Drop("ack", OVERFLOW, "tcp_v4_rcv", None) if full else None]


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
