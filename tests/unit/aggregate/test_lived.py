"""What lived is counted apart from what was only acked: totals, benefits, the summary."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import pytest

from tests.support.judged import Shake, batch
from tests.support.rows import ACCEPTED, INTERFACES, batch_of, random_events, worked
from tracer.aggregate.aggregate import Aggregate
from tracer.aggregate.benefit import BenefitTable
from tracer.aggregate.responses import ENOUGH
from tracer.aggregate.summary import summarize
from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch
from tracer.records.record import SCHEMA
from tracer.records.run import End
from tracer.vocabulary.vocabulary import GROUP_OF, Outcome, SettleReason, word

BY_CLIENT, BY_SERVER = 1, 2
COOKIE = b"\xa0" * 8
LIVED = Shake(cookie=COOKIE, data=100, acked=100, response=True)
RESET = Shake(cookie=COOKIE, data=100, acked=100, reset_from=BY_SERVER)
SILENT = Shake(cookie=COOKIE, data=100, acked=100)
IN_VAIN = Shake(cookie=COOKIE, data=100, acked=100, repeats=2)
UNUSED = Shake(reset_from=BY_CLIENT)
PLAIN = Shake(response=True)


def told(*batches: Batch) -> list[str]:
    """The summary of a run that saw these."""
    aggregate, said = Aggregate(), list[str]()
    for one in batches:
        aggregate.add(one)
    summarize(End(SCHEMA, "", "asked", 0, 1.0, aggregate.totals(), None, {}), said.append)
    return said


def test_totals_are_those_of_the_records() -> None:
    rng = np.random.default_rng(5)
    made = batch_of(random_events(rng, 4000, odd=False, lives=True), rng.integers(0, 4, 4000).astype(np.uint8))
    aggregate = Aggregate()
    for begin in range(0, len(made), 777):
        aggregate.add(made.rows(begin, begin + 777))
    totals, records = aggregate.totals(), list(Composer(INTERFACES).compose(made))
    assert totals.tfo_accepted == sum(one.tfo.outcome in ACCEPTED for one in records)
    assert totals.tfo_lived == sum(worked(one) for one in records)
    assert 0 < totals.tfo_lived < totals.tfo_accepted
    resent = [one for one in records if one.tfo.request not in ("none", "malformed") and (one.tfo.delay_us or 0) > 0]
    assert resent
    assert totals.tfo_resent == len(resent)
    assert totals.delay_us == pytest.approx(sum(one.tfo.delay_us or 0 for one in resent), rel=1e-6)
    assert totals.after == Counter(one.handshake.after for one in records if one.handshake.after is not None)
    assert len(totals.after) == 8
    usual = {word(outcome): group.word for outcome, group in GROUP_OF.items()}
    assert totals.died == Counter(
        one.tfo.outcome for one in records if one.tfo.outcome and one.tfo.group != usual[one.tfo.outcome]
    )
    assert {"data_acked", "cookie_granted"} <= totals.died.keys()
    # each group has its outcomes, less those that died afterwards
    for group in ("ok", "degraded", "failed"):
        own = sum(totals.outcomes.get(name, 0) - totals.died.get(name, 0) for name, of in usual.items() if of == group)
        own += sum(totals.died.values()) if group == "failed" else 0
        assert totals.groups[group] == own


def test_saved_time_is_that_of_connections_that_lived() -> None:
    aggregate = Aggregate()
    aggregate.add(batch(RESET, SILENT, IN_VAIN))
    assert (aggregate.totals().tfo_accepted, aggregate.totals().tfo_lived) == (3, 0)
    assert aggregate.totals().net_saved_us == 0
    aggregate.add(batch(LIVED))
    assert (aggregate.totals().tfo_lived, aggregate.totals().rtt_saved_us) == (1, 1000.0)


def test_the_summary_tells_what_was_saved_and_what_was_lost_apart() -> None:
    late = batch(Shake(data=100), Shake(data=100), PLAIN)
    late.durations.delay_us[:] = 1_000_000.0
    said = told(batch(LIVED, LIVED, LIVED, PLAIN), late)
    assert said[0].startswith("7 handshakes in 1.0 s, all established")
    assert said[2].startswith("Fast Open: 5 attempts, of 5 SYNs with data 3 worked")
    assert "3 round trips saved, about 3.00 ms in all; 2 attempts lost SYNs, which took 2.00 s" in said
    assert "2 attempts lost SYNs, which took 2.00 s" in told(late)
    assert "3 round trips saved, about 3.00 ms in all" in told(batch(LIVED, LIVED, LIVED))
    assert not any(word in line for line in told(batch(PLAIN)) for word in ("saved", "lost SYNs"))
    assert not any("net time" in line for line in said)


def test_what_another_host_acked_did_not_live() -> None:
    """The first SYN-ACK acked the data; the client took a second one of another host, which answered."""
    made = batch(LIVED)
    made.verdicts.acked_payload_len[:] = 0
    aggregate = Aggregate()
    aggregate.add(made)
    assert (aggregate.totals().tfo_accepted, aggregate.totals().tfo_lived) == (1, 0)


def test_a_totals_record_of_an_older_version_does_not_know() -> None:
    fields = msgspec.to_builtins(Aggregate().totals())
    for name in ("tfo_lived", "after", "died"):
        del fields[name]
    old = msgspec.convert(fields, type(Aggregate().totals()))
    assert (old.tfo_lived, old.after, old.died) == (None, None, None)


def test_benefits_have_only_samples_that_lived() -> None:
    # answered, but never established as far as this was seen
    odd = [batch(LIVED, PLAIN) for _ in range(ENOUGH)]
    for one in odd:
        one.verdicts.lived[:] = False
    table = BenefitTable()
    for one in odd:
        table.add(one)
    assert table.benefits() == ()
    for _ in range(ENOUGH):
        table.add(batch(LIVED, PLAIN, RESET, SILENT))
    (found,) = table.benefits()
    assert (found.tfo_samples, found.normal_samples) == (ENOUGH, ENOUGH)


def test_the_first_line_of_the_summary_is_no_success_where_connections_died() -> None:
    for dead in (RESET, SILENT, IN_VAIN):
        said = told(batch(dead, dead))
        (line,) = (line for line in said if line.startswith("Fast Open: "))
        assert line == "Fast Open: 2 attempts, of 2 SYNs with data none worked, 2 were accepted and then dead or silent"
        assert not any("saved" in line for line in said)
    some = told(batch(LIVED, RESET, SILENT, Shake(data=100)))
    assert "Fast Open: 4 attempts, of 4 SYNs with data 1 worked, 2 were accepted and then dead or silent" in some
    assert "Fast Open: 1 attempt, of 1 SYN with data 1 worked" in told(batch(LIVED, PLAIN))
    assert (
        "Fast Open: 12 attempts, of 12 SYNs with data 9 worked (75.0 %), 3 were accepted and then dead or silent"
        in (told(batch(*[LIVED] * 9, *[RESET] * 3)))
    )
    assert "Fast Open: nobody tried it" in told(batch(PLAIN))


def test_the_summary_says_how_connections_went_on() -> None:
    said = told(batch(RESET, RESET, SILENT, LIVED, UNUSED))
    assert said[1] == (
        "once established: 2 reset by the server, 1 answered, 1 silent; "
        "1 closed unused by the client, which is no failure"
    )
    assert told(batch(UNUSED))[1] == "once established: 1 closed unused by the client, which is no failure"
    assert "once established" not in "".join(told(batch(LIVED, PLAIN, Shake(reason=SettleReason.BY_FIN))))


@pytest.mark.parametrize("outcome", Outcome)
def test_each_outcome_has_a_place_for_those_that_died(outcome: Outcome) -> None:
    made = batch(PLAIN)
    made.verdicts.outcome[:], made.verdicts.group[:] = outcome, GROUP_OF[outcome]
    aggregate = Aggregate()
    aggregate.add(made)
    assert aggregate.totals().died == {}


def test_outcomes_that_are_not_named_are_counted() -> None:
    aggregate = Aggregate()
    aggregate.add(batch(LIVED, PLAIN))
    outcomes = {"cookie_granted": 9, "rejected": 5, "no_answer": 4, "cookie_only": 3, "over_acked": 3, "data_acked": 1}
    for more, ending in (
        ({}, "acked more than was sent (3)"),
        ({"data_not_acked": 2, "data_partly_acked": 1}, "others (3)"),
    ):
        said = list[str]()
        totals = msgspec.structs.replace(aggregate.totals(), outcomes=outcomes | more)
        summarize(End(SCHEMA, "", "asked", 0, 1.0, totals, None, {}), said.append)
        (line,) = (one for one in said if one.startswith("other outcomes"))
        assert line.endswith(ending)
        assert ("others" in line) is bool(more)
