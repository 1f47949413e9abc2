"""Reads pcap with libpcap, which copies packets from the file into a slot's memory."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from tracer.errors import UsageError
from tracer.linux.libpcap import DUMP_HEADER, Capture, Dump, PcapError
from tracer.replay.input import Input
from tracer.replay.packets import HEAD, NS_PER_S, Interface, Memory, Packets
from tracer.replay.root_part import COPY_PACKETS, SLOT_FULL, SLOT_SIZE

_CHUNK = 1 << 18  # bytes in a pipe
_HEAD = struct.Struct("=IIII")


class Slot:
    """Memory that the root part sees too."""

    def __init__(self, number: int, fd: int) -> None:
        self.number, self.fd = number, fd
        self.shared = mmap.mmap(fd, SLOT_SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self.memory = Memory(self.shared)
        self.dump: Dump | None = None


@dataclass(slots=True)
class Pcap:
    """An open file."""

    source: Input
    interfaces: list[Interface] = field(default_factory=list)
    damage: str | None = None  # why reading ended before the end of the file
    at_end: bool = False
    _capture: Capture = field(init=False)
    _fd: int = -1

    def __post_init__(self) -> None:
        """Raises PcapError if this is not a capture."""
        self._capture = Capture(self._open())
        self.interfaces.append(Interface(None, self._capture.link, self._capture.snaplen))

    def _open(self) -> int:
        """A descriptor for libpcap: of the file itself, or of a pipe that a thread writes to."""
        if (fd := self.source.descriptor()) is not None:
            self._fd = fd
            return os.dup(fd)
        reads, writes = os.pipe2(os.O_CLOEXEC)
        with suppress(OSError):
            fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, _CHUNK)
        threading.Thread(target=_pump, args=(self.source, writes), name="pump", daemon=True).start()
        return reads

    @property
    def position(self) -> int:
        """How many bytes of the file, as stored, have been read."""
        return os.lseek(self._fd, 0, os.SEEK_CUR) if self._fd >= 0 else self.source.position

    def read(self, slot: Slot) -> Packets | None:
        """Copy packets into a slot; None if none was left."""
        if slot.dump is None:
            slot.dump = Dump(self._capture, os.dup(slot.fd))
        slot.dump.begin()
        try:
            while slot.dump.tell() < SLOT_FULL and self._capture.copy(COPY_PACKETS, slot.dump):
                pass
            self.at_end = slot.dump.tell() < SLOT_FULL
        except PcapError as error:
            self.at_end, self.damage = True, str(error)
        end = slot.dump.end()
        return _packets(slot, end) if end > DUMP_HEADER else None

    def close(self) -> None:
        """Close the file; a thread that is still decompressing ends by itself."""
        self._capture.close()


def _packets(slot: Slot, end: int) -> Packets:
    """What a Dump wrote."""
    starts: list[int] = []
    heads: list[tuple[int, int, int, int]] = []
    position, unpack, memory = DUMP_HEADER, _HEAD.unpack_from, slot.shared
    while position + HEAD <= end:
        head = unpack(memory, position)
        position += HEAD
        starts.append(position)
        heads.append(head)
        position += head[2]
    table = np.array(heads, np.int64).reshape(len(heads), 4)
    begins = np.array(starts, np.intp)
    times = table[:, 0] * NS_PER_S + table[:, 1]
    return Packets(slot.memory, begins, begins + table[:, 2], table[:, 3], times, np.zeros(len(begins), np.intp))


def _pump(source: Input, fd: int) -> None:
    try:
        while chunk := source.read():
            view = memoryview(chunk)
            while view:
                view = view[os.write(fd, view) :]
    except (OSError, ValueError):
        pass  # the reader has gone, or the source was closed
    except UsageError as error:
        source.broken = str(error)
    finally:
        os.close(fd)
