"""Covers the cookies of usual packets, many at a time: nearly all are as Linux sends them, in a few layouts.

Usual is TCP behind IPv4 without options or IPv6 without extension headers, not fragmented, in an Ethernet frame without
tags or without a link header; its header was captured whole, and has one Fast Open option of kind 34 (RFC 7413 4.1.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from tracer.dissect.options import EOL, EXPERIMENTS, NOP, TFO
from tracer.handshake.events import U8, Bool, Indexes, among, distinct

_LINK, _TCP = 14, 6  # bytes of an Ethernet header; the protocol
_IP_HEADER = {4: 20, 6: 40}
_TCP_HEADER, _CHECK = 20, 16  # bytes, but _CHECK: the checksum's offset
_OPTIONS_MAX = 40
_IS_EXPERIMENT = among(EXPERIMENTS)
_MAY_HOLD = among((TFO, *EXPERIMENTS))  # what may be a cookie behind the list's end

Words = NDArray[np.int64]


def cover_usual(data: U8, captured: NDArray[np.integer], bare: Bool, covered: Callable[[bytes], bytes]) -> Bool:
    """Put `covered(cookie)` in the place of the cookies of usual packets, and mend their checksums; which were usual?

    `data` [n, width] is changed in place; bytes from `captured` on belong to other packets. `bare`: without a link
    header.
    """
    done = np.zeros(len(data), np.bool_)
    for version, link, rows in _kinds(data, bare):
        at, begin = link, link + _IP_HEADER[version]
        start = begin + _TCP_HEADER
        if data.shape[1] <= start:
            continue
        packets = data[rows]
        ends = (packets[:, begin + 12] >> 4).astype(np.intp) * 4 - _TCP_HEADER
        ends[start + ends > captured[rows]] = 0
        place, length = _cookies(packets[:, start : start + _OPTIONS_MAX], ends)
        layouts = place * 256 + length
        for layout in distinct(layouts[length > 0]).tolist():
            first, size = divmod(layout, 256)
            chosen = np.flatnonzero(layouts == layout)
            some = packets[chosen]
            _cover(some, at, begin, slice(start + first, start + first + size), covered)
            data[rows[chosen]] = some
            done[rows[chosen]] = True
    return done


def _kinds(data: U8, bare: Bool) -> Iterator[tuple[int, int, Indexes]]:
    """Version, length of the link header and rows of packets with a usual IP header before TCP."""
    for link in (0, _LINK):
        mine = bare if link == 0 else ~bare
        if not mine.any() or data.shape[1] < link + _IP_HEADER[4] + _TCP_HEADER:
            continue
        head = data[:, link : link + _IP_HEADER[4]]
        four = mine & (head[:, 0] == 0x45) & (head[:, 9] == _TCP) & (head[:, 6] & 0x3F == 0) & (head[:, 7] == 0)
        six = mine & (head[:, 0] >> 4 == 6) & (head[:, 6] == _TCP)
        if link:
            four &= (data[:, 12] == 0x08) & (data[:, 13] == 0)
            six &= (data[:, 12] == 0x86) & (data[:, 13] == 0xDD)
        for version, which in ((4, four), (6, six)):
            rows = np.flatnonzero(which)
            if len(rows):
                yield version, link, rows


def _cookies(options: U8, ends: Indexes) -> tuple[Indexes, Indexes]:
    """Where in the options [n, at most 40] of TCP headers, as long as `ends` says, the one cookie begins; its length.

    The length is 0 where there is none or anything odd: an option that is cut, several cookies, an experiment's option,
    what looks like one behind the list's end.
    """
    every, last = np.arange(len(options)), options.shape[1] - 1
    at, place, length = (np.zeros(len(options), np.intp) for _ in range(3))
    odd = np.zeros(len(options), np.bool_)
    walking = ends > 0
    while walking.any():
        kind, following = options[every, np.minimum(at, last)], options[every, np.minimum(at + 1, last)]
        size = np.where(kind <= NOP, 1, following.astype(np.intp))
        odd |= walking & _IS_EXPERIMENT.take(kind)
        odd |= walking & (kind > NOP) & ((at + 1 >= ends) | (size < 2) | (at + size > ends))
        odd |= walking & (kind == EOL) & (at + 1 < ends) & _MAY_HOLD.take(following)
        walking &= ~odd & (kind != EOL)
        cookie = walking & (kind == TFO) & (size > 2)
        odd |= cookie & (length > 0)
        place, length = np.where(cookie, at + 2, place), np.where(cookie, size - 2, length)
        at += np.where(walking, size, 0)
        walking &= at < ends
    return place, np.where(odd, 0, length)


def _cover(packets: U8, at: int, begin: int, cookie: slice, covered: Callable[[bytes], bytes]) -> None:
    """Cover what lies at `cookie` in packets of one layout: an IP header at `at`, TCP at `begin`."""
    size = cookie.stop - cookie.start
    before = packets[:, cookie]
    said = before.tobytes()
    pieces = [said[start : start + size] for start in range(0, len(said), size)]
    instead = {piece: covered(piece) for piece in set(pieces)}
    after = np.frombuffer(b"".join([instead[piece] for piece in pieces]), np.uint8).reshape(-1, size)
    # a byte at an even offset of the header is the upper one of its word (RFC 1624)
    weights = np.where((np.arange(cookie.start, cookie.stop) - begin) % 2 == 0, 256, 1)
    change = (after.astype(np.int64) - before) @ weights
    packets[:, cookie] = after
    check = _word(packets, begin + _CHECK)
    mended = ~(((~check & 0xFFFF) + change) % 0xFFFF) & 0xFFFF
    mended = np.where(mended == 0xFFFF, 0, mended)
    mended = np.where((change == 0) | (check == _pseudo(packets, at, begin)), check, mended)
    packets[:, begin + _CHECK] = mended >> 8
    packets[:, begin + _CHECK + 1] = mended & 0xFF


def _word(packets: U8, at: int) -> Words:
    found: Words = packets[:, at].astype(np.int64) << 8 | packets[:, at + 1]
    return found


def _pseudo(packets: U8, at: int, begin: int) -> Words:
    """What stands for the checksum until the card fills it in: the sum over addresses, protocol and length."""
    if begin - at == _IP_HEADER[4]:
        addresses, length = slice(at + 12, at + 20), _word(packets, at + 2) - _IP_HEADER[4]
    else:
        addresses, length = slice(at + 8, at + 40), _word(packets, at + 4)
    words = packets[:, addresses].reshape(len(packets), -1, 2)
    total = words[:, :, 0].sum(axis=1, dtype=np.int64) * 256 + words[:, :, 1].sum(axis=1, dtype=np.int64)
    total = (total + _TCP + np.maximum(length, 0)) % 0xFFFF
    found: Words = np.where(total == 0, 0xFFFF, total)
    return found
