"""The same handshake seen at two interfaces: was the Fast Open option or the data gone at the second?

A router with two traced interfaces sees each handshake twice, with the same id. With a single interface this costs
nothing. A group (eth0+eth1) gives only one record, so there is nothing to compare.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracer.causes.slot_table import SlotTable
from tracer.handshake.events import U64, Bool, Events, Indexes, has
from tracer.handshake.outcome import first_answers
from tracer.vocabulary.vocabulary import Has

REMEMBERED = 1 << 14
CROSSING_NS = np.uint64(200_000_000)  # within a router; Linux sends nothing again so soon
_FACTS = ("syn_ns", "ifindex", "again_ns", "answer_ns", "synacks", "flags")
_NEVER = np.uint64(np.iinfo(np.uint64).max)
_OPTION, _DATA, _OPTION_BACK, _ANSWERED = 1, 2, 4, 8
_SCRAMBLE = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is compared, one row per record.

    `again_ns`: when the SYN was sent again; `answer_ns`: when the first SYN-ACK came; the maximum if it never was.
    """

    syn_ns: U64
    ifindex: U64
    again_ns: U64
    answer_ns: U64
    synacks: U64  # how many there were
    flags: U64

    def rows(self, rows: Indexes) -> _Seen:
        return _Seen(*(getattr(self, name)[rows] for name in _FACTS))


class BothEnds:
    """Memory of the latest records by id."""

    def __init__(self) -> None:
        self._ids = SlotTable(REMEMBERED, *_FACTS)
        self._interface: int | None = None
        self.several = False  # more than one interface is traced; also detected, after the first handshakes

    def compare(self, events: Events) -> tuple[Bool, Bool]:
        """Which handshakes lost the option, and which only their data, between two interfaces?"""
        nothing = np.zeros(len(events), np.bool_)
        if not len(events) or not self._is_several(events):
            return nothing, nothing
        seen = _seen(events)
        # an odd multiplier spreads ids over the slots, however they were made
        keys = events["id"] * _SCRAMBLE
        option, data = nothing.copy(), nothing.copy()
        slots, known = self._ids.find(keys)
        there = np.flatnonzero(known)
        if len(there):
            partner = _Seen(*(self._ids[name][slots[there]] for name in _FACTS))
            option[there], data[there] = _lost(seen.rows(there), partner)
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
        if len(same):
            one, other = order[same], order[same + 1]
            lost_option, lost_data = _lost(seen.rows(one), seen.rows(other))
            for rows in (one, other):
                option[rows] |= lost_option
                data[rows] |= lost_data
        slots, own = self._ids.claim(keys)
        for name in _FACTS:
            self._ids[name][slots[own]] = getattr(seen, name)[own]
        return option, data & ~option

    def _is_several(self, events: Events) -> bool:
        if not self.several:
            lowest, highest = int(events["ifindex"].min()), int(events["ifindex"].max())
            self.several = lowest != highest or self._interface not in (None, lowest)
            self._interface = lowest
        return self.several


def _seen(events: Events) -> _Seen:
    syn, answers = events["syn"], first_answers(events)
    option, answered = has(syn["has"], Has.TFO), has(answers.has, Has.SEGMENT)
    flags = (
        option * _OPTION
        + (syn["payload_len"] > 0) * _DATA
        + (option & has(answers.has, Has.TFO)) * _OPTION_BACK
        + answered * _ANSWERED
    )
    again = events["syn_ns"] + events["retx"]["after_us"][:, 0].astype(np.uint64) * np.uint64(1000)
    return _Seen(
        events["syn_ns"],
        events["ifindex"].astype(np.uint64),
        np.where(events["retx_count"] > 0, again, _NEVER),
        np.where(answered, answers.ns, _NEVER),
        events["synack_count"].astype(np.uint64),
        flags.astype(np.uint64),
    )


def _lost(one: _Seen, other: _Seen) -> tuple[Bool, Bool]:
    """Did the option, or the data, get lost between the nearer and the farther interface of each pair?"""
    first_is_near = one.syn_ns <= other.syn_ns

    def near(name: str) -> U64:
        found: U64 = np.where(first_is_near, getattr(one, name), getattr(other, name))
        return found

    def far(name: str) -> U64:
        found: U64 = np.where(first_is_near, getattr(other, name), getattr(one, name))
        return found

    # A bare SYN at the farther interface may be the retransmission, perhaps the first that was seen there. One that
    # left only after the client had its SYN-ACK is another host's: a SYN proxy on the router goes on with the client's
    # number.
    left_ns = far("syn_ns")
    same_syn = (left_ns < near("again_ns")) & (left_ns < near("answer_ns")) & (one.ifindex != other.ifindex)
    same_syn &= left_ns < near("syn_ns") + CROSSING_NS
    before, behind = near("flags").astype(np.int64), far("flags").astype(np.int64)
    gone = before & ~behind
    # the SYN-ACK comes from the farther interface towards the client
    came = (before & _OPTION != 0) & (behind & _OPTION != 0) & (before & _ANSWERED != 0)
    # it may have been lost in between, and Linux repeats it without the option
    same_synack = (near("synacks") == far("synacks")) & (near("answer_ns") >= far("answer_ns"))
    same_synack &= near("answer_ns") - far("answer_ns") < CROSSING_NS
    gone_back = came & same_synack & (behind & ~before & _OPTION_BACK != 0)
    return same_syn & ((gone & _OPTION != 0) | gone_back), same_syn & (gone & _DATA != 0)
