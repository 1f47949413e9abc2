"""Compressed output that can be read while it grows: flushed data stays readable however the file ends."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import zstandard

from tracer.sinks.targets import Compression

_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3
_GZIP_WINDOW = 16 + 15  # zlib: 16 asks for gzip's header, 15 for a window of 32 KiB


@dataclass(frozen=True, slots=True)
class Coder:
    """One gzip member (RFC 1952), zstd frame (RFC 8878), or bytes unchanged. Each function returns what to write now.

    All that was added can be read after a flush; `finish` is the end of the member or frame.
    """

    add: Callable[[bytes], bytes]
    flush: Callable[[], bytes]
    finish: Callable[[], bytes]


def coder(compression: Compression) -> Coder:
    """A new one."""
    if compression is Compression.GZIP:
        gzip = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
        return Coder(gzip.compress, partial(gzip.flush, zlib.Z_SYNC_FLUSH), partial(gzip.flush, zlib.Z_FINISH))
    if compression is Compression.ZSTD:
        zstd = zstandard.ZstdCompressor(_ZSTD_LEVEL, write_checksum=True).compressobj()
        return Coder(
            zstd.compress,
            partial(zstd.flush, zstandard.COMPRESSOBJ_FLUSH_BLOCK),
            partial(zstd.flush, zstandard.COMPRESSOBJ_FLUSH_FINISH),
        )
    return Coder(bytes, bytes, bytes)
