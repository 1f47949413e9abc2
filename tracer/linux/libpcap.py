"""libpcap by ctypes: what replay and filters need. The library is the distribution's (libpcap0.8).

Signatures are those of pcap(3PCAP), libpcap 1.5 and newer. Packets of a capture never pass through Python one by one:
libpcap's pcap_dump() is the callback of its pcap_dispatch(), so C code copies them from file to file. Whatever the
capture's format, the result has the simple one that `Dump` describes.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache

from tracer.errors import CannotTraceError
from tracer.linux.libc import libc

libc.fdopen.restype, libc.fdopen.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_char_p)
libc.fclose.argtypes = (ctypes.c_void_p,)
libc.setvbuf.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
libc.fseek.argtypes = (ctypes.c_void_p, ctypes.c_long, ctypes.c_int)

NAMES = ("libpcap.so.0.8", "libpcap.so.1", "libpcap.so")
DUMP_HEADER = 24  # bytes of the file header that a dump begins with
SNAPLEN_MAX = 262144  # bytes of one packet: MAXIMUM_SNAPLEN, for the link types that replay reads
_ERRBUF_SIZE = 256
_PRECISION_NANO = 1
_FULLY_BUFFERED = 0
_READ_AHEAD = 1 << 18


class PcapError(Exception):
    """libpcap refused; its reason."""


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """The loaded library.

    Raises:
        CannotTraceError: it is not installed.
    """
    for name in NAMES:
        try:
            lib = ctypes.CDLL(name)
        except OSError:
            continue
        break
    else:
        raise CannotTraceError("libpcap is missing: apt-get install libpcap0.8 (or the distribution's libpcap)")
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for function, result, arguments in (
        ("pcap_fopen_offline_with_tstamp_precision", pointer, (pointer, ctypes.c_uint, text)),
        ("pcap_geterr", text, (pointer,)),
        ("pcap_datalink", number, (pointer,)),
        ("pcap_datalink_val_to_name", text, (number,)),
        ("pcap_datalink_val_to_description", text, (number,)),
        ("pcap_snapshot", number, (pointer,)),
        ("pcap_dispatch", number, (pointer, number, pointer, pointer)),
        ("pcap_dump_fopen", pointer, (pointer, pointer)),
        ("pcap_dump_flush", number, (pointer,)),
        ("pcap_dump_ftell", ctypes.c_long, (pointer,)),
        ("pcap_dump_close", None, (pointer,)),
        ("pcap_close", None, (pointer,)),
        ("pcap_open_dead", pointer, (number, number)),
        ("pcap_compile", number, (pointer, pointer, text, number, ctypes.c_uint32)),
        ("pcap_freecode", None, (pointer,)),
    ):
        found = getattr(lib, function)
        found.restype, found.argtypes = result, arguments
    return lib


def link_name(link: int) -> str:
    """Name of a DLT_ number: `IEEE802_11 (802.11)`."""
    name = library().pcap_datalink_val_to_name(link)
    if name is None:
        return f"number {link}"
    description = library().pcap_datalink_val_to_description(link)
    return str(name.decode() + (f" ({description.decode()})" if description else ""))


def _file(fd: int, mode: bytes) -> int:
    file: int | None = libc.fdopen(fd, mode)
    if file is None:
        code = ctypes.get_errno()
        os.close(fd)
        raise OSError(code, os.strerror(code))
    return file


class Dump:
    """A file of packets: for each seconds, nanoseconds, captured and original length (u32 in host byte order), then
    the captured bytes."""

    def __init__(self, capture: Capture, fd: int) -> None:
        """Take over `fd`, which must be seekable and empty."""
        self._file = _file(fd, b"r+b")
        self._dumper: int | None = library().pcap_dump_fopen(capture.handle, self._file)
        if self._dumper is None:
            libc.fclose(self._file)
            raise PcapError(capture.error())

    @property
    def handle(self) -> int:
        assert self._dumper is not None
        return self._dumper

    def begin(self) -> None:
        """Write the next packet over the first one."""
        libc.fseek(self._file, DUMP_HEADER, os.SEEK_SET)

    def end(self) -> int:
        """Flush; returns how many bytes are used now, with the header."""
        if library().pcap_dump_flush(self.handle) != 0:
            raise PcapError("packets cannot be handed on: out of memory")
        return int(library().pcap_dump_ftell(self.handle))

    def tell(self) -> int:
        """How many bytes are used. Some may not be in the file yet."""
        return int(library().pcap_dump_ftell(self.handle))

    def close(self) -> None:
        """Close it."""
        if self._dumper is not None:
            library().pcap_dump_close(self._dumper)
            self._dumper = None


class Capture:
    """An open pcap or pcapng file, times in nanoseconds."""

    def __init__(self, fd: int) -> None:
        """Take over `fd`.

        Raises:
            PcapError: it is no capture, or libpcap cannot read this kind.
        """
        lib = library()
        errors = ctypes.create_string_buffer(_ERRBUF_SIZE)
        file = _file(fd, b"rb")
        libc.setvbuf(file, None, _FULLY_BUFFERED, _READ_AHEAD)  # otherwise it reads a pipe 4 KiB at a time
        handle: int | None = lib.pcap_fopen_offline_with_tstamp_precision(file, _PRECISION_NANO, errors)
        if handle is None:
            libc.fclose(file)
            raise PcapError(errors.value.decode("utf-8", "replace"))
        self._handle: int | None = handle
        self._dump = ctypes.cast(lib.pcap_dump, ctypes.c_void_p)

    @property
    def handle(self) -> int:
        assert self._handle is not None
        return self._handle

    @property
    def link(self) -> int:
        """Link type, a DLT_ number."""
        return int(library().pcap_datalink(self.handle))

    @property
    def snaplen(self) -> int:
        """How many bytes of a packet the capture kept at most."""
        return int(library().pcap_snapshot(self.handle))

    def error(self) -> str:
        """libpcap's last error message."""
        text: bytes | None = library().pcap_geterr(self.handle)
        return text.decode("utf-8", "replace") if text else ""

    def copy(self, count: int, dump: Dump) -> int:
        """Copy the next `count` packets to `dump`; returns how many, 0 at the end.

        Raises:
            PcapError: the file is damaged or truncated here. It has copied the packets before that.
        """
        done = library().pcap_dispatch(self.handle, count, self._dump, dump.handle)
        if done < 0:
            raise PcapError(self.error())
        return int(done)

    def close(self) -> None:
        """Close it and its file."""
        if self._handle is not None:
            library().pcap_close(self._handle)
            self._handle = None
