"""Reads a capture file with libpcap and prepares its packets for the root part.

The programs know Ethernet and bare IP. Linux' cooked headers end like an Ethernet header, with the protocol: a packet
just begins later (v1), or its protocol is copied there (v2). Their interface and direction go into the packet's word
(root_part.py).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from tracer.errors import UsageError
from tracer.handshake.events import U8
from tracer.ipc.messages import Frames
from tracer.linux.libpcap import DUMP_HEADER, Capture, Dump, PcapError, link_name
from tracer.replay.input import PCAPNG, Input
from tracer.replay.pcapng import Places
from tracer.replay.root_part import (
    COPY_PACKETS,
    INTERFACES_MAX,
    SLOT_FULL,
    SLOT_SIZE,
    WIRE_LEN_MAX,
    WORD_EGRESS,
    WORD_SKIP_SHIFT,
    WORD_WIRE_SHIFT,
)

FILE_INTERFACE = 1  # the number of the only interface, if the capture names none
_CHUNK = 1 << 18  # bytes in a pipe
_OUTGOING = 4  # packet type of cooked headers
_HEAD = struct.Struct("=IIII")


class Link(Enum):
    """How a packet of a link type begins."""

    ETHERNET = "Ethernet"
    IP = "an IP header"
    FAMILY = "an address family and an IP header"
    COOKED = "Linux' cooked header"
    COOKED2 = "Linux' cooked header, version 2"


# DLT_ numbers (pcap-linktype(7)); 12 is DLT_RAW. Libpcap does not pass on OpenBSD's, 14.
LINKS = {
    0: Link.FAMILY, 1: Link.ETHERNET, 12: Link.IP, 101: Link.IP, 108: Link.FAMILY, 113: Link.COOKED,
    228: Link.IP, 229: Link.IP, 276: Link.COOKED2,
}  # fmt: skip
_SKIPS = {Link.ETHERNET: 0, Link.IP: 0, Link.FAMILY: 4, Link.COOKED: 2, Link.COOKED2: 6}


@dataclass(slots=True)
class _Slot:
    number: int
    memory: mmap.mmap
    fd: int
    dump: Dump | None = None


@dataclass(slots=True)
class Feed:
    """Reads `source` into the slots, one after the other. `close` it at the end."""

    source: Input
    slots: tuple[int, ...]
    packets: int = 0  # handed over so far
    begin_ns: int = 0  # time of the first packet, since the epoch; 0 until it is read
    at_end: bool = False
    damage: str | None = None  # why reading ended before the end of the file
    interfaces: dict[int, str] = field(default_factory=dict)
    _capture: Capture = field(init=False)
    _link: Link = field(init=False)
    _free: deque[_Slot] = field(default_factory=deque)
    _busy: dict[int, _Slot] = field(default_factory=dict)
    _numbers: dict[int, int] = field(default_factory=dict)
    _fd: int = -1
    _places: Places | None = None

    def __post_init__(self) -> None:
        """Raises UsageError if this is not a capture, or has an unknown link type."""
        try:
            self._capture = Capture(self._open())
        except PcapError as error:
            raise UsageError(f"{self.source.name} cannot be read as a capture: {error}") from None
        link = LINKS.get(self._capture.link)
        if link is None:
            name = link_name(self._capture.link)
            self._capture.close()
            raise UsageError(
                f"{self.source.name} is a capture of link type {name}: Ethernet, raw IP, Linux cooked and null are read"
            )
        self._link = link
        if link is not Link.COOKED2 and self._places is None:
            self.interfaces[FILE_INTERFACE] = os.path.basename(self.source.name)
        for number, fd in enumerate(self.slots):
            memory = mmap.mmap(fd, SLOT_SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            self._free.append(_Slot(number, memory, fd))

    def _open(self) -> int:
        """A descriptor for libpcap: of the file itself, or of a pipe that a thread writes to."""
        if self.source.head.startswith(PCAPNG):
            self._places = Places(INTERFACES_MAX, WORD_EGRESS, os.path.basename(self.source.name))
        elif (fd := self.source.descriptor()) is not None:
            self._fd = fd
            return os.dup(fd)
        reads, writes = os.pipe2(os.O_CLOEXEC)
        with suppress(OSError):
            fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, _CHUNK)
        threading.Thread(target=_pump, args=(self.source, writes, self._places), name="pump", daemon=True).start()
        return reads

    @property
    def is_ethernet(self) -> bool:
        """Do packets reach the root part with something like an Ethernet header before the IP header?"""
        return self._link not in (Link.IP, Link.FAMILY)

    @property
    def snaplen(self) -> int:
        """How many bytes of a packet the capture kept at most."""
        return self._capture.snaplen

    @property
    def position(self) -> int:
        """How many bytes of the file, as stored, have been read."""
        if self._fd >= 0:
            return os.lseek(self._fd, 0, os.SEEK_CUR)
        return self.source.position

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
        if slot.dump is None:
            slot.dump = Dump(self._capture, os.dup(slot.fd))
        slot.dump.begin()
        try:
            while slot.dump.tell() < SLOT_FULL and self._capture.copy(COPY_PACKETS, slot.dump):
                pass
            self.at_end = slot.dump.tell() < SLOT_FULL
        except PcapError as error:
            self.at_end, self.damage = True, str(error)
        if self.at_end:
            refused = self._places.refused if self._places is not None else None
            self.damage = refused or self.damage or self.source.broken
        end = slot.dump.end()
        if end <= DUMP_HEADER:
            self._free.append(slot)
            return None
        self._busy[slot.number] = slot
        return Frames(slot.number, end, self.is_ethernet, self._word(slot, end))

    def done(self, slot: int, packets: int) -> None:
        """The root part has run a slot."""
        self.packets += packets
        self._free.append(self._busy.pop(slot))

    def _word(self, slot: _Slot, end: int) -> int:
        """The word of all packets; 0 if each has its own, which this writes into the packet."""
        skipped = _SKIPS[self._link]
        skip = skipped << WORD_SKIP_SHIFT
        sources: set[int] | None = None
        starts, lengths, originals, times = _packets(slot.memory, end)
        if self._places is not None:
            places = self._places.take(len(starts))
            sources = set(places)
            self._name(sources)
        self.begin_ns = self.begin_ns or int(times.min())
        backwards = bool((np.diff(times) < 0).any())
        if self._link not in (Link.COOKED, Link.COOKED2) and (sources is None or len(sources) == 1):
            if backwards:
                _sort(slot.memory, end, starts, lengths, times)
            return skip | ((sources.pop() if sources else 0) or FILE_INTERFACE)
        data = np.frombuffer(slot.memory, np.uint8)
        outgoing = np.zeros(len(starts), np.bool_)
        numbers = np.full(len(starts), FILE_INTERFACE, np.uint32)
        if self._link is Link.COOKED:
            outgoing = (lengths >= 2) & (data[starts + 1] == _OUTGOING)
        elif self._link is Link.COOKED2:
            whole = lengths >= 20
            data[starts[whole] + 18] = data[starts[whole]]
            data[starts[whole] + 19] = data[starts[whole] + 1]
            outgoing = whole & (data[starts + 10] == _OUTGOING)
            numbers = self._interface_numbers(data, starts)
        if sources is not None and self._link is not Link.COOKED2:
            listed = np.array(places, np.uint32)
            known = listed & np.uint32(INTERFACES_MAX) != 0
            numbers = np.where(known, listed & np.uint32(INTERFACES_MAX), numbers)
            outgoing |= listed & np.uint32(WORD_EGRESS) != 0
        wire = np.clip(originals - skipped, 0, WIRE_LEN_MAX).astype(np.uint32) << np.uint32(WORD_WIRE_SHIFT)
        words = numbers | np.uint32(skip) | wire | np.where(outgoing, np.uint32(WORD_EGRESS), np.uint32(0))
        raw = words.astype("=u4").view(np.uint8).reshape(-1, 4)
        for at in range(4):
            data[starts - 4 + at] = raw[:, at]
        if backwards:
            _sort(slot.memory, end, starts, lengths, times)
        return 0

    def _name(self, sources: set[int]) -> None:
        """Name the interfaces of packets, if the file has their names."""
        assert self._places is not None
        if self._link is Link.COOKED2:
            return
        for word in sources:
            number = word & INTERFACES_MAX or FILE_INTERFACE
            if number not in self.interfaces:
                self.interfaces[number] = self._places.names.get(number, os.path.basename(self.source.name))

    def _interface_numbers(self, data: U8, starts: np.ndarray) -> np.ndarray:
        raw = np.stack([data[starts + at] for at in range(4, 8)], axis=1)
        indexes = np.ascontiguousarray(raw).view(">u4").reshape(-1)
        distinct, places = np.unique(indexes, return_inverse=True)
        numbers = np.array([self._number(index) for index in distinct.tolist()], np.uint32)
        return numbers[places]

    def _number(self, index: int) -> int:
        number = self._numbers.get(index)
        if number is None:
            number = self._numbers[index] = min(len(self._numbers) + 1, INTERFACES_MAX)
            self.interfaces[number] = f"if{index}" if number < INTERFACES_MAX else "other"
        return number

    def close(self) -> None:
        """Close the file; a thread that is still decompressing ends by itself."""
        for slot in (*self._free, *self._busy.values()):
            if slot.dump is not None:
                slot.dump.close()
        self._capture.close()


def _packets(memory: mmap.mmap, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where the bytes of each packet begin, how many were captured, how many there were, and when (nanoseconds)."""
    starts: list[int] = []
    heads: list[tuple[int, int, int, int]] = []
    position, unpack = DUMP_HEADER, _HEAD.unpack_from
    while position + 16 <= end:
        head = unpack(memory, position)
        position += 16
        starts.append(position)
        heads.append(head)
        position += head[2]
    table = np.array(heads, np.int64).reshape(len(heads), 4)
    return np.array(starts, np.intp), table[:, 2], table[:, 3], table[:, 0] * 1_000_000_000 + table[:, 1]


def _sort(memory: mmap.mmap, end: int, starts: np.ndarray, lengths: np.ndarray, times: np.ndarray) -> None:
    """Sort the packets of a slot by time: several CPUs may have written the capture."""
    view = memoryview(memory)
    order = np.argsort(times, kind="stable").tolist()
    begins, stops = (starts - 16).tolist(), (starts + lengths).tolist()
    memory[DUMP_HEADER:end] = b"".join([view[begins[one] : stops[one]] for one in order])


def _pump(source: Input, fd: int, places: Places | None) -> None:
    try:
        while chunk := source.read():
            if places is not None:
                places.look(chunk)  # before libpcap sees it
            view = memoryview(chunk)
            while view:
                view = view[os.write(fd, view) :]
    except (OSError, ValueError):
        pass  # the reader has gone, or the source was closed
    except UsageError as error:
        source.broken = str(error)
    finally:
        os.close(fd)
