"""The pieces between the numbers of a JSON line: encoded once, and cached by what they depend on.

Handshakes differ in times, ports, sequence numbers, addresses. What stands between these in their lines (names of
fields, words, options, what few hosts vary) repeats from line to line. So a record is encoded with holes in those
places and cut there; each piece is kept under a key of all that it depends on. tracer/encode/lines.py fills the holes.

No piece is written here: each comes from a record that Composer made, so names, order and values are those of
tracer/records/record.py.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from itertools import repeat
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from tracer.handshake.durations import Durations
from tracer.records.ends import Endpoint
from tracer.records.record import Handshake, SynAck, Timing

KEPT = 4096  # keys of one kind; a piece is some 300 bytes

# No JSON text has this byte: strings escape it. A hole for a string keeps its quotes.
_NUL = "\0"
HOLE: Any = msgspec.Raw(b"\0")
TEXT_HOLE: Any = msgspec.Raw(b'"\0"')

_encoder = msgspec.json.Encoder()


def json_text(value: object) -> str:
    """A value as it stands in a line."""
    return _encoder.encode(value).decode()


def _cut(record: object) -> list[str]:
    return json_text(record).split(_NUL)


# What differs of the handshake as a whole, in the record's order: durations (Fast Open's stand elsewhere in the line)
# and the reset, whose time does.
OF_TIMING = [name for name in Timing.__struct_fields__ if name in {"reset", *(one.name for one in fields(Durations))}]
TimingPieces = tuple[str, ...]  # around each of them


class PlacePieces(NamedTuple):
    """Interface, hook, VLAN and vantage; the tunnels at the line's end."""

    begin: str
    through: str


class SynPieces(NamedTuple):
    """Around the SYN's timestamps, and the fingerprint."""

    before: str
    after: str
    p0f: str


class SynAckPieces(NamedTuple):
    """Around the SYN-ACK's numbers, from brace to brace; without a SYN-ACK `begin` is all of it."""

    begin: str
    payload_len: str = ""
    middle: str = ""
    ts_ecr: str = ""
    rest: str = ""
    end: str = ""


class TfoPieces(NamedTuple):
    """The negotiated options, and around the SYN's and the SYN-ACK's cookie (id, next field's name, cookie).

    `plain` is all of it without cookies, `after_sent` follows the SYN's cookie if the SYN-ACK has none.
    """

    plain: str
    after_sent: str
    before: str
    cookie: str
    between: str
    synack_cookie: str
    after: str


class Frame(NamedTuple):
    """The names between two numbers, the same in every line: endless iterators."""

    begin: Iterable[str]
    id: Iterable[str]
    client_ip: Iterable[str]
    client_port: Iterable[str]
    client_process: Iterable[str]
    server_ip: Iterable[str]
    server_port: Iterable[str]
    server_process: Iterable[str]
    payload_len: Iterable[str]
    ts_ecr: Iterable[str]
    delay_us: Iterable[str]
    through: Iterable[str]
    warnings: Iterable[str]
    nat: Iterable[str]
    changed_on_host: Iterable[str]
    end: Iterable[str]


@dataclass(frozen=True, slots=True)
class LinePieces:
    """One line without its numbers."""

    frame: Frame
    place: PlacePieces
    timing: TimingPieces
    syn: SynPieces
    synack: SynAckPieces
    tfo: TfoPieces
    payload: str


_ENDPOINT = Endpoint(TEXT_HOLE, HOLE, HOLE)


def cut(record: Handshake) -> LinePieces:
    """The pieces of a record's line."""
    holed = replace(
        record,
        ts=TEXT_HOLE,
        id=TEXT_HOLE,
        community_id=TEXT_HOLE,
        client=_ENDPOINT,
        server=_ENDPOINT,
        handshake=replace(record.handshake, **dict.fromkeys(OF_TIMING, HOLE)),
        syn=replace(record.syn, seq=HOLE, payload_len=HOLE, ts_val=HOLE, ts_ecr=HOLE),
        synack=HOLE,
        tfo=replace(
            record.tfo,
            cookie_id=HOLE,
            cookie=HOLE,
            synack_cookie_id=HOLE,
            synack_cookie=HOLE,
            rtt_saved_us=HOLE,
            delay_us=HOLE,
        ),
        signature=replace(record.signature, p0f=HOLE),
        through=HOLE,
        warnings=HOLE,
        nat=HOLE,
        changed_on_host=HOLE,
    )
    (
        begin, id_, place, client_ip, client_port, client_process, server_ip, server_port, server_process, *rest
    ) = _cut(holed)  # fmt: skip
    timing = rest[: len(OF_TIMING) + 1]
    payload_len, syn, ts_ecr, syn_end, *tfo, delay_us, payload, through, warnings, nat, changed, end = rest[
        len(timing) :
    ]
    return LinePieces(
        Frame(*map(repeat, (
            begin, id_, client_ip, client_port, client_process, server_ip, server_port, server_process, payload_len,
            ts_ecr, delay_us, through, warnings, nat, changed, end + "\n",
        ))),
        PlacePieces(place, json_text(record.through)),
        tuple(timing),
        SynPieces(syn, syn_end, json_text(record.signature.p0f)),
        _synack_pieces(record.synack),
        TfoPieces("null".join(tfo), "null".join(tfo[2:]), *tfo),
        payload,
    )  # fmt: skip


def _synack_pieces(synack: SynAck | None) -> SynAckPieces:
    if synack is None:
        return SynAckPieces("null")
    holed = replace(synack, seq=HOLE, payload_len=HOLE, ts_val=HOLE, ts_ecr=HOLE, acked_payload_len=HOLE)
    return SynAckPieces(*_cut(holed))


@dataclass(slots=True)
class Known:
    """Pieces of one kind, a field of LinePieces, by their keys. Full, it forgets them all."""

    kind: str
    _known: dict[Hashable, Any] = field(default_factory=dict)

    def of(self, keys: Sequence[Hashable]) -> list[Any]:
        """The pieces of each key. KeyError if one is not known."""
        known = self._known
        return [known[key] for key in keys]

    def unknown(self, keys: Sequence[Hashable]) -> Iterable[int]:
        """A row for each key that is not known."""
        if len(self._known) > KEPT:
            self._known.clear()
        known = self._known
        return {key: row for row, key in enumerate(keys) if key not in known}.values()

    def learn(self, key: Hashable, pieces: LinePieces) -> None:
        """Remember the piece of this kind."""
        self._known[key] = getattr(pieces, self.kind)

    def forget(self) -> None:
        """Forget all: something they depend on has changed."""
        self._known.clear()
