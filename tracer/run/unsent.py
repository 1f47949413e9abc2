"""Handshakes whose SYN the kernel dropped before a hook saw it: this host's own firewall, a neighbour that is silent.

The kernel's words on these SYNs are all that there is, so user space makes the records: `interface` null, hook
`kernel`. A handshake whose SYN was seen after all has a record of its own, which takes over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from tracer.dissect import options as opt
from tracer.handshake.events import U64, Bool, Events
from tracer.handshake.vantage import LocalHistory
from tracer.ipc.event_header import constant, struct
from tracer.ipc.layout import to_dtype
from tracer.ipc.messages import FlowQuestion, OpenAnswer, OpenQuestion
from tracer.linux.patience import FACTOR
from tracer.vocabulary.vocabulary import HandshakeResult, Has, SettleReason

OPEN_MAX = 4096  # a flood of this host's own SYNs must not fill the memory
ASKED_MAX = 512
NO_ANSWER_NS = 3_500_000_000  # after the last SYN, as in the kernel (bpf/fit.h)
EARLY_NS, RETRANSMITTED_NS = 800_000_000, 1_000_000_000  # after a SYN
AGAIN_NS = int(500_000_000 * FACTOR)  # ask again, where the answer was yes, or did not come
_GAPS_NUMERATOR, _GAPS_DENOMINATOR = 5, 2  # and 2.5 times the last gap
_SEEN_SLOTS = 1 << 14
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_FAR_NS = 1 << 62
_WENT_ON = -1  # OpenAnswer.syns
_COUNT_MAX = 255
_EVENT = to_dtype(struct("handshake_event"))
_RETX_MAX, _NO_OFFSET = constant("RETX_MAX"), constant("NO_OFFSET")
_EXID = opt.TFO_MAGIC.to_bytes(2, "big")
_COOKIE_LENGTHS = (0, *range(4, 17, 2))
_SIZED = {
    opt.MSS: (4, Has.MSS), opt.WSCALE: (3, Has.WSCALE), opt.SACK_PERMITTED: (2, Has.SACK),
    opt.TIMESTAMPS: (10, Has.TIMESTAMPS), opt.MD5: (18, Has.MD5),
}  # fmt: skip
_AT_LEAST = {opt.AO: (4, Has.AO), opt.MPTCP: (3, Has.MPTCP)}


@dataclass(slots=True)
class _Open:
    """A handshake whose SYNs were dropped."""

    first: Events  # struct drop_event, one row, like `last`
    last: Events
    last_ns: int
    due_ns: int
    wait_ns: int
    count: int = 1
    again: list[tuple[int, int, int]] = field(default_factory=list)  # of later SYNs: us after the first, TSval, flags
    is_early: bool = True  # the question whether the client gave up soon after its last SYN is still to come
    gave_up: bool = False
    is_unseen: bool = False  # no hook has seen a later SYN
    is_whole: bool = False  # nor did one leave by an interface that is not traced


@dataclass(frozen=True, slots=True)
class Unsent:
    """Settled handshakes, and the kernel's last word on each one's SYN (struct drop_event).

    `whole`: the client sent no other SYN.
    """

    events: Events
    words: Events
    whole: Bool


@dataclass(slots=True)
class UnsentSyns:
    """The handshakes of which no hook has seen anything. Times are CLOCK_MONOTONIC.

    `netns`: inode number of the traced namespace. `send` asks the root part; False: it does not read now.
    """

    netns: int
    send: Callable[[OpenQuestion], bool]
    skipped: int = 0  # SYNs that found no room
    _open: dict[int, _Open] = field(default_factory=dict)
    _seen: U64 = field(default_factory=lambda: np.zeros(_SEEN_SLOTS, np.uint64))  # ids of records that there are
    _next_ns: int = _FAR_NS  # nothing is due before
    _asked: list[int] = field(default_factory=list)
    _asked_ns: int = 0
    _number: int = 0

    def seen(self, events: Events) -> None:
        """Note the records that came by a hook: they take over."""
        outward = events["egress"] != 0
        if not outward.any():
            return
        ids = events["id"][outward]
        self._note(ids)
        for number in self._open.keys() & set(ids.tolist()) if self._open else ():
            del self._open[number]

    def _note(self, ids: U64) -> None:
        self._seen[ids % np.uint64(_SEEN_SLOTS)] = ids

    def note(self, drops: Events, local: LocalHistory) -> None:
        """Take what the kernel said."""
        meant = (drops["tag"] != 0) & (drops["netns"] == self.netns)
        if not meant.any():
            return
        drops = drops[meant]
        drops = drops[local.contains(np.ascontiguousarray(drops["src"]))]
        ids = handshake_ids(drops)
        known = self._seen[ids % np.uint64(_SEEN_SLOTS)] == ids
        for row in np.flatnonzero(~known).tolist():
            self._add(int(ids[row]), drops[row : row + 1])

    def _add(self, number: int, drop: Events) -> None:
        now_ns, stamp = int(drop["now_ns"][0]), _ts_val(drop)
        found = self._open.get(number)
        if found is None:
            if len(self._open) >= OPEN_MAX:
                self.skipped += 1
                return
            found = self._open[number] = _Open(drop.copy(), drop.copy(), now_ns, now_ns + EARLY_NS, NO_ANSWER_NS)
        else:
            gap_ns = max(0, now_ns - found.last_ns)
            found.count += 1
            found.last, found.last_ns = drop.copy(), now_ns
            found.wait_ns = max(NO_ANSWER_NS, gap_ns * _GAPS_NUMERATOR // _GAPS_DENOMINATOR)
            found.due_ns = now_ns + EARLY_NS
            found.is_early, found.gave_up, found.is_unseen = True, False, False
            if len(found.again) < _RETX_MAX:
                after_us = (now_ns - int(found.first["now_ns"][0])) // 1000
                found.again.append((min(after_us, 0xFFFFFFFF), stamp, _retx_flags(int(drop["tcp_flags"][0]))))
        self._next_ns = min(self._next_ns, found.due_ns)

    # --- settling ---

    def settle(self, now_ns: int) -> Unsent | None:
        """Those that are due and whose SYN no hook has seen; call it when all records so far went through seen()."""
        if now_ns < self._next_ns:
            return None
        due = [number for number, one in self._open.items() if one.due_ns <= now_ns]
        done = [number for number in due if self._open[number].is_unseen]
        asked = [number for number in due if not self._open[number].is_unseen][:ASKED_MAX]
        if asked and (not self._asked or now_ns > self._asked_ns + AGAIN_NS):
            words = [self._open[number].last for number in asked]
            question = OpenQuestion(
                self._number + 1, [(int(one["set"][0]), int(one["tag"][0])) for one in words], [*map(_flow, words)]
            )
            if self.send(question):
                self._number += 1
                self._asked, self._asked_ns = asked, now_ns
        settled = self._take(done, SettleReason.BY_TIMEOUT, now_ns)
        self._next_ns = min((one.due_ns for one in self._open.values()), default=_FAR_NS)
        return settled

    def answered(self, answer: OpenAnswer, now_ns: int) -> None:
        """Take what the root part says of the pending table: with a later SYN there, its record is still to come."""
        if answer.number != self._number:
            return
        for number, is_open, syns in zip(self._asked, answer.are_open, answer.syns, strict=False):
            found = self._open.get(number)
            if found is None or found.due_ns > now_ns:  # a SYN came meanwhile
                continue
            if syns == _WENT_ON:  # by an interface that is not traced
                del self._open[number]
                self._note(np.array([number], np.uint64))
                continue
            if found.is_early:
                found.is_early, found.gave_up = False, syns == 0 and now_ns < found.last_ns + RETRANSMITTED_NS
                found.due_ns = found.last_ns + found.wait_ns
            else:
                found.is_unseen = not is_open
                found.is_whole = found.gave_up or (bool(syns) and found.count >= (syns or 0))
                found.due_ns = now_ns + AGAIN_NS if is_open else now_ns
            self._next_ns = min(self._next_ns, found.due_ns)
        self._asked = []

    def close(self, now_ns: int) -> Unsent | None:
        """All that are left: at the end the records of the others are there."""
        return self._take(list(self._open), SettleReason.AT_END, now_ns)

    def _take(self, numbers: list[int], reason: SettleReason, now_ns: int) -> Unsent | None:
        if not numbers:
            return None
        ones = [self._open.pop(number) for number in numbers]
        ids = np.array(numbers, np.uint64)
        self._note(ids)
        events = _events(ids, ones)
        events["reason"], events["settled_ns"] = reason, now_ns
        whole = np.array([one.is_whole or one.gave_up for one in ones], np.bool_)
        return Unsent(events, np.concatenate([one.last for one in ones]), whole)


def handshake_ids(drops: Events) -> U64:
    """The records' ids, as in bpf/flow.h."""
    found = np.full(len(drops), 0x9E3779B97F4A7C15, np.uint64)
    src, dst = (np.ascontiguousarray(drops[name]).view(np.uint64) for name in ("src", "dst"))
    ports = drops["src_port"].astype(np.uint64) << np.uint64(16) | drops["dst_port"]
    for word in (src[:, 0], src[:, 1], dst[:, 0], dst[:, 1], ports, drops["seq"].astype(np.uint64)):
        found = (found ^ word) * np.uint64(0xFF51AFD7ED558CCD)
        found ^= found >> np.uint64(32)
    return found


def _events(ids: U64, ones: list[_Open]) -> Events:
    events = np.zeros(len(ones), _EVENT)
    first = np.concatenate([one.first for one in ones])
    for name, of_drop in (
        ("syn_ns", "now_ns"), ("client", "src"), ("server", "dst"), ("client_port", "src_port"),
        ("server_port", "dst_port"), ("family", "family"),
    ):  # fmt: skip
        events[name] = first[of_drop]
    events["id"], events["egress"], events["result"] = ids, 1, HandshakeResult.NO_REPLY
    events["syn_count"] = [min(one.count, _COUNT_MAX) for one in ones]
    events["retx_count"] = [len(one.again) for one in ones]
    syn = events["syn"]
    for name in ("seq", "ack", "payload_len", "window", "tcp_flags", "ttl", "tos", "quirks", "ip_header_extra"):
        syn[name] = first[name]
    syn["options"], syn["options_len"] = first["options"], first["options_len"]
    for row, one in enumerate(ones):
        for name, value in _option_facts(_options(one.first)).items():
            syn[name][row] = value
        for place, (after_us, stamp, flags) in enumerate(one.again):
            events["retx"]["after_us"][row, place], events["retx"]["ts_val"][row, place] = after_us, stamp
            events["retx_flags"][row, place] = flags
    return events


def _flow(drop: Events) -> FlowQuestion:
    return FlowQuestion(
        drop["src"][0].tobytes(), drop["dst"][0].tobytes(), int(drop["src_port"][0]), int(drop["dst_port"][0])
    )


def _options(drop: Events) -> bytes:
    found: bytes = drop["options"][0, : int(drop["options_len"][0])].tobytes()
    return found


def _ts_val(drop: Events) -> int:
    return _option_facts(_options(drop)).get("ts_val", 0)


def _retx_flags(tcp_flags: int) -> int:
    """ECE and CWR, and AE as bit 0 (struct handshake_event)."""
    return tcp_flags & 0xC0 | tcp_flags >> 8 & 1


def _option_facts(options: bytes) -> dict[str, int]:
    """What struct segment_facts has of the options, as parse_options() in bpf/parse_tcp.h takes it."""
    found, end = opt.walk(options)
    has = int(Has.SEGMENT)
    if end < len(options) and not (found and found[-1].kind == opt.EOL):
        has |= Has.BAD_OPTIONS
    facts = {"ts_offset": _NO_OFFSET, "tfo_offset": _NO_OFFSET}
    for kind, offset, value in _values(options, found):
        size = len(value) + 2
        exact, least = _SIZED.get(kind), _AT_LEAST.get(kind)
        if exact is not None and size == exact[0]:
            has |= exact[1]
            if kind == opt.MSS:
                facts["mss"] = int.from_bytes(value, "big")
            elif kind == opt.WSCALE:
                facts["wscale"] = value[0]
            elif kind == opt.TIMESTAMPS:
                facts["ts_val"], facts["ts_ecr"] = int.from_bytes(value[:4], "big"), int.from_bytes(value[4:], "big")
                facts["ts_offset"] = offset + 2
        elif least is not None and size >= least[0]:
            has |= least[1]
        elif kind == opt.TFO or (kind in opt.EXPERIMENTS and value[:2] == _EXID):
            magic = 0 if kind == opt.TFO else len(_EXID)
            if len(value) - magic in _COOKIE_LENGTHS:
                has |= Has.TFO
                facts |= {"tfo_kind": kind, "tfo_offset": offset + 2 + magic, "cookie_len": len(value) - magic}
            else:
                has |= Has.TFO_MALFORMED
    return {**facts, "has": has}


def _values(options: bytes, found: list[opt.Option]) -> Iterator[tuple[int, int, bytes]]:
    for one in found:
        if one.length > 1:
            yield one.kind, one.offset, options[one.offset + 2 : one.offset + one.length]
