"""-w FILE.pcapng: the handshakes' own packets as captured, with the verdict as a comment on the first SYN.

Packets come through a ring of their own (bpf/packets.h) and wait for the record. Headers are as captured; the payload
of the first SYN, which comes through the payload ring, is added to them. If the network card or the kernel removed a
VLAN tag, we put it back, as libpcap does. Cookies are covered, except with --show-cookies.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch
from tracer.handshake.events import distinct, together
from tracer.handshake.syn_payloads import SynPayloads
from tracer.records.run import End, NoticeRecord, Start, Stats
from tracer.sinks import packet_blocks
from tracer.sinks import pcapng_format as blocks
from tracer.sinks.base import Outlet
from tracer.sinks.comments import Comments
from tracer.sinks.cookie_mask import without_cookies
from tracer.sinks.packet_blocks import Frames
from tracer.sinks.packet_cache import PacketCache, Packets
from tracer.vocabulary.printable import plural

WAITING_MAX = 4096  # handshakes written together
INTERFACES_MAX = 4095  # of a section: hosts of containers have ever new ones
COVERED = "TCP Fast Open cookies are covered: each begins with the record's cookie_id (--show-cookies keeps them)"


class Pcapng:
    """Writes a capture."""

    def __init__(self, file: Outlet, composer: Composer) -> None:
        self._file = file
        self._composer = composer
        self._comments = Comments(composer)
        self._cache = PacketCache()
        self._waiting: list[Batch] = []
        self._handshakes = 0
        self._interfaces: dict[int, int] = {}  # the number of each of _places()
        self._descriptions: list[bytes] = []  # of the interfaces, by number
        self._written: list[int] = []  # packets of each interface in the current section
        self._lost = 0
        self._start: Start | None = None
        self.incomplete = 0  # handshakes without a packet

    def take_packets(self, packets: Packets) -> None:
        """Take packets whose records are still to come."""
        self._cache.add(packets)

    def start(self, record: Start) -> None:
        """Write the section header."""
        self._start = record
        self._file.begin(self._head, self._statistics)

    def _head(self, _part: int) -> bytes:
        self._written = [0] * len(self._written)
        return self._section() + b"".join(self._descriptions)

    def _section(self) -> bytes:
        assert self._start is not None
        covered = "" if self._composer.show_cookies else COVERED
        return blocks.section(f"tfotrace {self._start.version}", f"Linux {self._start.kernel}", covered)

    def write(self, batch: Batch) -> None:
        """Write the handshakes' packets now or within a second."""
        self._waiting.append(batch)
        self._handshakes += len(batch)
        if self._handshakes >= WAITING_MAX:
            self._flush()

    def notice(self, record: NoticeRecord) -> None:
        """Do nothing."""

    def stats(self, record: Stats) -> None:
        """Note how many packets the kernel could not deliver."""
        self._lost = record.counters.get("packets_lost", 0)

    def tick(self) -> None:
        """Write waiting packets."""
        self._flush()
        self._file.tick()

    def reopen(self) -> None:
        """Continue in the file that has the name now."""
        self._flush()
        self._file.reopen()

    def close(self, record: End | None) -> None:
        """Write the last packets and the statistics."""
        self._flush()
        if record is not None:
            self._lost = record.counters.get("packets_lost", 0)
        self._file.close(self._statistics if record is not None else None)

    def _statistics(self) -> bytes:
        now_ns = time.time_ns()
        return b"".join(
            # the kernel does not count by interface: the first one carries the sum
            blocks.statistics(number, now_ns, written, *((0, "") if number else (self._lost, self._missing())))
            for number, written in enumerate(self._written)
        )

    def _missing(self) -> str:
        return f"{self.incomplete} {plural(self.incomplete, 'handshake')} without a packet" if self.incomplete else ""

    # --- packets ---

    def _flush(self) -> None:
        waiting, self._waiting, self._handshakes = self._waiting, [], 0
        if not waiting:
            return
        packets, records = self._cache.take(together([batch.events for batch in waiting]))
        comments = [text for batch in waiting for text in self._comments.of(batch)]
        if not len(packets):
            self.incomplete += len(comments)
            return
        if not self._composer.show_cookies:
            packets = without_cookies(packets, self._composer.covered)
        payloads = SynPayloads.joined(batch.payloads for batch in waiting)
        self._describe(packets)
        numbers = self._numbers(packets)
        # Write first, then count: this write may start a new file, which has its own counts.
        self._file.write(self._blocks(packets, numbers, records, comments, payloads))
        for number, count in enumerate(np.bincount(numbers).tolist()):
            self._written[number] += count

    def _describe(self, packets: Packets) -> None:
        """Describe each interface before its first packet."""
        new = [key for key in distinct(_places(packets)).tolist() if key not in self._interfaces]
        if self._interfaces and len(self._interfaces) + len(new) > INTERFACES_MAX:
            self._begin_section()
            self._describe(packets)
            return
        for key in new:
            index, bare = key >> 1, key & 1
            place = self._composer.interface(index)
            link_type = blocks.LINKTYPE_RAW if bare else blocks.LINKTYPE_ETHERNET
            block = blocks.interface(place.interface or place.hook, f"traced by {place.hook}", link_type)
            # Write first, then remember: if this write starts a new file, its head must not have this block.
            self._file.write(block)
            self._interfaces[key] = len(self._descriptions)
            self._descriptions.append(block)
            self._written.append(0)

    def _begin_section(self) -> None:
        """Number the interfaces anew: those that have gone are forgotten."""
        section = self._section()
        self._file.make_room(len(self._statistics()) + len(section))  # a new part has counts of its own
        ended = self._statistics()
        self._interfaces, self._descriptions, self._written = {}, [], []
        self._file.write(ended + section)

    def _blocks(
        self,
        packets: Packets,
        numbers: NDArray[np.uint32],
        records: NDArray[np.intp],
        comments: list[str],
        payloads: SynPayloads,
    ) -> bytes:
        """In order of time; the first packet of each handshake, its first SYN, has the comment."""
        rows = packets["data"]
        frames = Frames(
            number=numbers,
            at_ns=packets["now_ns"].astype(np.int64) + self._composer.offset_ns,
            wire_len=packets["frame_len"].copy(),
            captured=packets["captured"].astype(np.uint32),
            direction=np.where(packets["egress"], blocks.OUTBOUND, blocks.INBOUND).astype(np.uint32),
            data=rows if rows.flags.c_contiguous else rows.copy(),
        )
        frames.tag(packets["vlan_tci"])
        commented, at = np.unique(records, return_index=True)
        self.incomplete += len(comments) - len(commented)
        said = zip(at.tolist(), (comments[record] for record in commented.tolist()), strict=True)
        return packet_blocks.blocks(frames, self._tails(packets, payloads), said)

    def _numbers(self, packets: Packets) -> NDArray[np.uint32]:
        """The interface of each packet, as numbered in the file."""
        places, which = np.unique(_places(packets), return_inverse=True)
        return np.array([self._interfaces[place] for place in places.tolist()], np.uint32)[which]

    def _tails(self, packets: Packets, payloads: SynPayloads) -> Iterator[tuple[int, bytes]]:
        """Payloads of first SYNs, by row, where the headers are whole."""
        rows = np.flatnonzero(
            (packets["now_ns"] == packets["syn_ns"]) & (packets["captured"] == packets["headers_len"])
        )
        at = payloads.find(packets["id"][rows], packets["syn_ns"][rows])
        return zip(rows[at >= 0].tolist(), payloads.data(at[at >= 0]), strict=True)


def _places(packets: Packets) -> NDArray[np.uint64]:
    """Interface index and whether frames have no link header, in one number."""
    found: NDArray[np.uint64] = packets["ifindex"].astype(np.uint64) << np.uint64(1)
    found |= packets["no_link_header"] != 0
    return found
