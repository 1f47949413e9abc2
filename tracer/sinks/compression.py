"""Compressed output that a reader can use while it grows: whatever was flushed can be read, however the file ends."""

from __future__ import annotations

import zlib
from typing import Protocol

import zstandard

from tracer.sinks.targets import Compression

_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3
_GZIP_WINDOW = 16 + 15  # zlib: 16 asks for gzip's header, 15 for a window of 32 KiB


class Coder(Protocol):
    """One gzip member or zstd frame. Each method returns what is to be written now."""

    def add(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes: ...
    def finish(self) -> bytes: ...


class Plain:
    """Nothing is done."""

    def add(self, data: bytes) -> bytes:
        """As it is."""
        return data

    def flush(self) -> bytes:
        """Nothing waits."""
        return b""

    def finish(self) -> bytes:
        """Nothing waits."""
        return b""


class Gzip:
    """RFC 1952."""

    def __init__(self) -> None:
        self._coder = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)

    def add(self, data: bytes) -> bytes:
        """Some of it, perhaps."""
        return self._coder.compress(data)

    def flush(self) -> bytes:
        """All that was added can be read after this."""
        return self._coder.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        """The end of the member."""
        return self._coder.flush(zlib.Z_FINISH)


class Zstd:
    """RFC 8878."""

    def __init__(self) -> None:
        self._coder = zstandard.ZstdCompressor(_ZSTD_LEVEL, write_checksum=True).compressobj()

    def add(self, data: bytes) -> bytes:
        """Some of it, perhaps."""
        return self._coder.compress(data)

    def flush(self) -> bytes:
        """All that was added can be read after this."""
        return self._coder.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def finish(self) -> bytes:
        """The end of the frame."""
        return self._coder.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)


_CODERS: dict[Compression, type[Plain] | type[Gzip] | type[Zstd]] = {
    Compression.NONE: Plain,
    Compression.GZIP: Gzip,
    Compression.ZSTD: Zstd,
}


def coder(compression: Compression) -> Coder:
    """A new one."""
    return _CODERS[compression]()
