"""Finds what libpcap does not say of a pcapng file: the interface of each packet, and whether it was sent there.

This reads the blocks on their way to libpcap, which checks them; judging a packet needs nothing from here. At a block
that does not follow draft-ietf-opsawg-pcapng the reading ends, and later packets have no particular interface.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass, field
from threading import Lock

from tracer.errors import UsageError

SECTION, INTERFACE, ENHANCED, SIMPLE, OLD_PACKET = 0x0A0D0D0A, 1, 6, 3, 2
_MAGIC = 0x1A2B3C4D
_BLOCK_MAX = 1 << 24  # bytes: libpcap's own limit
_IF_NAME = 2
_EPB_FLAGS = 2
_OUTBOUND = 2
_NAME_MAX = 64
SECTION_INTERFACES_MAX = 1 << 16  # libpcap keeps all that a section describes, so more would fill the memory


@dataclass(slots=True)
class Places:
    """For each packet the number of its interface (1 ...) and whether it was sent, in the order of the file.

    One thread calls look(), another one take().
    """

    limit: int  # the highest number, which all later interfaces share
    egress: int  # the bit that marks a sent packet
    unnamed: str  # the first interface's name if the file gives none
    names: dict[int, str] = field(default_factory=dict)
    refused: str | None = None  # why reading must end
    _order: str = "<"
    _section: list[int] = field(default_factory=list)  # numbers of this section's interfaces
    _numbers: dict[str, int] = field(default_factory=dict)
    _rest: bytes = b""
    _found: array[int] = field(default_factory=lambda: array("I"))
    _lock: Lock = field(default_factory=Lock)
    _lost: bool = False

    def look(self, chunk: bytes) -> None:
        """The next bytes of the file.

        Raises:
            UsageError: a section describes more interfaces than any host has.
        """
        if self._lost:
            return
        data = self._rest + chunk if self._rest else chunk
        try:
            at = self._walk(data)
        except (struct.error, ValueError):
            self._lost = True
            self._rest = b""
            return
        self._rest = data[at:]

    def take(self, count: int) -> list[int]:
        """The numbers and bits of the next `count` packets, 0 if unknown."""
        with self._lock:
            found = self._found[:count].tolist()
            del self._found[:count]
        return found + [0] * (count - len(found))

    def _walk(self, data: bytes) -> int:
        at, end = 0, len(data)
        found = array("I")
        head = struct.Struct(f"{self._order}II")
        packet = struct.Struct(f"{self._order}IQI")
        while at + 12 <= end:
            kind, length = head.unpack_from(data, at)
            if kind == SECTION:
                self._begin_section(data[at + 8 : at + 12])
                head, packet = struct.Struct(f"{self._order}II"), struct.Struct(f"{self._order}IQI")
                (length,) = struct.unpack_from(f"{self._order}I", data, at + 4)
            if length < 12 or length % 4 or length > _BLOCK_MAX:
                raise ValueError("length of a block")
            if at + length > end:
                break
            if kind == ENHANCED:
                interface, _, captured = packet.unpack_from(data, at + 8)
                options = at + 28 + (captured + 3 & ~3)
                sent = options + 8 < at + length and self._is_sent(data, options, at + length - 4)
                found.append(self._number(interface) | (self.egress if sent else 0))
            elif kind == INTERFACE:
                self._add(data, at + 16, at + length - 4)
            elif kind == SIMPLE:
                found.append(self._number(0))
            elif kind == OLD_PACKET:
                found.append(self._number(struct.unpack_from(f"{self._order}H", data, at + 8)[0]))
            at += length
        with self._lock:
            self._found.extend(found)
        return at

    def _begin_section(self, magic: bytes) -> None:
        for order in "<>":
            if struct.unpack(f"{order}I", magic)[0] == _MAGIC:
                self._order = order
                self._section = []
                return
        raise ValueError("byte order")

    def _option(self, data: bytes, at: int, end: int, wanted: int) -> bytes | None:
        while at + 4 <= end:
            code, length = struct.unpack_from(f"{self._order}HH", data, at)
            if code == 0 or at + 4 + length > end:
                return None
            if code == wanted:
                return data[at + 4 : at + 4 + length]
            at += 4 + (length + 3 & ~3)
        return None

    def _is_sent(self, data: bytes, at: int, end: int) -> bool:
        flags = self._option(data, at, end, _EPB_FLAGS)
        return flags is not None and len(flags) == 4 and struct.unpack(f"{self._order}I", flags)[0] & 3 == _OUTBOUND

    def _add(self, data: bytes, at: int, end: int) -> None:
        if len(self._section) >= SECTION_INTERFACES_MAX:
            self.refused = f"it names more than {SECTION_INTERFACES_MAX} interfaces, as no real capture does"
            raise UsageError(self.refused)
        name = self._option(data, at, end, _IF_NAME)
        text = (name or b"").split(b"\0")[0][:_NAME_MAX].decode("utf-8", "replace")
        text = text or (f"interface{len(self._section)}" if self._section else self.unnamed)
        number = self._numbers.get(text)
        if number is None:
            number = min(len(self._numbers) + 1, self.limit)
            if number < self.limit:  # the others need no names
                self._numbers[text] = number
            self.names[number] = text if number < self.limit else "other"
        self._section.append(number)

    def _number(self, interface: int) -> int:
        return self._section[interface] if interface < len(self._section) else 0
