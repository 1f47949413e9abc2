"""Reads a capture file and prepares its packets for the root part.

The programs know Ethernet and bare IP. Linux' cooked headers end like an Ethernet header, with the protocol: a packet
just begins later (v1), or its protocol is copied there (v2). Their interface and direction go into the packet's word
(root_part.py). Of a packet in a tunnel what is inside is handed over, with an Ethernet header if it has none.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from tracer.errors import UsageError
from tracer.handshake.events import Bool
from tracer.ipc.messages import Frames
from tracer.linux.libpcap import DUMP_HEADER, SNAPLEN_MAX, PcapError, link_name
from tracer.replay.input import PCAPNG, Input
from tracer.replay.numbers import Numbers, Seen
from tracer.replay.packets import HEAD, I64, NS_PER_S, Packets
from tracer.replay.pcap import Pcap, Slot
from tracer.replay.pcapng import Pcapng, PcapngError
from tracer.replay.peel import ETHERNET_LEN, IPV6, Headers, peel
from tracer.replay.root_part import (
    WIRE_LEN_MAX,
    WORD_EGRESS,
    WORD_SKIP_SHIFT,
    WORD_WIRE_SHIFT,
)
from tracer.replay.tunnels import Tunnels

_OUTGOING = 4  # packet type of cooked headers
_COOKED2_LEN = 20
IPV4_LEN, IPV6_LEN = 20, 40  # bytes


class Link(Enum):
    """How a packet of a link type begins."""

    ETHERNET = "Ethernet"
    IP = "an IP header"
    FAMILY = "an address family and an IP header"
    COOKED = "Linux' cooked header"
    COOKED2 = "Linux' cooked header, version 2"


# LINKTYPE_ and DLT_ numbers (pcap-linktype(7)); 12 is DLT_RAW. Libpcap does not pass on OpenBSD's, 14.
LINKS = {
    0: Link.FAMILY, 1: Link.ETHERNET, 12: Link.IP, 101: Link.IP, 108: Link.FAMILY, 113: Link.COOKED,
    228: Link.IP, 229: Link.IP, 276: Link.COOKED2,
}  # fmt: skip
_SKIPS = {Link.ETHERNET: 0, Link.IP: 0, Link.FAMILY: 4, Link.COOKED: 2, Link.COOKED2: 6}
_BARE = (Link.IP, Link.FAMILY)


@dataclass(slots=True)
class Feed:
    """Reads `source` into the slots, one after the other. `close` it at the end."""

    source: Input
    slots: tuple[int, ...]
    filter_needs_link: str | None = None  # why packets without a link header cannot be run, if they cannot
    packets: int = 0  # handed over so far
    begin_ns: int = 0  # the earliest time of a packet so far, since the epoch; 0 until one is read
    end_ns: int = 0  # likewise the latest
    at_end: bool = False
    damage: str | None = None  # why reading ended before the end of the file
    unread: Counter[int] = field(default_factory=Counter)  # packets by link types that are not read
    untold: int = 0  # packets in tunnels for which no number was left
    inside: int = 0  # bytes before what was in a tunnel, at most
    _reader: Pcap | Pcapng = field(init=False)
    _numbers: Numbers = field(default_factory=Numbers)
    _tunnels: Tunnels = field(default_factory=Tunnels)
    _links: list[Link | None] = field(default_factory=list)  # of the reader's interfaces
    _of_links: list[tuple[int, int]] = field(default_factory=list)  # their numbers, bytes before their packets
    _ahead: Packets | None = None
    _free: deque[Slot] = field(default_factory=deque)
    _busy: dict[int, Slot] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises UsageError if this is not a capture, or has no known link type."""
        for number, fd in enumerate(self.slots):
            self._free.append(Slot(number, fd))
        try:
            if self.source.head.startswith(PCAPNG):
                self._reader = Pcapng(self.source)
                self._find_an_interface(self._reader)
            else:
                self._reader = Pcap(self.source)
                self._learn()
        except (PcapError, PcapngError) as error:
            raise UsageError(f"{self.source.name} cannot be read as a capture: {error}") from None
        if not any(self._links):
            self.close()
            raise UsageError(self._why_not())
        if isinstance(self._reader, Pcap) and self._links[0] is not Link.COOKED2:
            self._numbers.use([self._of_links[0][0]])

    def _why_not(self) -> str:
        """Why no packet can be read."""
        links = sorted({one.link for one in self._reader.interfaces})
        if any(LINKS.get(link) in _BARE for link in links):
            return (
                f"--filter does not work for {self.source.name}, whose packets begin with the IP header: "
                f"{self.filter_needs_link}"
            )
        return (
            f"{self.source.name} is a capture of link type {' and '.join(map(link_name, links))}: "
            "Ethernet, raw IP, Linux cooked and null are read"
        )

    def _find_an_interface(self, reader: Pcapng) -> None:
        """Read on to the first interface whose packets can be read; packets before it cannot."""
        while not any(self._links) and not reader.at_end:
            if self._ahead is not None:
                self._count_unread(self._ahead)
            self._ahead = reader.read()
            self._learn()
        if not self._links:
            raise PcapngError(reader.damage or "it describes no interface")

    def _learn(self) -> None:
        """Of interfaces that the reader has found."""
        file_name = os.path.basename(self.source.name)
        for one in self._reader.interfaces[len(self._links) :]:
            link = LINKS.get(one.link)
            if self.filter_needs_link is not None and link in _BARE:
                link = None
            number = 0
            if link is not None and link is not Link.COOKED2:
                name = one.name or file_name
                number = self._numbers.interface((name, link in _BARE), name, ethernet=link not in _BARE)
            self._links.append(link)
            self._of_links.append((number, _SKIPS[link] if link is not None else 0))

    @property
    def interfaces(self) -> dict[int, Seen]:
        """Those whose packets have been read, by number."""
        return self._numbers.seen

    @property
    def snaplen(self) -> int:
        """How many bytes of a packet the capture kept at least, if the packet had as many."""
        return min((one.snaplen for one in self._reader.interfaces if one.snaplen), default=SNAPLEN_MAX)

    @property
    def position(self) -> int:
        """How many bytes of the file, as stored, have been read."""
        return self._reader.position

    @property
    def can_read(self) -> bool:
        """Is there a free slot, and anything left to put into it?"""
        return bool(self._free) and not self.at_end

    @property
    def is_over(self) -> bool:
        """Has everything been read and run?"""
        return self.at_end and not self._busy

    def read(self) -> Frames | None:
        """Fill a slot. None if nothing was left."""
        slot = self._free.popleft()
        packets, self._ahead = self._ahead, None
        if packets is None and not self._reader.at_end:
            packets = self._reader.read(slot) if isinstance(self._reader, Pcap) else self._reader.read()
            self._learn()
        self.at_end = self._reader.at_end
        if self.at_end:
            self.damage = self._reader.damage or self.source.broken
        if packets is not None and None in self._links:
            packets = self._count_unread(packets)
        if packets is None or not len(packets):
            self._free.append(slot)
            return None
        end, word = self._lay_out(slot, packets)
        self._busy[slot.number] = slot
        return Frames(slot.number, end, self._numbers.take_fresh(), word)

    def done(self, slot: int, packets: int) -> None:
        """The root part has run a slot."""
        self.packets += packets
        self._free.append(self._busy.pop(slot))

    def _count_unread(self, packets: Packets) -> Packets:
        """Leave out packets of link types that are not read."""
        is_read = np.array([link is not None for link in self._links], np.bool_)[packets.places]
        for place, count in Counter(packets.places[~is_read].tolist()).items():
            self.unread[self._reader.interfaces[place].link] += count
        return packets if is_read.all() else packets.only(is_read)

    def _lay_out(self, slot: Slot, packets: Packets) -> tuple[int, int]:
        """Write packets with their heads into a slot.

        Returns where they end, and the word of all packets; 0 if each has its own.
        """
        starts, stops, places = packets.starts, packets.stops, packets.places
        earliest_ns = int(packets.times.min())
        self.begin_ns = min(self.begin_ns or earliest_ns, earliest_ns)
        self.end_ns = max(self.end_ns, int(packets.times.max()))
        of_links = np.array(self._of_links, np.int64)
        numbers, skips = of_links[places, 0], of_links[places, 1]
        sent = packets.sent if packets.sent is not None else np.zeros(len(starts), np.bool_)
        is_cooked = self._is(packets, Link.COOKED, Link.COOKED2)
        if is_cooked is not None:
            sent = sent | self._read_cooked(packets, is_cooked, numbers)
        self._numbers.use(np.unique(numbers).tolist())
        is_bare = self._is(packets, *_BARE)
        ethernet = np.ones(len(starts), np.bool_) if is_bare is None else ~is_bare
        inner = peel(packets, starts + skips, ethernet, self._tunnels)
        begins, wires = starts, packets.originals - skips
        if inner is not None and len((inner := self._enter(packets, inner, numbers)).rows):
            begins, stops = starts.copy(), stops.copy()
            begins[inner.rows], stops[inner.rows], skips[inner.rows] = inner.at, inner.stops, 0
            wires[inner.rows] = inner.wires - inner.at
        words = (numbers | skips << WORD_SKIP_SHIFT | np.where(sent, WORD_EGRESS, 0)).astype(np.uint32)
        is_backwards = bool((np.diff(packets.times) < 0).any())
        memory, is_in_place = packets.memory, packets.memory is slot.memory and begins is starts and not is_backwards
        if is_in_place and (words == words[0]).all():
            return int(stops[-1]), int(words[0])
        words |= np.clip(wires, 0, WIRE_LEN_MAX).astype(np.uint32) << np.uint32(WORD_WIRE_SHIFT)
        memory.write(begins - 4, words, "=u4")
        if is_in_place:
            return int(stops[-1]), 0
        memory.write(begins - 16, packets.times // NS_PER_S, "=u4")
        memory.write(begins - 12, packets.times % NS_PER_S, "=u4")
        memory.write(begins - 8, stops - begins, "=u4")
        if is_backwards:  # several CPUs may have written the capture
            order = np.argsort(packets.times, kind="stable")
            begins, stops = begins[order], stops[order]
        view = memoryview(memory.buffer)
        data = b"".join([view[at:stop] for at, stop in zip((begins - HEAD).tolist(), stops.tolist(), strict=True)])
        slot.shared[DUMP_HEADER : DUMP_HEADER + len(data)] = data
        return DUMP_HEADER + len(data), 0

    def _is(self, packets: Packets, *links: Link) -> Bool | None:
        """Which packets are of these link types; None if none is."""
        if not any(link in links for link in self._links):
            return None
        return np.array([link in links for link in self._links], np.bool_)[packets.places]

    def _read_cooked(self, packets: Packets, is_cooked: Bool, numbers: I64) -> Bool:
        """Makes Ethernet headers of cooked ones, and takes the interfaces that they name. Returns what was sent."""
        memory, starts, lengths = packets.memory, packets.starts, packets.stops - packets.starts
        data, sent = memory.bytes, np.zeros(len(packets), np.bool_)
        is_v2 = is_cooked & np.array([link is Link.COOKED2 for link in self._links], np.bool_)[packets.places]
        v1 = np.flatnonzero(is_cooked & ~is_v2 & (lengths >= 2))
        sent[v1] = data[starts[v1] + 1] == _OUTGOING
        v2 = np.flatnonzero(is_v2)
        indexes, which = np.unique(memory.read(starts[v2] + 4, ">u4"), return_inverse=True)
        given = [self._numbers.interface(index, f"if{index}", ethernet=True) for index in indexes.tolist()]
        numbers[v2] = np.array(given, np.int64)[which]
        v2 = v2[lengths[v2] >= _COOKED2_LEN]
        begins = starts[v2]
        data[begins + 18], data[begins + 19] = data[begins], data[begins + 1]
        sent[v2] = data[begins + 10] == _OUTGOING
        return sent

    def _enter(self, packets: Packets, inner: Headers, numbers: I64) -> Headers:
        """Give what is in tunnels its numbers, and an Ethernet header where it has none. Returns what can be run."""
        known, through = self._numbers, self._tunnels.through
        pairs, which = np.unique(numbers[inner.rows] << 32 | inner.tunnels, return_inverse=True)
        given = [
            known.tunnel(pair >> 32, tunnel, through[tunnel]) if (tunnel := pair & 0xFFFFFFFF) else 0
            for pair in pairs.tolist()
        ]
        inside = np.array(given, np.int64)[which]
        self.untold += int((inside == 0).sum())
        at = inner.at - np.where(inner.is_ethernet, 0, ETHERNET_LEN)
        stops = np.minimum(inner.stops, inner.wires)
        # the kernel runs no frame without its IP header: what is cut before that stays inside, and counts as not read
        kinds = np.where(inner.is_ethernet, packets.memory.read(at + ETHERNET_LEN - 2, ">u2"), inner.kinds)
        long_enough = stops - at >= ETHERNET_LEN + np.where(kinds == IPV6, IPV6_LEN, IPV4_LEN)
        keep = (inside > 0) & long_enough
        bare = at[keep & ~inner.is_ethernet]
        packets.memory.bytes[bare[:, np.newaxis] + np.arange(ETHERNET_LEN - 2)] = 0
        packets.memory.write(bare + ETHERNET_LEN - 2, inner.kinds[keep & ~inner.is_ethernet], ">u2")
        inner.at, inner.stops = at, stops
        found = inner.only(keep)
        numbers[found.rows] = inside[keep]
        known.use(np.unique(inside[keep]).tolist())
        if len(found.rows):
            self.inside = max(self.inside, int((found.at - packets.starts[found.rows]).max()))
        return found

    def close(self) -> None:
        """Close the file."""
        for slot in (*self._free, *self._busy.values()):
            if slot.dump is not None:
                slot.dump.close()
        if isinstance(self._reader, Pcap):
            self._reader.close()
