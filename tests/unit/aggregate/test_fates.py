"""What the totals and the summary say of handshakes that failed: results, causes, and where."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.support.judged import Shake, batch
from tests.support.rows import INTERFACES, random_batch
from tracer.aggregate.aggregate import Aggregate
from tracer.aggregate.failed_places import SERVERS_HELD
from tracer.aggregate.summary import summarize
from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch
from tracer.records.failed_at import FailedAt
from tracer.records.interface_sums import InterfaceSums
from tracer.records.record import SCHEMA
from tracer.records.run import Balance, End, Totals
from tracer.vocabulary.causes import DROPPED, HANDSHAKE_CAUSES
from tracer.vocabulary.fates import BRIEF_CAUSES, FAILED_WORDS, brief_cause, failed_words
from tracer.vocabulary.vocabulary import CONFIDENCE_WORDS, Confidence, HandshakeCause, HandshakeResult, known

PLAIN = Shake(response=True)
LOST = Shake(answered_ms=None)


def many(shake: Shake, count: int, **changes: object) -> list[Shake]:
    return [replace(shake, client=1 + at % 200, **changes) for at in range(count)]  # type: ignore[arg-type]


def ended(
    shakes: list[Shake],
    result: HandshakeResult | None = None,
    cause: HandshakeCause | None = None,
    sure: Confidence = Confidence.LIKELY,
) -> Batch:
    """A batch of these, with this result and cause."""
    made = batch(*shakes)
    if result is not None:
        made.events["result"] = result
    if cause is not None:
        made.causes.handshake_cause[:], made.causes.handshake_confidence[:] = cause, sure
    return made


def totals(*batches: Batch) -> Totals:
    aggregate = Aggregate()
    for one in batches:
        aggregate.add(one)
    return aggregate.totals()


def told(*batches: Batch) -> list[str]:
    said = list[str]()
    summarize(End(SCHEMA, "", "asked", 0, 12.0, totals(*batches), None, {}), said.append)
    return said


def test_every_cause_and_result_has_its_few_words() -> None:
    assert list(BRIEF_CAUSES) == list(HANDSHAKE_CAUSES)
    assert all(failed_words(name) for name in FAILED_WORDS)
    assert failed_words("of_a_later_version") == brief_cause("of_a_later_version") == "of a later version"
    assert brief_cause("host_dropped", "firewall") == "dropped by this host: firewall"


def test_totals_are_those_of_the_records() -> None:
    composer, aggregate, records = Composer(INTERFACES), Aggregate(), []
    for seed in range(4):
        made = random_batch(seed, 700, peers=3)
        aggregate.add(made)
        records += list(composer.compose(made))
    found = aggregate.totals()
    failed = [one for one in records if one.handshake.result in FAILED_WORDS]
    causes = Counter((one.handshake.result, one.handshake.cause) for one in failed if one.handshake.cause is not None)
    told = {(name, cause): n for name, of in (found.failed_causes or {}).items() for cause, n in of.items()}
    assert told == causes
    assert len(told) > 20
    surest: dict[str, int] = {}
    words = known(CONFIDENCE_WORDS)
    for one in records:
        timing = one.handshake
        if timing.cause is not None and timing.cause_confidence is not None:
            surest[timing.cause] = max(surest.get(timing.cause, 0), words.index(timing.cause_confidence))
    assert found.handshake_confidences == {name: words[sure] for name, sure in surest.items()}
    surest = {}
    for one in records:
        if one.tfo.cause is not None and one.tfo.cause_confidence is not None:
            surest[one.tfo.cause] = max(surest.get(one.tfo.cause, 0), words.index(one.tfo.cause_confidence))
    assert found.cause_confidences == {name: words[sure] for name, sure in surest.items()}
    assert len(surest) == len(found.causes) > 5


def test_where_more_than_half_failed_is_told() -> None:
    half_open = ended([*many(LOST, 6, server=1), *many(LOST, 5, server=2)], HandshakeResult.HALF_OPEN)
    assert totals(half_open).failed_at == (FailedAt("half_open", "10.0.1.1", 443, 6),)
    # each result has a place of its own
    rejected = ended(many(LOST, 3, port=81), HandshakeResult.REJECTED)
    places = totals(half_open, rejected).failed_at
    assert places == (FailedAt("rejected", "10.0.1.1", 81, 3), FailedAt("half_open", "10.0.1.1", 443, 6))


def test_half_is_not_more_than_half() -> None:
    spread = ended([*many(LOST, 5, server=1, port=81), *many(LOST, 5, server=2, port=82)])
    assert totals(spread).failed_at == ()
    assert " at " not in told(spread)[0]


def test_one_port_of_many_servers() -> None:
    flood = ended([replace(LOST, network=at // 250, server=at % 250, port=80) for at in range(3 * SERVERS_HELD)])
    assert totals(flood).failed_at == (FailedAt("no_reply", None, 80, 3 * SERVERS_HELD),)
    assert told(flood)[0].endswith(f": {3 * SERVERS_HELD:,} no reply at port 80")


def test_what_was_established_has_no_place() -> None:
    found = totals(ended(many(PLAIN, 10)))
    assert (found.failed_at, found.failed_causes, found.handshake_confidences) == ((), {}, {})
    slow = totals(ended([PLAIN], cause=HandshakeCause.SLOW_ANSWER))
    assert (slow.failed_causes, slow.handshake_confidences) == ({}, {"slow_answer": "likely"})


def test_the_first_line_of_a_flood() -> None:
    flood = ended(many(LOST, 195, port=80), HandshakeResult.HALF_OPEN, HandshakeCause.SYN_FLOOD)
    begun = ended(many(LOST, 5, port=80), HandshakeResult.HALF_OPEN, HandshakeCause.ACK_MISSING, Confidence.POSSIBLE)
    said = told(ended(many(PLAIN, 3)), begun, flood)
    assert said[:4] == [
        "203 handshakes in 12.0 s: 3 established, 200 half open at 10.0.1.1:80, a SYN flood (likely)",
        "cause of 195 handshakes: a SYN flood (likely) at 10.0.1.1:80. Keep net.ipv4.tcp_syncookies at 1, and look at "
        "who sends the SYNs",
        "cause of 5 handshakes: ACK missing (possible). See whether the SYN-ACK or the ACK is lost on the path, or the "
        "SYN came from a forged address",
        "Fast Open: nobody tried it",
    ]


def test_the_first_line_of_several_results() -> None:
    refused = ended(many(LOST, 41, port=81), HandshakeResult.REJECTED, HandshakeCause.NO_LISTENER, Confidence.CERTAIN)
    gone = ended([replace(LOST, server=at, port=at) for at in range(1, 9)])
    said = told(refused, gone, ended([PLAIN]))
    assert said[0] == "50 handshakes in 12.0 s: 1 established, 41 refused at 10.0.1.1:81, nobody listens; 8 no reply"
    assert said[1].startswith("cause of 41 handshakes: nobody listens at 10.0.1.1:81. Start the server")


def test_the_first_line_does_not_call_most_all() -> None:
    some = ended(many(LOST, 6, port=81), HandshakeResult.REJECTED, HandshakeCause.REFUSED)
    others = ended([replace(LOST, server=at, port=at) for at in range(1, 5)], HandshakeResult.REJECTED)
    said = told(some, others)
    assert said[0] == (
        "10 handshakes in 12.0 s: 10 refused, mostly at 10.0.1.1:81, mostly refused by the server (likely)"
    )
    # where the others are nobody says, so where the cause lies is not said
    assert said[1].startswith("cause of 6 handshakes: refused by the server (likely). Look at the server")


def test_ordinary_runs_say_what_they_said() -> None:
    assert told(ended(many(PLAIN, 3)))[0] == "3 handshakes in 12.0 s, all established"
    assert told(ended([PLAIN]))[0] == "1 handshake in 12.0 s, established"
    assert told(ended([LOST]))[0] == "1 handshake in 12.0 s: 1 no reply at 10.0.1.1:443"
    assert told()[0] == "0 handshakes in 12.0 s"
    assert told(ended(many(PLAIN, 1234)))[0].startswith("1,234 handshakes")


def test_causes_of_handshakes_come_before_those_of_fast_open() -> None:
    made = ended([LOST], cause=HandshakeCause.PACKET_LOSS)
    made.causes.cause[:] = 1
    causes = [line.partition(". ")[0] for line in told(made) if ". " in line]
    assert causes == [
        "cause of 1 handshake: packet loss (likely) at 10.0.1.1:443", "Fast Open in 1 handshake: key not shared",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sure", "sentence"),
    [(Confidence.CERTAIN, DROPPED), (Confidence.POSSIBLE, HANDSHAKE_CAUSES["host_dropped"])],
)
def test_what_the_kernel_dropped_is_no_guess(sure: Confidence, sentence: str) -> None:
    said = told(ended([LOST], cause=HandshakeCause.HOST_DROPPED, sure=sure))
    advice = sentence.partition(": ")[2].removesuffix(".")
    assert any(line.casefold().endswith(f". {advice.casefold()}") for line in said)


def test_ordinary_rows_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ended(many(PLAIN, 50))
    monkeypatch.setattr(np, "ravel_multi_index", None)
    assert totals(made).handshakes == 50


@pytest.mark.parametrize(
    ("sheet", "says"),
    [
        (Balance(9, 9, 0, 0, 0, 0, 9, 0), "nothing lost"),
        (Balance(9, 8, 1, 0, 0, 0, 8, 0), "1 handshake lost: 1 ring full"),
        (Balance(9, 5, 0, 4, 0, 0, 5, 0), "4 handshakes lost: 4 table full (see --table-size)"),
        (Balance(5000, 2000, 1000, 0, 2000, 0, 1999, 3),
         "3,004 handshakes lost: 1,000 ring full, 2,000 unanswered above 10,000 a second, 3 not written, 1 not read"),
    ],
)  # fmt: skip
def test_what_was_lost_is_told_with_where(sheet: Balance, says: str) -> None:
    said = list[str]()
    summarize(End(SCHEMA, "", "asked", 0, 12.0, totals(), sheet, {}), said.append)
    assert said[-1] == says


@pytest.mark.parametrize(
    ("sums", "told"),
    [
        (InterfaceSums(traced=3000, gone=2), []),
        (
            InterfaceSums(traced=1, removed=1, attached_again=1),
            ["somebody removed tfotrace's programs from an interface once; they were attached again once"],
        ),
        (
            InterfaceSums(traced=2, removed=1200, not_traced=1),
            [
                "somebody removed tfotrace's programs from an interface 1,200 times; they were attached again never",
                "1 interface could not be traced at the end",
            ],
        ),
    ],
    ids=["all traced", "attached again", "not attached again"],
)
def test_the_summary_tells_what_was_not_traced_for_all_of_the_time(sums: InterfaceSums, told: list[str]) -> None:
    said: list[str] = []
    summarize(End(SCHEMA, "", "asked", 0, 12.0, totals(), None, {}, interfaces=sums), said.append)
    assert [line for line in said if "interface" in line] == told
