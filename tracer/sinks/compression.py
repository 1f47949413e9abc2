"""Compressed output that can be read while it grows: flushed data stays readable however the file ends."""

from __future__ import annotations

import zlib
from typing import Protocol

import zstandard

from tracer.sinks.targets import Compression

_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3
_GZIP_WINDOW = 16 + 15  # zlib: 16 asks for gzip's header, 15 for a window of 32 KiB


class Coder(Protocol):
    """One gzip member or zstd frame. Each method returns the bytes to write now."""

    def add(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes: ...
    def finish(self) -> bytes: ...


class Plain:
    """No compression."""

    def add(self, data: bytes) -> bytes:
        """Return `data` unchanged."""
        return data

    def flush(self) -> bytes:
        """Nothing is buffered."""
        return b""

    def finish(self) -> bytes:
        """Nothing is buffered."""
        return b""


class Gzip:
    """RFC 1952."""

    def __init__(self) -> None:
        self._coder = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)

    def add(self, data: bytes) -> bytes:
        """May keep some of `data` back."""
        return self._coder.compress(data)

    def flush(self) -> bytes:
        """After this, everything added can be read."""
        return self._coder.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        """The end of the member."""
        return self._coder.flush(zlib.Z_FINISH)


class Zstd:
    """RFC 8878."""

    def __init__(self) -> None:
        self._coder = zstandard.ZstdCompressor(_ZSTD_LEVEL, write_checksum=True).compressobj()

    def add(self, data: bytes) -> bytes:
        """May keep some of `data` back."""
        return self._coder.compress(data)

    def flush(self) -> bytes:
        """After this, everything added can be read."""
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
    """Make a coder."""
    return _CODERS[compression]()
