"""-w FILE.pcapng: the handshakes' own packets as captured, with the verdict as a comment on the first SYN.

Packets come through a ring of their own (bpf/packets.h) and wait for the record. Headers are as captured; the payload
of the first SYN, which comes through the payload ring, is added to them. If the network card or the kernel removed a
VLAN tag, we put it back, as libpcap does. Cookies are covered, except with --show-cookies.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch, PayloadKey
from tracer.handshake.events import SynPayload
from tracer.records.record import End, NoticeRecord, Start, Stats
from tracer.sinks import pcapng_format as blocks
from tracer.sinks.base import Outlet
from tracer.sinks.comment import comment
from tracer.sinks.cookie_mask import without_cookies
from tracer.sinks.packet_cache import PacketCache, Packets
from tracer.vocabulary.printable import plural

WAITING_MAX = 4096  # handshakes written together
COVERED = "TCP Fast Open cookies are covered: each begins with the record's cookie_id (--show-cookies keeps them)"

_MACS = 12  # bytes before a VLAN tag
_TAG = (b"\x81\x00", b"\x88\xa8")  # 802.1Q, 802.1ad
_VLAN_PRESENT, _SERVICE_TAG = 0x10000, 0x20000


class Pcapng:
    """Writes a capture."""

    def __init__(self, file: Outlet, composer: Composer) -> None:
        self._file = file
        self._composer = composer
        self._cache = PacketCache()
        self._waiting: list[Batch] = []
        self._handshakes = 0
        self._interfaces: dict[tuple[int, bool], int] = {}  # index and no link header: number
        self._descriptions: list[bytes] = []  # of the interfaces, by number
        self._written: list[int] = []  # packets of each interface in the current file
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
        assert self._start is not None
        self._written = [0] * len(self._written)
        covered = "" if self._composer.show_cookies else COVERED
        section = blocks.section(f"tfotrace {self._start.version}", f"Linux {self._start.kernel}", covered)
        return section + b"".join(self._descriptions)

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
            self._file.write(self._statistics())
        self._file.close()

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
        packets, records = self._cache.take(np.concatenate([batch.events for batch in waiting]))
        if not self._composer.show_cookies:
            packets = without_cookies(packets, self._composer.covered)
        comments = [comment(record) for batch in waiting for record in self._composer.compose(batch)]
        payloads: dict[PayloadKey, SynPayload] = {}
        for batch in waiting:
            payloads.update(batch.payloads)
        self._describe(packets)
        out = self._blocks(packets, records.tolist(), comments, payloads)
        if out:
            self._file.write(b"".join(out))

    def _describe(self, packets: Packets) -> None:
        """Describe each interface before its first packet."""
        seen = np.unique(packets[["ifindex", "no_link_header"]]) if len(packets) else ()
        for index, bare in (row.tolist() for row in seen):
            key = (index, bool(bare))
            if key in self._interfaces:
                continue
            place = self._composer.interface(index)
            link_type = blocks.LINKTYPE_RAW if bare else blocks.LINKTYPE_ETHERNET
            block = blocks.interface(place.interface or place.hook, f"traced by {place.hook}", link_type)
            # Write first, then remember: if this write starts a new file, its head must not have this block.
            self._file.write(block)
            self._interfaces[key] = len(self._descriptions)
            self._descriptions.append(block)
            self._written.append(0)

    def _blocks(
        self, packets: Packets, records: list[int], comments: list[str], payloads: Mapping[PayloadKey, SynPayload]
    ) -> list[bytes]:
        """In order of time; the first packet of each handshake, its first SYN, has the comment."""
        out: list[bytes] = []
        commented: set[int] = set()
        raw, size = packets.tobytes(), packets.dtype.itemsize
        offset_ns = self._composer.offset_ns
        names = ("id", "syn_ns", "now_ns", "ifindex", "no_link_header", "frame_len", "vlan_tci", "captured",
                 "headers_len", "egress")  # fmt: skip
        start = packets.dtype.fields["data"][1] if packets.dtype.fields is not None else 0
        columns = (packets[name].tolist() for name in names) if len(packets) else ()
        for record, id_, syn_ns, now_ns, index, bare, frame_len, tci, captured, headers_len, egress in zip(
            records, *columns, strict=False
        ):
            data = raw[start : start + captured]
            start += size
            first = now_ns == syn_ns
            if first and captured == headers_len:
                payload = payloads.get((id_, syn_ns))
                if payload is not None:
                    data += payload.data
            if tci & _VLAN_PRESENT:
                tag = _TAG[bool(tci & _SERVICE_TAG)] + (tci & 0xFFFF).to_bytes(2, "big")
                data = data[:_MACS] + tag + data[_MACS:]
                frame_len += len(tag)
            number = self._interfaces[index, bool(bare)]
            self._written[number] += 1
            direction = blocks.OUTBOUND if egress else blocks.INBOUND
            text = "" if record in commented else comments[record]
            commented.add(record)
            out.append(blocks.packet(number, now_ns + offset_ns, frame_len, data, direction, text))
        self.incomplete += len(comments) - len(commented)
        return out
