"""A comparison for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tracer.compare.model import Comparison, Finding, Towards
from tracer.vocabulary.changes import Piece, What, option_words
from tracer.vocabulary.numbers import count, duration
from tracer.vocabulary.printable import plural, printable

_LOST = {
    "data": "SYNs with data", "tfo": "SYNs with the Fast Open option", "ecn": "SYNs that ask for ECN",
    "plain": "ordinary SYNs", "sent again": "SYNs that were sent again",
}  # fmt: skip
_PIECES = {
    Piece.SYN: "SYNs", Piece.SYNACK: "SYN-ACKs", Piece.ACK: "ACKs", Piece.REQUEST: "requests",
    Piece.RESPONSE: "responses", Piece.RST: "RSTs", Piece.ICMP: "ICMP errors",
}  # fmt: skip


def lines(found: Sequence[Comparison]) -> Iterator[str]:
    """Lines without ends; what came from files' names is printable."""
    for number, one in enumerate(found):
        if number:
            yield ""
        yield from _one(one)


def _one(one: Comparison) -> Iterator[str]:
    near, far = printable(one.near), printable(one.far)
    yield f"From {near} (nearer to the clients) to {far}: {verdict(one)}"
    yield ""
    for finding in one.findings:
        share = f"{count(finding.count)} of {count(finding.of)}"
        yield f"  {share:>18}  {sentence(finding)}{'' if finding.certain else ' (likely)'}"
        if finding.servers:
            yield f"  {'':>18}  to {', '.join(finding.servers)}; for example {finding.handshakes[0]}"
    if one.findings:
        yield ""
    each = f"{count(one.seen[0])} and {count(one.seen[1])} in all"
    yield f"  {count(one.both)} {plural(one.both, 'handshake')} seen at both places ({each})"
    if one.translated:
        yield f"  {count(one.translated)} of these were joined over translated addresses or sequence numbers"
    if one.other_way:
        yield f"  {count(one.other_way)} of these went the other way, from the side of {far}"
    if one.missing:
        yield f"  {count(one.missing)} were seen at {near} only, though {far} watched their server meanwhile"
    if one.not_judged:
        yield f"  {count(one.not_judged)} were seen at one place only, and nothing is said of them"
    if one.hops is not None:
        yield f"  {one.hops or 'no'} {plural(one.hops, 'router')} in between, by the SYNs' TTL"
    yield from _times(one)
    if one.offset is not None:
        ahead, error = one.offset.ns, one.offset.error_ns
        sure = "roughly" if error is None else f"give or take {duration(error / 1000)}"
        which = f"{duration(abs(ahead) / 1000)} {'ahead of' if ahead > 0 else 'behind'}" if ahead else "the same as"
        yield f"  {far}'s clock is {which} {near}'s, {sure}"
    for doubt in one.doubts:
        yield f"  note: {doubt}"


def verdict(one: Comparison) -> str:
    """The most important finding, or that there is none."""
    if not one.both:
        return "nothing can be compared."
    if not one.findings:
        each = f"all {count(one.both)} handshakes" if one.both > 1 else "the handshake"
        return f"{each} arrived unchanged."
    worst = one.findings[0]
    more = len(one.findings) - 1
    return f"{sentence(worst)} ({count(worst.count)} of {count(worst.of)})" + (f", and {more} more." if more else ".")


def sentence(one: Finding) -> str:
    """What happened, without how often."""
    pieces = _PIECES[one.piece]
    where = "on the way to the server" if one.towards is Towards.SERVER else "on the way to the client"
    change = "was changed"
    if one.before is not None and one.after is not None:
        change = f"was changed from {one.before} to {one.after}"
    match one.what:
        case What.OPTION_STRIPPED:
            return f"{option_words(one.before)} was removed from {pieces}"
        case What.OPTION_ADDED:
            return f"{option_words(one.after)} was added to {pieces}"
        case What.OPTIONS_REORDERED:
            return f"the options of {pieces} were put in another order"
        case What.MSS_CHANGED:
            return f"the MSS of {pieces} {change}"
        case What.WSCALE_CHANGED:
            return f"the window scale of {pieces} {change}"
        case What.WINDOW_CHANGED:
            return f"the window of {pieces} {change}"
        case What.COOKIE_CHANGED:
            return f"the length of the Fast Open cookie in {pieces} {change}"
        case What.ECN_CHANGED:
            return f"ECN in {pieces} {change}"
        case What.PAYLOAD_STRIPPED:
            return f"data was cut out of {pieces}"
        case What.DATA_ADDED:
            return f"data was added to {pieces}"
        case What.TTL_RAISED:
            return f"the TTL of {pieces} was raised: something in between sends them anew"
        case What.ISN_CHANGED:
            return f"the initial sequence number of {pieces} was rewritten"
        case What.CLIENT_TRANSLATED:
            return f"the client's address {change}"
        case What.SERVER_TRANSLATED:
            return f"the server's address {change}"
        case What.ANSWERED_ON_PATH:
            return "the SYN-ACK came from something in between, not from the server"
        case What.REFUSED:
            return f"{pieces} came from something in between, {where}"
        case What.LOST:
            return f"{_LOST.get(one.before or '', pieces)} were lost {where}"


def _times(one: Comparison) -> Iterator[str]:
    if one.times is None:
        return
    parts = [
        (share, name)
        for share, name in (
            (one.times.before, "at the clients' side"), (one.times.between, "between both"),
            (one.times.beyond, "at the servers' side"),
        )
        if share is not None
    ]  # fmt: skip
    told = ", ".join(f"{duration(share.median_us)} {name}" for share, name in parts)
    if one.times.between is not None:
        yield f"  of the round trip (medians of {count(one.times.between.samples)}): {told}"
