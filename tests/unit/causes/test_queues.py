"""Whose queue was full, by what the root part has told (tracer/causes/queues.py)."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from tests.support.asked import WIRE, Asked
from tests.support.judged import MS, Shake, batch, fates, host
from tracer.causes.judge import CauseJudge
from tracer.causes.queue_table import NOT_FULL_MAX, TABLE_MAX, QueueTable
from tracer.encode.composer import Composer
from tracer.encode.lines import Lines
from tracer.ipc.messages import Drops, FullQueue, Host, ListenerAnswer, OwnerAnswer, QueueAnswer, SocketOwner
from tracer.records import life
from tracer.records.ends import Listener, Process
from tracer.records.record import Handshake
from tracer.run.socket_owners import OwnerLookup
from tracer.vocabulary.addresses import IPV4_MAPPED
from tracer.vocabulary.causes import HANDSHAKE_CAUSES
from tracer.vocabulary.vocabulary import Has, SettleReason, Vantage

SERVER, CLIENT, TRANSIT = Vantage.SERVER, Vantage.CLIENT, Vantage.TRANSIT
UNANSWERED = Shake(answered_ms=None, vantage=SERVER, lasts_ms=3500)
AGAIN = Shake(vantage=SERVER, synacks_after_ack=2, synacks=3, lasts_ms=3500)
LATE = Shake(vantage=SERVER, again_ms=1000, lasts_ms=1010, response=True)
CERTAIN, LIKELY, POSSIBLE = (f"accept_queue_full {one} this_host" for one in ("certain", "likely", "possible"))
SYN_LIKELY, SYN_POSSIBLE = (f"syn_queue_full {one} this_host" for one in ("likely", "possible"))
OVERFLOW, SYN_FULL = {"ListenOverflows": 1, "ListenDrops": 1}, {"TCPReqQFullDrop": 1, "ListenDrops": 1}
ANY, ADDRESS = IPV4_MAPPED + bytes(4), IPV4_MAPPED + bytes((10, 0, 1, 1))


def queue(
    queued: int = 2, *, full_ms: int = 0, dropped: list[tuple[int, int, bool]] | None = None, known: bool = True,
    inode: int = 7,
) -> QueueAnswer:  # fmt: skip
    """A listener with a backlog of one; `dropped`: between when and when, and was it the only one?"""
    drops = [Drops(after * MS, until * MS, alone) for after, until, alone in dropped or []]
    full = FullQueue(full_ms * MS, 2, 1) if full_ms else None
    return QueueAnswer(inode, ANY, 443, queued, 1, full, (0, 9000 * MS) if known else None, drops)


def told(*queues: QueueAnswer, **more: bool) -> ListenerAnswer:
    return ListenerAnswer(len(queues), [0] * len(queues), False, WIRE, [*queues], **more)


def judging(listens: ListenerAnswer, after: Host, *before: Host) -> CauseJudge:
    judge = CauseJudge(Asked(after, after, listens=listens))
    for look in before or (host(990),):
        judge.add_host(look)
    return judge


def fate(shake: Shake, listens: ListenerAnswer, **counters: int) -> str:
    return fates(judging(listens, host(4600, **counters)), shake)[0]


MEANWHILE = [(990, 1500, True)]
NOT_ALONE = [(990, 1500, False)]
BEFORE = [(500, 990, True)]


@pytest.mark.parametrize("shake", [UNANSWERED, AGAIN, replace(AGAIN, repeats=3)])
@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (queue(full_ms=4600, dropped=MEANWHILE), CERTAIN),
        (queue(full_ms=4600, dropped=NOT_ALONE), CERTAIN),
        (queue(full_ms=1500, queued=0, dropped=MEANWHILE), CERTAIN),
        (queue(full_ms=900, queued=0, dropped=MEANWHILE), LIKELY),  # long before
        (queue(full_ms=9000, queued=0, dropped=MEANWHILE), LIKELY),  # long after
        (queue(queued=0, dropped=MEANWHILE), LIKELY),
        (queue(queued=0, dropped=NOT_ALONE), POSSIBLE),
        (queue(full_ms=4600, known=False), LIKELY),
        (queue(queued=0, known=False), POSSIBLE),
        # a neighbour's
        (queue(queued=0), ""),
        (queue(full_ms=4600, dropped=BEFORE), ""),
    ],
)
def test_an_accept_queue(shake: Shake, seen: QueueAnswer, said: str) -> None:
    found = fate(shake, told(seen), **OVERFLOW)
    assert found == said if said else "queue" not in found


@pytest.mark.parametrize("shake", [UNANSWERED, replace(AGAIN, repeats=3)])
def test_a_full_queue_that_has_not_overflowed(shake: Shake) -> None:
    assert "queue" not in fate(shake, told(queue(full_ms=4600)))


def test_the_only_listener_where_nobody_tells_drops() -> None:
    assert fate(UNANSWERED, told(queue(0, known=False), alone=True), **OVERFLOW) == LIKELY
    assert fate(UNANSWERED, ListenerAnswer(1, [0], False, WIRE, alone=True), **OVERFLOW) == LIKELY
    assert fate(UNANSWERED, ListenerAnswer(1, [0], False, WIRE), **OVERFLOW) == POSSIBLE


@pytest.mark.parametrize(
    "listens", [ListenerAnswer(0, [], False, WIRE), ListenerAnswer(1, [0], True, WIRE), ListenerAnswer()]
)
def test_a_syn_for_which_no_socket_of_this_host_listens(listens: ListenerAnswer) -> None:
    assert fate(UNANSWERED, listens, **OVERFLOW) == ""
    assert fate(UNANSWERED, listens, **SYN_FULL) == ""


def test_a_late_answer() -> None:
    seen = told(queue(full_ms=1500, dropped=MEANWHILE))
    assert fates(judging(seen, host(2600, **OVERFLOW), host(990), host(1600, **OVERFLOW)), LATE) == [CERTAIN]
    # no counter had moved, so nobody asked
    asked = Asked(host(2600))
    judge = CauseJudge(asked)
    judge.add_host(host(990))
    assert fates(judge, LATE) == [""]
    assert not asked


def test_of_several_sockets_at_one_port() -> None:
    free, full = queue(0, inode=8), queue(full_ms=4600, dropped=MEANWHILE)
    for shake, said in ((UNANSWERED, LIKELY), (replace(AGAIN, socket=7), CERTAIN), (replace(AGAIN, socket=8), "")):
        judge = judging(told(free, full), host(4600, **OVERFLOW))
        judged = judge.judge(batch(shake))
        listener = judge.queue_table.records[judged.causes.listener[0]]
        assert listener == (Listener("0.0.0.0", 443, 2, 1) if said else None)
        assert fates(judging(told(free, full), host(4600, **OVERFLOW)), shake) == [said]


# --- SYN queues ---


@pytest.mark.parametrize(
    ("seen", "counters", "said"),
    [
        (queue(0, dropped=MEANWHILE), SYN_FULL, SYN_LIKELY),
        (queue(0, dropped=NOT_ALONE), SYN_FULL, SYN_POSSIBLE),
        (queue(0, known=False), SYN_FULL, SYN_POSSIBLE),
        (queue(0), SYN_FULL, ""),
        # both were full, of whatever listeners
        (queue(0, dropped=MEANWHILE), {**OVERFLOW, **SYN_FULL}, POSSIBLE),
        (queue(0, full_ms=4600, dropped=MEANWHILE), {**OVERFLOW, **SYN_FULL}, CERTAIN),
        # by tcp_max_syn_backlog, or another reason
        (queue(0, dropped=MEANWHILE), {"ListenDrops": 1}, ""),
    ],
)
def test_a_syn_queue(seen: QueueAnswer, counters: dict[str, int], said: str) -> None:
    assert fate(UNANSWERED, told(seen), **counters) == said


def test_a_syn_queue_by_the_sysctl() -> None:
    seen = told(queue(0, dropped=MEANWHILE))
    without = [host(at, 3, 0, ListenDrops=drops) for at, drops in ((990, 0), (4600, 1))]
    assert fates(judging(seen, without[1], without[0]), UNANSWERED) == [SYN_LIKELY]
    assert fates(judging(told(queue(0)), without[1], without[0]), UNANSWERED) == [""]
    no_route = ListenerAnswer(1, [0], False, None, seen.accept)
    assert fates(judging(no_route, without[1], without[0]), UNANSWERED) == [""]


# --- TCP_DEFER_ACCEPT ---

DEFERRED = "accept_deferred likely this_host"


@pytest.mark.parametrize(
    ("shake", "more", "counters", "said"),
    [
        (AGAIN, {}, {"TCPDeferAcceptDrop": 1}, DEFERRED),
        (AGAIN, {"defers": True}, {"TCPDeferAcceptDrop": 1}, DEFERRED),
        (AGAIN, {"defers": False}, {"TCPDeferAcceptDrop": 1}, ""),  # a neighbour's
        (AGAIN, {}, {}, ""),
        # its data would have been taken
        (replace(AGAIN, repeats=3), {}, {"TCPDeferAcceptDrop": 1}, "silent_after_established likely"),
        (replace(AGAIN, response=True), {}, {"TCPDeferAcceptDrop": 1}, ""),
        (replace(AGAIN, synacks_after_ack=0, synacks=1), {}, {"TCPDeferAcceptDrop": 1}, ""),
    ],
)
def test_deferred(shake: Shake, more: dict[str, bool], counters: dict[str, int], said: str) -> None:
    assert fate(shake, told(queue(0), **more), **counters) == said


def test_an_overflow_of_others_beside_a_deferred_one() -> None:
    """Its ACKs count among the drops of the socket."""
    both = {**OVERFLOW, "TCPDeferAcceptDrop": 1}
    assert fate(AGAIN, told(queue(0, dropped=NOT_ALONE), defers=True), **both) == DEFERRED
    assert fate(AGAIN, told(queue(full_ms=4600, dropped=MEANWHILE), defers=True), **both) == CERTAIN


@pytest.mark.parametrize("vantage", [CLIENT, TRANSIT, SERVER])
def test_without_counters(vantage: Vantage) -> None:
    judge = CauseJudge()
    silent, asking = replace(AGAIN, vantage=vantage), replace(AGAIN, vantage=vantage, repeats=1)
    assert fates(judge, silent, asking, replace(asking, request_acked=True, repeats=0)) == [
        "accept_deferred possible server", "accept_queue_full possible server", "",
    ]  # fmt: skip


# --- SYN cookies ---

COOKIES = "syn_cookies likely this_host"
SENT = {"SyncookiesSent": 1}
HALF_OPEN = Shake(vantage=SERVER, half_open=True, lasts_ms=5000)
IN_VAIN = Shake(vantage=SERVER, repeats=3, lasts_ms=5000)
SCALED = Has.WSCALE | Has.SACK


def cookies(shake: Shake, syn_cookies: int = 1, **counters: int) -> str:
    after = host(6600, 3, syn_cookies, **counters)
    return fates(judging(told(queue(0)), after, host(990, 3, syn_cookies), after), shake)[0]


@pytest.mark.parametrize(
    ("shake", "said"),
    [
        (HALF_OPEN, COOKIES),
        (replace(HALF_OPEN, synacks=3), "ack_missing possible"),  # a cookie is not sent again
        (replace(HALF_OPEN, lasts_ms=900), "ack_missing possible"),  # nor is anything so soon
        (replace(HALF_OPEN, ttl=63), "ack_missing possible"),
        (replace(IN_VAIN, options=SCALED), COOKIES),
        (replace(IN_VAIN, options=SCALED, options_back=SCALED), "silent_after_established likely"),
        (IN_VAIN, "silent_after_established likely"),
        (Shake(vantage=SERVER, options=SCALED, response=True), ""),
        (Shake(vantage=SERVER, options=SCALED, lasts_ms=5000), ""),
    ],
)
def test_cookies(shake: Shake, said: str) -> None:
    assert cookies(shake, **SENT) == said
    assert cookies(shake) != COOKIES


def test_cookies_for_all() -> None:
    assert cookies(IN_VAIN, 2, **SENT) == COOKIES


# --- the table ---


def test_a_table_has_an_end() -> None:
    table = QueueTable()
    for number in range(300):
        seen = QueueAnswer(number, ADDRESS, 443, 0, 1)
        assert (table.number(seen, as_full=False) > 0) == (number < NOT_FULL_MAX)
    full = [table.number(queue(full_ms=1, inode=number), as_full=True) for number in range(300)]
    assert len(table.records) == TABLE_MAX + 1
    assert max(full) == TABLE_MAX
    assert full.count(0) == 300 - (TABLE_MAX - NOT_FULL_MAX)
    assert table.number(queue(full_ms=1, inode=0), as_full=True) == full[0]


def test_processes() -> None:
    table, judged = QueueTable(), batch(AGAIN, AGAIN, AGAIN)
    seven, eight = (table.number(queue(inode=number), as_full=False) for number in (7, 8))
    judged.causes.listener[:] = (seven, eight, 0)
    assert table.sockets(judged) == [7, 8]
    nginx = Process(812, "nginx", 0)
    table.name(judged, {7: nginx})
    assert [table.records[number] for number in judged.causes.listener.tolist()] == [
        Listener("0.0.0.0", 443, 2, 1, nginx), Listener("0.0.0.0", 443, 2, 1), None,
    ]  # fmt: skip


def test_the_end_of_a_run_explains_itself() -> None:
    ended = replace(UNANSWERED, reason=SettleReason.AT_END)
    assert fate(ended, told(queue(full_ms=4600, dropped=MEANWHILE)), **OVERFLOW) == ""


def test_records_name_the_listener_and_whose_it_is() -> None:
    """From the judge to the line, as a run does it."""
    judge = judging(told(queue(full_ms=4600, dropped=MEANWHILE)), host(4600, **OVERFLOW))
    judged = judge.judge(batch(UNANSWERED))
    owners = OwnerLookup(lambda _: None, queues=judge.queue_table)
    owners.admit(judged, 1.0)
    assert owners.release(1.0) == []
    owners.answered(OwnerAnswer(1, [SocketOwner(7, 812, "nginx", 0)], {}))
    (ready,) = owners.release(1.01)
    composer = Composer({}, listeners=judge.queue_table.records)
    (record,) = composer.compose(ready)
    assert record.handshake.listener == Listener("0.0.0.0", 443, 2, 1, Process(812, "nginx", 0))
    ((sentence, confidence),) = life.causes(record)
    assert confidence == "certain"
    assert sentence.startswith("The accept queue of nginx[812] at 0.0.0.0:443 was full, 2 of 1: ")
    (line,) = Lines(composer).lines(ready)
    assert msgspec.json.decode(line, type=Handshake) == record


@pytest.mark.parametrize(
    ("cause", "begin"),
    [
        (
            "accept_queue_full",
            "The accept queue of the listener at 0.0.0.0:443 was full (0 of 1 when it was looked",
        ),
        ("syn_queue_full", "The queue of half-open connections of the listener at 0.0.0.0:443 was full: "),
        ("accept_deferred", "This server, the listener at 0.0.0.0:443, waits for the client's data before"),
    ],
)
def test_sentences_with_the_listener(cause: str, begin: str) -> None:
    (record,) = Composer({}).compose(batch(UNANSWERED))
    timing = msgspec.structs.replace(record.handshake, cause=cause, listener=Listener("0.0.0.0", 443, 0, 1))
    sentence = life.meaning(timing, cause)
    assert sentence.startswith(begin)
    assert sentence.partition(": ")[2] == HANDSHAKE_CAUSES[cause].partition(": ")[2]


def test_ordinary_handshakes_and_losses_are_not_asked_about() -> None:
    asked = Asked()
    judge = CauseJudge(asked)
    judge.add_host(host(990))
    judge.add_host(host(9000, TCPDeferAcceptDrop=5, SyncookiesSent=5))
    ordinary = Shake(vantage=SERVER, response=True)
    judge.judge(batch(ordinary, LATE, replace(LATE, vantage=CLIENT), replace(AGAIN, vantage=CLIENT)))
    assert not asked
