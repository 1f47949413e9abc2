"""Which segments belong to which handshake, and when each is settled (DESIGN.md section 4), written a second time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from scripts.fidelity.segments import ACK, FIN, RST, SYN, End, Segment

MS = 1_000_000
NO_ANSWER_NS = 3500 * MS
TOMBSTONE_NS = 3000 * MS
RESPONSE_NS = 5000 * MS
SWEEP_NS = 300 * MS  # a record is settled up to a sweep later than its deadline
COPY_NS = 10 * MS
COPY_UNNUMBERED_NS = 1 * MS
ELSEWHERE_NS = 100 * MS  # the same segment at another interface
EARLY_NS = 10 * MS  # a SYN-ACK seen before its SYN
WINDOW_MAX = 65535
ISNS_MAX = 2  # initial numbers of SYN-ACKs that a record keeps
RETX_MAX = 6  # later SYNs that a record keeps
FAR = 1 << 20  # numbers further off belong to another connection
NEVER_SETTLE = {(3, 4), (2, 0)}  # fragmentation needed, packet too big
ERRORS = {3, 11, 12, 1, 2, 4}
LIVE_MAX = 2

OPENING, ANSWERED, ESTABLISHED, TOMBSTONE, GONE = range(5)


def ahead(number: int, base: int) -> int:
    """How far `number` is ahead of `base`, modulo 2^32."""
    return (number - base) % 2**32


@dataclass(slots=True)
class Entry:
    """One handshake while it is followed, and when it is settled what its record must say."""

    client: End
    server: End
    vlan: tuple[int, ...]
    syn: Segment
    state: int = OPENING
    deadline_ns: int = 0
    syns: list[Segment] = field(default_factory=list)
    synacks: list[Segment] = field(default_factory=list)
    taken: Segment | None = None  # the SYN-ACK that the client's ACK took
    ack: Segment | None = None
    request: Segment | None = None
    request_repeats: int = 0
    asked_came: bool = False  # the byte that the SYN-ACK asks for
    request_acked: bool = False
    response: Segment | None = None
    late_syns: int = 0
    synacks_after_ack: int = 0
    copies: int = 0
    misfit_rsts: int = 0
    misfit_synacks: int = 0
    misfit_icmps: int = 0
    challenge_acks: int = 0
    client_fin: bool = False
    server_fin: Segment | None = None
    one_way: bool = False
    simultaneous: bool = False
    crossing: Segment | None = None  # the SYN of the server's end
    result: str = ""
    reason: str = ""
    reset: Segment | None = None
    icmp: tuple[int, int] | None = None
    settled_ns: int = 0
    resumed: str | None = None
    retried: bool = False  # as a tombstone: another SYN or the client's own ACK came
    notes: set[str] = field(default_factory=set)

    @property
    def isn(self) -> int:
        """The client's."""
        return self.syn.seq

    @property
    def attempt(self) -> bool:
        """Is this Fast Open: an option that is well-formed, or data in the SYN?"""
        return self.syn.length > 0 or self.syn.options.tfo_kind is not None

    @property
    def synack(self) -> Segment | None:
        """The one that counts."""
        return self.taken or (self.synacks[0] if self.synacks else None)

    @property
    def live(self) -> bool:
        """Is its record still to come?"""
        return self.state in (OPENING, ANSWERED, ESTABLISHED)

    def server_base(self) -> int | None:
        """The server's first byte, as far as it is known."""
        if self.synack is not None:
            return (self.synack.seq + 1) % 2**32
        if self.crossing is not None:
            return (self.crossing.seq + 1) % 2**32
        if self.one_way and self.ack is not None:
            return self.ack.ack
        return None

    def asked(self) -> int:
        """The client's byte that the SYN-ACK asks for."""
        return self.synack.ack if self.synack is not None else (self.isn + 1) % 2**32

    # --- which segments fit ---

    def fits(self, one: Segment) -> bool:
        """Do the numbers of a segment that is no first SYN fit?"""
        from_client = one.src == self.client
        if one.icmp is not None:
            return from_client and one.seq == self.isn
        if one.has(SYN | ACK):
            if from_client:
                return self.simultaneous and one.seq == self.isn
            return self.takes_ack(one.ack)
        if from_client:
            return self.client_fits(one)
        return self.server_fits(one)

    def takes_ack(self, ack: int) -> bool:
        """Can a SYN-ACK with this acknowledgment answer the SYN?"""
        return ahead(ack, self.isn + 1) <= (self.syn.length + 65535 if self.attempt else 0)

    def client_fits(self, one: Segment) -> bool:
        """Of the client, not a SYN."""
        offset = ahead(one.seq, self.isn)
        if one.has(RST):
            if self.state == ESTABLISHED:
                return 1 <= offset <= FAR
            reach = max([self.syn.length, *(ahead(each.ack, self.isn + 1) for each in self.synacks)])
            return 1 <= offset <= 1 + reach
        reach = FAR if self.state == ESTABLISHED else self.syn.length + WINDOW_MAX + 1
        return one.has(ACK) and 1 <= offset <= reach and (not self.synacks or bool(self.acked_by(one)))

    def acked_by(self, one: Segment) -> list[Segment]:
        """The SYN-ACKs that a segment of the client may ack, the nearest first."""
        reach = FAR if self.state == ESTABLISHED else WINDOW_MAX + 2  # what a server may have sent by then, and a FIN
        found = [each for each in self.synacks if 1 <= ahead(one.ack, each.seq) <= reach]
        return sorted(found, key=lambda each: ahead(one.ack, each.seq))

    def server_fits(self, one: Segment) -> bool:
        """Of the server, not a SYN-ACK."""
        if one.has(RST) and not self.synacks and not self.one_way:
            return one.has(ACK) and ahead(one.ack, self.isn + 1) <= self.syn.length
        base = self.server_base()
        if base is None:
            return one.has(ACK) and not one.has(RST)
        if one.has(RST):
            if self.state == ESTABLISHED:
                return one.seq == base
            return any(one.seq == (each.seq + 1) % 2**32 for each in self.synacks)
        return any(ahead(one.seq, each.seq) <= FAR for each in self.synacks) or ahead(one.seq, base) <= FAR


@dataclass(slots=True)
class _Seen:
    segment: Segment
    entry: Entry | None


class Pairing:
    """Feeds segments in the order of their times; `finish` gives the handshakes."""

    def __init__(self) -> None:
        self.settled: list[Entry] = []
        self._entries: dict[frozenset[End], list[Entry]] = defaultdict(list)
        self._recent: dict[frozenset[End], list[_Seen]] = defaultdict(list)
        self._early: dict[frozenset[End], list[Segment]] = defaultdict(list)  # SYN-ACKs before their SYN
        self._given_up: set[tuple[End, End, int]] = set()

    def feed(self, segments: Iterable[Segment]) -> None:
        """Take these."""
        for one in segments:
            key = frozenset((one.src, one.dst))
            if one.icmp is None and one.flags & (SYN | ACK) == SYN and one.flags & (RST | FIN):
                continue
            if one.flags & SYN and not one.whole and one.icmp is None:
                for each in self._entries.get(key, ()):
                    each.notes.add("headers_cut")
                continue
            is_syn = one.flags & (SYN | ACK | RST) == SYN and one.icmp is None
            entries = self._entries.get(key, [])
            self._expire(entries, one.at_ns)
            if one.icmp is None and one.has(SYN | ACK) and not any(each.fits(one) for each in entries):
                self._early[key] = [*self._early[key], one][-4:]
            if not entries and not is_syn:
                continue
            seen = self._copy_of(key, one)
            if seen is not None:
                if seen.segment.place == one.place and seen.entry is not None and counts_as_copy(seen.entry, one):
                    seen.entry.copies += 1
                continue
            entry: Entry | None = self._syn(entries, one) if is_syn else self._other(entries, one)
            if is_syn and entry is not None and entry.syn is one:
                self._join_early(key, entry)
            if one.icmp is None:
                self._recent[key].append(_Seen(one, entry))
            self._entries[key] = [each for each in entries if each.state != GONE]

    def finish(self, last_ns: int) -> list[Entry]:
        """Settle what is still open at the capture's last packet; all handshakes in the order of their first SYNs."""
        for entries in self._entries.values():
            self._expire(entries, last_ns)
            for each in entries:
                if each.live:
                    self._settle(each, last_ns, "at_end")
        self.settled.sort(key=lambda each: (each.syn.at_ns, each.settled_ns))
        return self.settled

    def _expire(self, entries: list[Entry], now_ns: int) -> None:
        for each in entries:
            if each.state == GONE or now_ns < each.deadline_ns:
                continue
            if now_ns < each.deadline_ns + SWEEP_NS:
                each.notes.add("at_deadline")
            if each.live:
                self._settle(each, each.deadline_ns, "timeout")
            if each.state == TOMBSTONE and now_ns >= each.deadline_ns:
                each.state = GONE

    # --- copies ---

    def _copy_of(self, key: frozenset[End], one: Segment) -> _Seen | None:
        if one.icmp is not None:
            return None
        recent = self._recent[key]
        while recent and one.at_ns - recent[0].segment.at_ns > ELSEWHERE_NS:
            recent.pop(0)
        for seen in reversed(recent):
            if same_numbers(seen.segment, one):
                gap = one.at_ns - seen.segment.at_ns
                if seen.segment.place != one.place or is_copy(seen.segment, one, gap):
                    return seen
        return None

    # --- SYNs ---

    def _syn(self, entries: list[Entry], one: Segment) -> Entry:
        same = [
            each for each in entries if each.client == one.src and each.isn == one.seq and each.vlan == one.vlan
            and each.state != GONE
        ]  # fmt: skip
        if same:
            self._syn_again(same[-1], one)
            return same[-1]
        for each in entries:
            if each.server == one.src and each.client == one.dst and each.state == OPENING:
                each.simultaneous = True
                each.crossing = one
                each.notes.add("crossing_syn")
                each.deadline_ns = one.at_ns + NO_ANSWER_NS
                return each
        live = [each for each in entries if each.live and each.vlan == one.vlan]
        if len(live) >= LIVE_MAX:
            answered = [each for each in live if each.state != OPENING]
            kept = answered[0] if answered else live[0]
            for each in live:
                if each is not kept:
                    each.notes.add("displaced")
                    self._settle(each, one.at_ns, "new_syn")
        opened = Entry(one.src, one.dst, one.vlan, one, syns=[one], deadline_ns=one.at_ns + NO_ANSWER_NS)
        opened.simultaneous = one.src == one.dst
        if (one.src, one.dst, one.seq) in self._given_up:
            opened.notes.add("given_up_before")
        entries.append(opened)
        return opened

    def _syn_again(self, entry: Entry, one: Segment) -> None:
        gap = one.at_ns - entry.syns[-1].at_ns
        entry.syns.append(one)
        if len(entry.syns) > RETX_MAX + 1:
            entry.notes.add("many_syns")
        if entry.state == TOMBSTONE:
            entry.retried = True
            entry.deadline_ns = one.at_ns + max(TOMBSTONE_NS, gap * 5 // 2)
            return
        if entry.synacks:
            entry.late_syns += 1
        if entry.state != ESTABLISHED:
            entry.deadline_ns = one.at_ns + max(NO_ANSWER_NS, gap * 5 // 2)

    def _join_early(self, key: frozenset[End], entry: Entry) -> None:
        for one in self._early.pop(key, []):
            if one.src == entry.server and entry.syn.at_ns - one.at_ns <= EARLY_NS and entry.takes_ack(one.ack):
                entry.notes.add("reordered")
                self._synack(entry, one)

    # --- everything else ---

    def _other(self, entries: list[Entry], one: Segment) -> Entry | None:
        here = [
            each for each in entries
            if each.state != GONE and {one.src, one.dst} == {each.client, each.server}
            and (one.icmp is None or one.src == each.client)
        ]  # fmt: skip
        if not here:
            return None
        # same tag before same numbers alone, numbers that are known before any; the newest first
        here.sort(
            key=lambda each: (
                each.vlan != one.vlan, each.state == TOMBSTONE,
                one.src == each.server and each.server_base() is None, -each.syn.at_ns,
            )
        )  # fmt: skip
        fitting = [each for each in here if each.fits(one) and (each.vlan == one.vlan or not guesses(each, one))]
        if not fitting:
            live = [each for each in here if each.live]
            if live:
                self._misfit(live[0], one)
            return None
        entry = fitting[0]
        if entry.state == TOMBSTONE:
            return self._after_the_end(entries, entry, one)
        if one.icmp is not None:
            self._icmp(entry, one)
        elif one.has(RST):
            self._rst(entry, one)
        elif one.has(SYN | ACK):
            self._synack(entry, one)
        elif one.src == entry.client:
            self._from_client(entry, one)
        else:
            self._from_server(entry, one)
        return entry

    def _misfit(self, entry: Entry, one: Segment) -> None:
        if one.icmp is not None:
            if not entry.synacks and is_error(one.icmp):
                entry.misfit_icmps += 1
        elif one.has(RST):
            if one.src == entry.server or entry.state != OPENING:  # the client answers a challenge ACK with one
                entry.misfit_rsts += 1
        elif one.has(SYN | ACK) and one.src == entry.server:
            entry.misfit_synacks += 1

    def _after_the_end(self, entries: list[Entry], entry: Entry, one: Segment) -> Entry:
        """A segment for a tombstone: only a SYN-ACK that fits takes the handshake up again."""
        if not one.has(SYN | ACK) or one.icmp is not None:
            if one.src == entry.client and one.has(ACK) and not one.has(RST) and one.icmp is None:
                entry.retried = True
            return entry
        if one.src != entry.server or (entry.result == "aborted" and not entry.retried):
            return entry
        again = Entry(entry.client, entry.server, entry.vlan, entry.syn, syns=list(entry.syns), resumed=entry.result)
        again.notes.add("resumed")
        entry.state = GONE
        entries.append(again)
        self._synack(again, one)
        return again

    def _icmp(self, entry: Entry, one: Segment) -> None:
        assert one.icmp is not None
        if entry.synacks or one.icmp in NEVER_SETTLE or not is_error(one.icmp) or entry.state != OPENING:
            return
        entry.icmp = one.icmp
        self._settle(entry, one.at_ns, "icmp")

    def _rst(self, entry: Entry, one: Segment) -> None:
        entry.reset = one
        self._settle(entry, one.at_ns, "rst")

    def _synack(self, entry: Entry, one: Segment) -> None:
        if one.src == entry.client:
            entry.notes.add("crossing_syn")
            if entry.ack is None:
                entry.ack = one
            if entry.synacks:
                self._settle(entry, one.at_ns, "ack")
            return
        gap = one.at_ns - entry.synacks[-1].at_ns if entry.synacks else 0
        entry.synacks.append(one)
        if len({each.seq for each in entry.synacks}) > ISNS_MAX:
            entry.notes.add("many_isns")
        if entry.one_way and entry.ack is not None and ahead(entry.ack.ack, one.seq) == 1:
            entry.one_way = False  # it was only seen after its ACK
            entry.taken = one
            entry.notes.add("reordered")
        if entry.state == ESTABLISHED:
            if entry.taken is not None and one.seq == entry.taken.seq and one is not entry.taken:
                entry.synacks_after_ack += 1
                entry.notes.add("synack_again")
            return
        entry.state = ANSWERED
        entry.deadline_ns = one.at_ns + max(NO_ANSWER_NS, gap * 5 // 2)
        if one.length and entry.response is None:
            entry.response = one
        if entry.simultaneous and entry.ack is not None:
            self._settle(entry, one.at_ns, "ack")

    def _from_client(self, entry: Entry, one: Segment) -> None:
        entry.client_fin |= one.has(FIN)
        if entry.ack is None:
            entry.ack = one
            taken = entry.acked_by(one)
            if taken:
                entry.taken = next(each for each in entry.synacks if each.seq == taken[0].seq)
            else:
                entry.one_way = True
            entry.state = ESTABLISHED
            entry.deadline_ns = one.at_ns + RESPONSE_NS
        self._request(entry, one)
        if entry.response is not None:
            self._settle(entry, one.at_ns, "response")
        elif entry.server_fin is not None:
            self._settle(entry, one.at_ns, "fin")

    def _request(self, entry: Entry, one: Segment) -> None:
        asked = entry.asked()
        if not one.length or ahead(one.end, asked) - 1 > FAR or one.end == asked:
            return
        if entry.request is None:
            entry.request = one
        if ahead(asked, one.seq) < one.length:
            entry.request_repeats += entry.asked_came
            entry.asked_came = True

    def _from_server(self, entry: Entry, one: Segment) -> None:
        base = entry.server_base()
        if base is None:
            if not one.length and not one.has(FIN) and ahead(one.ack, entry.isn + 1) > entry.syn.length:
                entry.challenge_acks += 1
            return
        if one.has(ACK) and 1 <= ahead(one.ack, entry.asked()) <= FAR:
            entry.request_acked = True
        if one.length and ahead(base, one.seq) < one.length and entry.response is None:
            entry.response = one
        if one.has(FIN):
            entry.server_fin = one
            if one.seq != base and entry.response is None:
                entry.notes.add("fin_behind_a_gap")
        if entry.ack is None:
            return
        if entry.crossing is not None and one.ack == (entry.isn + 1) % 2**32:
            self._settle(entry, one.at_ns, "ack")  # it acks the client's SYN-ACK
            return
        if entry.response is not None:
            self._settle(entry, one.at_ns, "response")
        elif one.has(FIN):
            self._settle(entry, one.at_ns, "fin")

    # --- the end ---

    def _settle(self, entry: Entry, now_ns: int, reason: str) -> None:
        entry.reason, entry.settled_ns = reason, now_ns
        entry.result = _result(entry)
        self.settled.append(replace(entry, syns=list(entry.syns), synacks=list(entry.synacks)))
        entry.state = GONE
        if entry.result in ("rejected", "unreachable", "aborted", "no_reply") and reason != "new_syn":
            gap = entry.syns[-1].at_ns - entry.syns[-2].at_ns if len(entry.syns) > 1 else 0
            entry.state = TOMBSTONE
            self._given_up.add((entry.client, entry.server, entry.isn))
            entry.deadline_ns = now_ns + max(TOMBSTONE_NS, gap * 5 // 2)


def guesses(entry: Entry, one: Segment) -> bool:
    """Would an ordinary segment be the first that is seen of the server's numbers?"""
    return entry.server_base() is None and one.icmp is None and not one.has(RST) and not one.has(SYN | ACK)


def _result(entry: Entry) -> str:
    if entry.icmp is not None:
        return "unreachable"
    if entry.simultaneous and entry.ack is not None and (entry.synacks or entry.reason == "ack"):
        return "simultaneous_open"
    if entry.state == ESTABLISHED:
        return "established"
    if entry.reset is not None:
        return "aborted" if entry.synacks else "rejected"
    if entry.synacks:
        return "half_open"
    return "syn_on_established" if entry.challenge_acks else "no_reply"


def is_error(icmp: tuple[int, int]) -> bool:
    """Does this ICMP type report that a packet did not arrive?"""
    return icmp[0] in ERRORS


def same_numbers(a: Segment, b: Segment) -> bool:
    """May one be a copy of the other?"""
    return (
        a.src == b.src and a.dst == b.dst and a.vlan == b.vlan and a.flags == b.flags and a.seq == b.seq
        and a.ack == b.ack and a.length == b.length and a.raw_options == b.raw_options
    )  # fmt: skip


def counts_as_copy(entry: Entry, one: Segment) -> bool:
    """Is it told as a copy? A pure ACK that comes twice may be a duplicate ACK, except the one of the handshake."""
    pure = not one.length and not one.flags & (SYN | FIN | RST)
    return entry.live and (not pure or (entry.ack is not None and same_numbers(entry.ack, one)))


def is_copy(first: Segment, second: Segment, gap_ns: int) -> bool:
    """A mirrored segment: at the same place, soon enough for what tells it from a retransmission."""
    if first.options.ts_val is not None:
        return gap_ns <= COPY_NS
    if first.ip_id or second.ip_id:
        return first.ip_id == second.ip_id and gap_ns <= COPY_NS
    return gap_ns <= COPY_UNNUMBERED_NS
