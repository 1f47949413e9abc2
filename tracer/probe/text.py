"""What a probe found, for people. Names come from the command line and are made safe to print."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Sequence

from tracer.probe.model import GOOD, Agreed, Answer, Asks, Benefit, Passage, Payload, Probed, Verdict
from tracer.records.record import Handshake
from tracer.vocabulary.numbers import UNKNOWN, duration
from tracer.vocabulary.printable import cells, plural, printable
from tracer.vocabulary.vocabulary import ClientFail, word
from tracer.words.ladder import LADDER_MAX, ladder_lines

_SIDE = 22  # cells of a name in front of figures
_COLUMN = 14
_WIDTH = 100

_SHORT = {
    Verdict.CACHED: "not tried",
    Verdict.WORKS: "works", Verdict.GRANTS: "grants cookies", Verdict.PARTLY: "works only partly",
    Verdict.KEY_NOT_SHARED: "cookie key not shared", Verdict.NOT_TAKEN: "SYN data not taken",
    Verdict.NOT_GRANTED: "no cookie granted", Verdict.DROPS_SYN_DATA: "SYN data is dropped",
    Verdict.DROPS_OPTION: "the option is dropped", Verdict.BREAKS_AFTER: "breaks after the SYN-ACK",
    Verdict.SILENT: "nothing after the handshake", Verdict.NOT_SENT: "not sent by this host",
    Verdict.NOT_SEEN: "not seen", Verdict.REFUSED: "refused", Verdict.UNREACHABLE: "unreachable",
    Verdict.NO_ANSWER: "no answer", Verdict.NO_NAME: "no address",
}  # fmt: skip

_ASKED = {Asks.ECN: "ECN", Asks.MPTCP: "MPTCP", Asks.SYN_DATA: "data without cookie"}
_PASSED = {
    Passage.GRANTED: "granted",
    Passage.PASSED: "not granted, but SYNs that ask for it are answered",
    Passage.DROPPED: "SYNs that ask for it get no answer: a box drops them",
    Passage.NOT_TRIED: "not tried: this host cannot ask for it",
}
_TAKEN = {
    Passage.GRANTED: "taken: this server asks for no cookie",
    Passage.PASSED: "not taken, but such SYNs are answered: the path lets them pass",
    Passage.DROPPED: "such SYNs get no answer: a box drops them",
    Passage.NOT_TRIED: "not tried",
}
_FAILS = {
    word(ClientFail.COOKIE_UNAVAILABLE): "no cookie to send yet",
    word(ClientFail.DATA_NOT_ACKED): "the SYN's data was not acked",
    word(ClientFail.SYN_RETRANSMITTED): "the SYN was sent again without it",
}
_OFF = "do not use Fast Open on this path until that box is found: each attempt costs a second"
_TO_DO = {
    Verdict.WORKS: "nothing; programs that ask for Fast Open use it with this server",
    Verdict.GRANTS: "probe with --payload tls or http, and a --count above 1, to see whether it takes data in the SYN",
    Verdict.CACHED: "probe with --payload tls or http to see whether the cookie is good",
    Verdict.PARTLY: "look at connections with -v, and probe with a greater --count: single losses are no fault",
    Verdict.KEY_NOT_SHARED: "give all servers behind this address the same net.ipv4.tcp_fastopen_key",
    Verdict.NOT_TAKEN: "look at the server with tfotrace doctor: is Fast Open still on, is its queue full, does it "
    "send SYN cookies? If not, a box on the path removes the option",
    Verdict.NOT_GRANTED: "look at the server with tfotrace doctor: bit 0x2 of net.ipv4.tcp_fastopen, TCP_FASTOPEN at "
    "its listener, and how many connections wait in that queue. If all is well, a box on the path removes the option: "
    "trace both ends, and use tfotrace compare",
    Verdict.DROPS_SYN_DATA: _OFF,
    Verdict.DROPS_OPTION: _OFF,
    Verdict.BREAKS_AFTER: "do not use Fast Open on this path: connections die after their data was taken",
    Verdict.SILENT: "look at the server and the path first: this is not Fast Open's doing",
    Verdict.NOT_SENT: "look at this host with tfotrace doctor: its kernel holds Fast Open back after a broken path",
    Verdict.NOT_SEEN: "name the interface that they pass with --interface; translated addresses cannot be followed",
    Verdict.REFUSED: "is the port right, and does the server run?",
    Verdict.UNREACHABLE: "look at the routes and firewalls of this host and of the path",
    Verdict.NO_ANSWER: "does the server run, and does a firewall let these connections pass?",
    Verdict.NO_NAME: "is the name right?",
}


def lines(found: Sequence[Probed], payload: Payload, verbose: bool) -> Iterator[str]:
    """One target: its verdict, a table an address, what to do. Several: a row each."""
    if len(found) == 1:
        yield from _one(found[0], payload, verbose)
        return
    yield from _rows(found)
    for one in found if verbose else ():
        yield ""
        yield from _one(one, payload, verbose)


def sentence(one: Probed) -> str:
    """The verdict on a target."""
    name = printable(one.target.name)
    if not one.answers:
        return f"{name}: {printable(one.problem)}."
    if len(one.answers) == 1:
        return f"{name}: {of_answer(one.answers[0])}"
    good = sum(answer.verdict in GOOD for answer in one.answers)
    if good == len(one.answers):
        return f"{name}: Fast Open works with all {good} addresses."
    if good:
        return f"{name}: Fast Open works with {good} of {len(one.answers)} addresses."
    kinds = {answer.verdict for answer in one.answers}
    why = f" ({_SHORT[one.verdict]})" if len(kinds) == 1 else ""
    return f"{name}: Fast Open works with none of {len(one.answers)} addresses{why}."


def of_answer(one: Answer) -> str:
    """The verdict on an address, as a sentence."""
    data = f"{one.lived} of {one.tried} {plural(one.tried, 'SYN')} with data"
    match one.verdict:
        case Verdict.WORKS:
            taken = f"the data of {one.lived} of {one.tried} {plural(one.tried, 'SYN')} was taken"
            if not one.plain.answered + one.fast_open.answered:
                return f"Fast Open works: {taken}; the server answered no request, so what follows was not seen."
            return f"Fast Open works{_saves(one.benefit)}: {taken}."
        case Verdict.GRANTS:
            return "the server grants cookies; SYN data was not tried."
        case Verdict.CACHED:
            return "this host had a cookie of the server already, and no data was sent with it: nothing can be told."
        case Verdict.PARTLY:
            return f"Fast Open works only partly: {data} served ({_why_not(one)})."
        case Verdict.KEY_NOT_SHARED:
            return (
                f"servers behind this address do not share their cookie key: {one.replaced} of {one.tried} cookies "
                "were replaced instead of accepted."
            )
        case Verdict.NOT_TAKEN:
            return "SYN data is not taken, though a cookie was sent with it."
        case Verdict.NOT_GRANTED if one.passage.get(Asks.SYN_DATA) is Passage.GRANTED:
            return "no cookie is granted, but the server takes data without one: only clients that send none use it."
        case Verdict.NOT_GRANTED:
            return (
                "no cookie is granted: the server or its listener does without Fast Open, its queue for it is full, or "
                "a box on the path removes the option."
            )
        case Verdict.DROPS_SYN_DATA:
            return (
                f"SYNs with data get no answer ({one.unanswered} of {one.tried}), and plain SYNs do: a box drops them."
            )
        case Verdict.DROPS_OPTION:
            return "SYNs with the Fast Open option get no answer, and plain ones do: a box drops them."
        case Verdict.BREAKS_AFTER:
            return "the path breaks connections whose SYN data was taken: nothing comes after the SYN-ACK."
        case Verdict.SILENT:
            return "connections are established, and then nothing comes back, with Fast Open or without."
        case Verdict.NOT_SENT:
            return "this host's kernel did not use Fast Open, though it was asked to."
        case Verdict.NOT_SEEN:
            return "the connections were not seen where they were traced."
        case Verdict.REFUSED:
            return "the server refuses connections."
        case Verdict.UNREACHABLE:
            return f"the server cannot be reached{_error(one)}."
        case Verdict.NO_ANSWER:
            return "nothing answers."
        case _:
            return "its name has no address."


def to_do(one: Probed) -> str:
    """What follows from the verdict."""
    worst = next((answer for answer in one.answers if answer.verdict not in GOOD), None)
    return _TO_DO[one.verdict if worst is None else worst.verdict]


def _one(one: Probed, payload: Payload, verbose: bool) -> Iterator[str]:
    yield from _folded(sentence(one))
    several = len(one.answers) > 1
    for answer in one.answers:
        yield ""
        if several:
            yield from _folded(f"{answer.ip}: {of_answer(answer)}")
        yield from _table(answer, payload)
        if verbose:
            yield from _ladders(answer)
    yield ""
    yield from _folded(f"to do: {to_do(one)}")


def _folded(text: str) -> list[str]:
    """A sentence in lines, broken between words: addresses and names stay whole."""
    return textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _rows(found: Sequence[Probed]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("SERVER", "FAST OPEN", "SYN DATA", "RTT", "FIRST RESPONSE", "WITH FAST OPEN")]
    for one in found:
        name = printable(one.target.name)
        if not one.answers:
            rows.append((name, printable(one.problem), *[UNKNOWN] * 4))
        for answer in one.answers:
            shown = f"{name} {answer.ip}" if len(one.answers) > 1 else name
            rows.append(
                (
                    shown, _SHORT[answer.verdict], f"{answer.lived} of {answer.tried}" if answer.tried else UNKNOWN,
                    duration(answer.plain.rtt_us), duration(answer.plain.first_response_us),
                    duration(answer.fast_open.first_response_us),
                )
            )  # fmt: skip
    widths = [max(cells(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(text + " " * (width - cells(text)) for text, width in zip(row, widths, strict=True)).rstrip()


def _table(one: Answer, payload: Payload) -> Iterator[str]:
    plain, with_it = one.plain, one.fast_open
    yield f"  {'':{_SIDE}}{'plain':>{_COLUMN}}{'Fast Open':>{_COLUMN}}"
    rows = (
        ("connections", plain.connections, with_it.connections),
        ("established", plain.established, with_it.established),
        *((("answered", plain.answered, with_it.answered),) if payload is not Payload.NONE else ()),
        ("SYN sent again", plain.syns_again, with_it.syns_again),
        ("round trip", duration(plain.rtt_us), duration(with_it.rtt_us)),
        *((("first response", *map(duration, _first(one))),) if payload is not Payload.NONE else ()),
    )
    for name, left, right in rows:
        yield f"  {name:{_SIDE}}{left:>{_COLUMN}}{right:>{_COLUMN}}"
    yield f"  {'cookie':{_SIDE}}{_cookie(one)}"
    yield f"  {'SYN data':{_SIDE}}{_data(one)}"
    yield from _passages(one)
    if one.fails:
        fails = ", ".join(f"{_FAILS[name]} ({count})" for name, count in one.fails.items())
        yield f"  {'this kernel says':{_SIDE}}{fails}"
    if (agreed := one.negotiated) is not None:
        yield f"  {'negotiated':{_SIDE}}{_agreed(agreed)}"
    if (words := _saved(one)) is not None:
        yield f"  {words[0]:{_SIDE}}{words[1]}"


def _passages(one: Answer) -> Iterator[str]:
    for asks, found in one.passage.items():
        words = _TAKEN if asks is Asks.SYN_DATA else _PASSED
        yield f"  {_ASKED[asks]:{_SIDE}}{words[found]}"


def _first(one: Answer) -> tuple[float | None, float | None]:
    return one.plain.first_response_us, one.fast_open.first_response_us


def _cookie(one: Answer) -> str:
    if one.cookie_len is None:
        return "this host had one already" if one.was_cached else "none granted"
    parts = [f"granted, {one.cookie_len} bytes"]
    if one.cookies > 1:
        parts.append(f"{one.cookies} different ones")
    if one.was_cached:
        parts.append("the one of earlier days was replaced" if one.was_stale else "this host had one already")
    return "; ".join(parts)


def _data(one: Answer) -> str:
    if not one.tried:
        return "not tried"
    return f"{one.taken} of {one.tried} taken" + (f", {one.lived} served" if one.lived != one.taken else "")


def _agreed(found: Agreed) -> str:
    scale = "no window scale" if found.wscale is None else f"window scale {found.wscale}"
    mss = "no MSS" if found.mss is None else f"MSS {found.mss}"
    options = ["SACK" if found.sack else "no SACK", "timestamps" if found.timestamps else "no timestamps"]
    return ", ".join([mss, scale, *options, f"{found.hops} {plural(found.hops, 'hop')} away"])


def _saves(found: Benefit | None) -> str:
    if found is None or found.low_us is None or found.low_us <= 0:
        return ""
    return f" and saves {duration(found.sooner_us)} until the first response"


def _saved(one: Answer) -> tuple[str, str] | None:
    found, trip = one.benefit, one.plain.rtt_us
    if found is None:
        return None if trip is None else ("could save", f"a round trip of {duration(trip)} each time")
    if found.low_us is None or found.high_us is None:
        return "saves", f"{duration(found.sooner_us)} until the first response (too few for an interval)"
    sure = f"95 % sure of {duration(found.low_us)} to {duration(found.high_us)}"
    if found.low_us <= 0 <= found.high_us:
        return "saves", f"no difference to be seen: {sure}"
    return "saves", f"{duration(found.sooner_us)} until the first response, {sure}"


def _why_not(one: Answer) -> str:
    reasons = (
        (one.unanswered, "got no answer"), (one.refused, "were not taken"),
        (one.taken - one.lived, "were taken, and then nothing came"),
    )  # fmt: skip
    return ", ".join(f"{count} {words}" for count, words in reasons if count)


def _error(one: Answer) -> str:
    numbers = [each.error for each in one.connections if each.error]
    return f": {os.strerror(max(set(numbers), key=numbers.count))}" if numbers else ""


def _ladders(one: Answer) -> Iterator[str]:
    """The best and the worst handshake."""
    records = [each.record for each in one.connections if each.record is not None]
    records.sort(key=_badness)
    chosen = {record.id: record for record in (records[:1] + records[-1:])}
    for record in chosen.values():
        yield ""
        for line in ladder_lines(record, LADDER_MAX):
            yield f"  {''.join(text for text, _ in line)}".rstrip()


def _badness(record: Handshake) -> tuple[bool, bool, bool, float]:
    timing = record.handshake
    return (
        record.tfo.group == "failed",
        timing.result != "established",
        not (record.synack is not None and record.synack.acked_payload_len),
        timing.first_response_us or timing.rtt_us or 0.0,
    )
