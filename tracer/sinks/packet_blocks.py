"""Many packet blocks of a pcapng file at once: numpy fills in what all have, and only texts and payloads are objects.

A block is a sequence of 32-bit words: seven of the header, the frame, flags, the comment if there is one, the end of
the options, and the length again. `pcapng_format.packet` makes one alone, byte for byte the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import distinct
from tracer.sinks.pcapng_format import COMMENT_OPTION, FLAGS_OPTION, PACKET_BLOCK, comment_bytes

HEADER_WORDS = 7
MACS = 12  # bytes before a VLAN tag
VLAN_PRESENT, SERVICE_TAG = 0x10000, 0x20000  # in packet_event.vlan_tci
_ETHERTYPE_VLAN, _ETHERTYPE_QINQ = 0x8100, 0x88A8
# what stays of a frame's last word, by the frame's length modulo 4
_LAST_WORD = np.array([0xFFFFFFFF, 0xFF, 0xFFFF, 0xFFFFFF], "<u4")

U32 = NDArray[np.uint32]


@dataclass(slots=True)
class Frames:
    """Columns, a row a packet. `data` is (rows, bytes): a multiple of 4, and those behind `captured` do not count.

    `wire_len` and `captured` are bytes, `at_ns` is nanoseconds since the epoch, `number` the interface's, `direction`
    as in epb_flags.
    """

    number: U32
    at_ns: NDArray[np.int64]
    wire_len: U32
    captured: U32
    direction: U32
    data: NDArray[np.uint8]

    def tag(self, tci: U32) -> None:
        """Put VLAN tags back that were removed; `tci` as in struct packet_event, 0 where there was none."""
        rows = np.flatnonzero(tci & np.uint32(VLAN_PRESENT))
        if not len(rows):
            return
        wider = np.zeros((len(self.data), self.data.shape[1] + 4), np.uint8)
        wider[:, :-4] = self.data
        wider[rows, MACS + 4 :] = self.data[rows, MACS:]
        kind = np.where(tci[rows] & np.uint32(SERVICE_TAG), _ETHERTYPE_QINQ, _ETHERTYPE_VLAN)
        tags = np.stack([kind, tci[rows] & 0xFFFF], axis=1).astype(">u2")
        wider[rows, MACS : MACS + 4] = tags.view(np.uint8)
        self.data = wider
        self.wire_len[rows] += np.uint32(4)
        self.captured[rows] += np.uint32(4)


def blocks(frames: Frames, payloads: Iterable[tuple[int, bytes]], comments: Iterable[tuple[int, str]]) -> bytes:
    """Enhanced packet blocks, in the rows' order.

    `payloads` follow the frame of their row. They and `comments` name a row at most once; an empty comment is none.
    """
    if not len(frames.captured):
        return b""
    own = frames.captured.astype(np.int64)
    captured = own.copy()
    tails = [(row, data) for row, data in payloads if data]
    for row, data in tails:
        captured[row] += len(data)
    texts = [(row, comment_bytes(text)) for row, text in comments if text]
    option_words = np.zeros(len(own), np.int64)
    for row, text in texts:
        option_words[row] = 1 + (len(text) + 3 >> 2)
    options = HEADER_WORDS + (captured + 3 >> 2)  # in words from the block's beginning
    words = options + option_words + 4  # flags, end of options, length
    ends = np.cumsum(words)
    begins = ends - words
    out = np.zeros(int(ends[-1]), "<u4")
    wire_len = np.maximum(captured, frames.wire_len)
    head = (PACKET_BLOCK, words * 4, frames.number, frames.at_ns >> 32, frames.at_ns & 0xFFFFFFFF, captured, wire_len)
    for place, column in enumerate(head):
        out[begins + place] = column
    _copy_frames(out, begins + HEADER_WORDS, own, frames.data)
    flags = begins + options
    out[flags] = FLAGS_OPTION
    out[flags + 1] = frames.direction
    out[ends - 1] = words * 4
    view = out.data.cast("B")
    for row, data in tails:
        at = int(begins[row] + HEADER_WORDS) * 4 + int(own[row])
        view[at : at + len(data)] = data
    for row, text in texts:
        at = int(flags[row]) + 2
        out[at] = COMMENT_OPTION | len(text) << 16
        view[4 * at + 4 : 4 * at + 4 + len(text)] = text
    return out.tobytes()


def _copy_frames(out: U32, begins: NDArray[np.int64], captured: NDArray[np.int64], data: NDArray[np.uint8]) -> None:
    """Frames as words, those of one length at a time: a capture has few lengths."""
    source = data.view("<u4")
    lengths = captured + 3 >> 2
    for length in distinct(lengths).tolist():
        if not length:
            continue
        rows = np.flatnonzero(lengths == length)
        words = source[rows, :length]
        words[:, -1] &= _LAST_WORD[captured[rows] & 3]
        out[begins[rows, None] + np.arange(length)] = words
