"""Reads pcapng (draft-ietf-opsawg-pcapng): interfaces of every link type, snap length and resolution of time.

libpcap refuses a file whose interfaces differ in link type or snap length: its interface has room for one of each.
Python's readers (python-pcapng, dpkt, scapy) make objects of each packet, which takes longer than running it. Here
Python steps from block to block, and numpy reads what is in them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import Bool
from tracer.linux.libpcap import SNAPLEN_MAX
from tracer.replay.input import Input
from tracer.replay.packets import I64, NS_PER_S, SLACK, Index, Interface, Memory, Packets, joined

SECTION, INTERFACE, ENHANCED, SIMPLE, OLD_PACKET = 0x0A0D0D0A, 1, 6, 3, 2
INTERFACES_MAX = 1 << 16  # more would fill the memory
_WITH_PACKETS = frozenset({ENHANCED, SIMPLE, OLD_PACKET})
_MAGIC = 0x1A2B3C4D
_BLOCK_MAX = 1 << 24  # bytes: as libpcap
_PART = 4 << 20  # bytes of the file read at a time
_DATA = 28  # bytes of an enhanced or obsolete packet block before its packet
_SIMPLE_DATA = 12
_SECTION_HEAD = 16  # bytes up to the version
_IF_NAME, _IF_TSRESOL, _IF_TSOFFSET = 2, 9, 14
_EPB_FLAGS, _OUTBOUND = 2, 2
_OPTIONS_MAX = 64  # of a packet: what its direction is may stand behind comments
_NAME_MAX = 64
_DECIMAL_MAX, _BINARY_MAX = 19, 63  # the finest resolutions that fit 64 bits


class PcapngError(Exception):
    """It cannot be read, or not any further: why."""


@dataclass(slots=True)
class Pcapng:
    """An open file. `interfaces` are those of all sections read so far; packets have their places there."""

    source: Input
    interfaces: list[Interface] = field(default_factory=list)
    damage: str | None = None  # why reading ended before the end of the file
    at_end: bool = False
    _order: str = "<"  # of the section
    _places: dict[Interface, int] = field(default_factory=dict)
    _section: list[int] = field(default_factory=list)  # places of this section's interfaces
    _rest: bytes = b""
    _memory: Memory = field(init=False)
    _found: list[Packets] = field(default_factory=list)

    @property
    def position(self) -> int:
        """How many bytes of the file, as stored, have been read."""
        return self.source.position

    def read(self) -> Packets | None:
        """The packets of the next part of the file; None if there are none in it.

        After the last part `at_end` is set, and `damage` if something is wrong there.
        """
        pieces, size = [self._rest], len(self._rest)
        want = size + _PART
        while size < want:
            piece = self.source.read(want - size)
            if not piece:
                self.at_end = True
                break
            pieces.append(piece)
            size += len(piece)
        data = bytearray(b"".join([*pieces, bytes(SLACK)]))
        self._memory, self._found = Memory(data), []
        blocks: list[int] = []  # with packets, of this section
        try:
            end = self._walk(data, size, blocks)
            self._take(blocks)
            self._rest = bytes(memoryview(data)[end:size])
            if self.at_end and self._rest:
                self.damage = f"truncated: the last block has {len(self._rest)} bytes of its own"
        except PcapngError as error:
            self.at_end, self.damage = True, str(error)
        return joined(self._found)

    def _walk(self, data: bytearray, size: int, blocks: list[int]) -> int:
        """Note the blocks with packets; returns where the first one begins that is not there as a whole."""
        at = 0
        unpack, note = struct.Struct(f"{self._order}II").unpack_from, blocks.append
        try:
            while at + 12 <= size:
                kind, length = unpack(data, at)
                if kind == SECTION:
                    if at + _SECTION_HEAD > size:
                        break
                    self._take(blocks)
                    self._begin_section(data, at)
                    unpack = struct.Struct(f"{self._order}II").unpack_from
                    _, length = unpack(data, at)
                if length < 12 or length & 3 or length > _BLOCK_MAX:
                    raise PcapngError(f"a block claims {length} bytes")
                if at + length > size:
                    break
                if kind in _WITH_PACKETS:
                    note(at)
                elif unpack(data, at + length - 8)[1] != length:
                    raise PcapngError("the two lengths of a block differ")
                elif kind == INTERFACE:
                    self._describe(data, at, at + length - 4)
                at += length
        except PcapngError:
            self._take(blocks)  # those before
            raise
        return at

    def _take(self, blocks: list[int]) -> None:
        """Read the fields of blocks of one section, which are in memory as a whole."""
        if not blocks:
            return
        memory, order = self._memory, self._order
        u32, section = f"{order}u4", np.array(self._section or [0], np.intp)
        at = np.array(blocks, np.intp)
        blocks.clear()
        kinds, lengths, numbers = memory.read(at, u32), memory.read(at + 4, u32), memory.read(at + 8, u32)
        high, low, captured = (memory.read(at + offset, u32) for offset in (12, 16, 20))
        originals, data = memory.read(at + 24, u32), at + _DATA
        if (old := kinds == OLD_PACKET).any():
            numbers[old] = memory.read(at[old] + 8, f"{order}u2")
        if (simple := kinds == SIMPLE).any():
            originals[simple], numbers[simple], high[simple], low[simple] = numbers[simple], 0, 0, 0
            snaplen = self.interfaces[section[0]].snaplen if self.interfaces else 0
            room = np.minimum(lengths[simple] - _SIMPLE_DATA - 4, snaplen or SNAPLEN_MAX)
            captured[simple], data[simple] = np.minimum(originals[simple], room), at[simple] + _SIMPLE_DATA
        ends = at + lengths - 4
        options = data + (captured + 3 & ~3)
        sound = (options <= ends) & (captured <= SNAPLEN_MAX) & (memory.read(ends, u32) == lengths)
        known = numbers < len(self._section)
        good = len(at) if (fits := sound & known).all() else int(np.argmin(fits))
        keep = slice(0, good)
        places = section[numbers[keep]]
        self._found.append(
            Packets(
                memory, data[keep], data[keep] + captured[keep], originals[keep],
                self._times(places, high[keep].astype(np.uint64) << np.uint64(32) | low[keep].astype(np.uint64)),
                places, self._sent(options[keep], np.where(kinds == ENHANCED, ends, 0)[keep]),
            )
        )  # fmt: skip
        if good < len(at):
            raise PcapngError(
                "a block with a packet does not hold what it claims" if not sound[good]
                else f"a packet is of interface {numbers[good]}, which its section does not describe"
            )  # fmt: skip

    def _times(self, places: Index, ticks: NDArray[np.uint64]) -> I64:
        """Nanoseconds since the epoch, whose seconds have 32 bits in what follows."""
        found = np.empty(len(ticks), np.int64)
        distinct = np.unique(places).tolist()
        for place in distinct:
            one = self.interfaces[place]
            rows = slice(None) if len(distinct) == 1 else places == place
            seconds, parts = np.divmod(ticks[rows], np.uint64(one.units))
            if one.units <= NS_PER_S:
                parts = parts * np.uint64(NS_PER_S) // np.uint64(one.units)
            elif one.units % 10:  # a power of two: bits beyond 2^-30 s do not matter
                bits = one.units.bit_length() - 1
                parts = (parts >> np.uint64(max(bits - 30, 0))) * np.uint64(NS_PER_S) >> np.uint64(min(bits, 30))
            else:
                parts = parts // np.uint64(one.units // NS_PER_S)
            seconds = seconds + np.uint64(one.offset_s % (1 << 64)) & np.uint64(0xFFFFFFFF)
            found[rows] = seconds.astype(np.int64) * NS_PER_S + parts.astype(np.int64)
        return found

    def _sent(self, at: Index, ends: Index) -> Bool | None:
        """What the options that begin `at` say of the direction; None if there are none."""
        rows = np.flatnonzero(at + 4 <= ends)
        if not len(rows):
            return None
        sent = np.zeros(len(at), np.bool_)
        at = at.copy()
        for _ in range(_OPTIONS_MAX):
            here = at[rows]
            code, length = (self._memory.read(here + offset, f"{self._order}u2") for offset in (0, 2))
            going_on = (code != 0) & (here + 4 + length <= ends[rows])
            rows, here, code, length = rows[going_on], here[going_on], code[going_on], length[going_on]
            is_flags = (code == _EPB_FLAGS) & (length == 4)
            flags = self._memory.read(here[is_flags] + 4, f"{self._order}u4")
            sent[rows[is_flags]] = flags & 3 == _OUTBOUND
            at[rows] = here + 4 + (length + 3 & ~3)
            rows = rows[~is_flags & (at[rows] + 4 <= ends[rows])]
            if not len(rows):
                break
        return sent

    def _begin_section(self, data: bytearray, at: int) -> None:
        for order in "<>":
            if struct.unpack_from(f"{order}I", data, at + 8)[0] == _MAGIC:
                if struct.unpack_from(f"{order}H", data, at + 12)[0] != 1:
                    raise PcapngError("a section has a version that there is not yet")
                self._order, self._section = order, []
                return
        raise PcapngError("the byte order of a section is not known")

    def _describe(self, data: bytearray, at: int, end: int) -> None:
        if end - at < 16:
            raise PcapngError("an interface's block is too short")
        if max(len(self._section), len(self.interfaces)) >= INTERFACES_MAX:
            raise PcapngError(f"it names more than {INTERFACES_MAX} interfaces, as no real capture does")
        link, _, snaplen = struct.unpack_from(f"{self._order}HHI", data, at + 8)
        options = _options(data, at + 16, end, self._order)
        name = options.get(_IF_NAME, b"").split(b"\0")[0][:_NAME_MAX].decode("utf-8", "replace")
        if not name and self._section:
            name = f"interface{len(self._section)}"
        units, offset = 1_000_000, options.get(_IF_TSOFFSET, b"")
        if resolution := options.get(_IF_TSRESOL):
            exponent, is_binary = resolution[0] & 0x7F, resolution[0] & 0x80
            if exponent > (_BINARY_MAX if is_binary else _DECIMAL_MAX):
                raise PcapngError("times of an interface are finer than 64 bits can say")
            units = (2 if is_binary else 10) ** exponent
        found = Interface(
            name or None, link, snaplen, units, struct.unpack(f"{self._order}q", offset)[0] if len(offset) == 8 else 0
        )
        place = self._places.setdefault(found, len(self.interfaces))
        if place == len(self.interfaces):
            self.interfaces.append(found)
        self._section.append(place)


def _options(data: bytearray, at: int, end: int, order: str) -> dict[int, bytes]:
    """Options by their codes, the first of each."""
    found: dict[int, bytes] = {}
    head = struct.Struct(f"{order}HH")
    while at + 4 <= end:
        code, length = head.unpack_from(data, at)
        if code == 0 or at + 4 + length > end:
            break
        found.setdefault(code, bytes(data[at + 4 : at + 4 + length]))
        at += 4 + (length + 3 & ~3)
    return found
