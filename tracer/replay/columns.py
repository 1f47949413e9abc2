"""Makes columns, as sinks and the dashboard's store use them, of recorded handshakes, and finds the record of a row.

A record has less than struct handshake_event (no option bytes, no cookies) and more (what only the traced host
knew). So verdicts and durations are the recorded ones, and a number in each row leads back to its record.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from ipaddress import ip_address
from threading import Lock
from typing import Any, ClassVar, TypeVar

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from tracer.dissect import options as opt
from tracer.dissect.payload import Dns, Http, Payload, Protocol, Tls
from tracer.encode.composer import Composer
from tracer.handshake import ecn
from tracer.handshake.batch import Batch, RowKinds
from tracer.handshake.causes import TWIN, Causes
from tracer.handshake.columns import BESIDE
from tracer.handshake.durations import Durations
from tracer.handshake.outcome import Verdicts
from tracer.handshake.owners import owners_of
from tracer.handshake.syn_payloads import NO_PAYLOADS
from tracer.handshake.words import WORDS
from tracer.ipc.event_header import constant, struct
from tracer.ipc.layout import Field, Struct, to_dtype
from tracer.ipc.traced import TracedInterface
from tracer.records.ends import Nat
from tracer.records.life import lived
from tracer.records.record import Handshake, Segment, SynAck, Timing
from tracer.vocabulary.addresses import sixteen_bytes
from tracer.vocabulary.vocabulary import UNSENT_HOOK, Group, Has, numbers

BLOCK_ROWS = 256  # lines that are compressed together
INTERFACES_MAX = 1 << 14  # in a recording: a file that names new ones without end would fill the memory

_EVENT, _SEGMENT = struct("handshake_event"), struct("segment_facts")
# struct handshake_event, followed by the number that leads back to the record
ROW = to_dtype(Struct(_EVENT.size + 8, [*_EVENT.fields, Field("row", _EVENT.size, "<u8")]))
_OPTIONS_MAX, NO_OFFSET = constant("TCP_OPTIONS_MAX"), constant("NO_OFFSET")
_RETX_MAX = constant("RETX_MAX")


def _alike(members: Struct, record: type[msgspec.Struct]) -> list[tuple[str, int]]:
    """The numbers that struct and record both have under one name, and their bits; null is 0 in a row."""
    names = record.__struct_fields__
    return [(one.name, 8 * one.number_size) for one in members.fields if one.name in names and one.number_size]


_COUNTS = [one for one in _alike(_EVENT, Timing) if one[0] not in ("result", "resumed")]  # words in records
_NUMBERS = _alike(_SEGMENT, Segment)
_DURATIONS = [one.name for one in fields(Durations)]
# what _row() takes from a record, in this order; everything else in a row is 0
_EVENT_MEMBERS = (
    "row", "id", "syn_ns", "synack_ns", "ack_ns", "response_ns", "settled_ns", "client", "server", "client_port",
    "server_port", "ifindex", "vlan", "family", "result", "reason", "icmp_type", "icmp_code", "icmp_from", "one_way",
    "resumed", "reset_from", "reset_ttl", "misfit_rsts", "misfit_synacks", "misfit_icmps", "retx_flags",
    *(name for name, _ in _COUNTS),
)  # fmt: skip
_SEGMENT_MEMBERS = (
    "has", "tcp_flags", "options_len", "ts_offset", "tfo_offset", "tfo_kind", "cookie_len", "options",
    *(name for name, _ in _NUMBERS),
)  # fmt: skip

# the number of each word, by the field's name
_NUMBER_OF = {name: numbers(words) for name, (words, _) in WORDS.items()}
_NUMBER_OF["tfo.group"][None] = int(Group.NOT_APPLICABLE)
del _NUMBER_OF["handshake.result"]["none"], _NUMBER_OF["handshake.settled_by"]["not"]  # no record has them
_PROTOCOLS = {value.value: value for value in Protocol}

_TS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", re.ASCII)
_ID = re.compile(r"[0-9a-f]{16}")
_PLAIN = re.compile(r"[\x20-\x7e]*")  # for what never holds a stranger's text

_SYN_FLAG = 0x02

_KINDS = {f"kind_{kind}": kind for kind in range(256)} | {name: kind for kind, name in opt.NAMES.items()}
_SUBTYPES = {opt.mptcp_subtype(number): number for number in range(16)}
_NS_PER_US = 1000


J = TypeVar("J", Verdicts, Durations, Causes)


def is_time(ts: str) -> bool:
    """Is this a time as records write it, and does it exist?"""
    if not _TS.fullmatch(ts):
        return False
    try:
        np.datetime64(ts[:-1], "ns")
    except ValueError:
        return False
    return True


class DamagedError(ValueError):
    """A record whose values do not fit together or have no place in the vocabulary."""


@dataclass(slots=True)
class InterfaceNumbers:
    """Numbers for the interfaces of a recording, by name, hook and tunnels: its own where they are free."""

    by_index: dict[int, TracedInterface] = field(default_factory=dict)
    _indexes: dict[tuple[str, str, tuple[str, ...]], int] = field(default_factory=dict)
    _next: int = 1  # every number below it is taken

    def add(self, one: TracedInterface) -> None:
        """What `start` says of an interface."""
        index = self._indexes.get((one.name, one.hook, one.through))
        if index is None:
            if len(self.by_index) >= INTERFACES_MAX:
                return
            index = one.index if one.index not in self.by_index and 0 < one.index < 1 << 32 else self._free()
            self._indexes[one.name, one.hook, one.through] = index
        self.by_index[index] = msgspec.structs.replace(one, index=index)

    def index(self, name: str | None, hook: str, through: tuple[str, ...]) -> int:
        """The number of an interface; a new one gets the next that is free. 0: no interface saw it."""
        if (name is None) != (hook == UNSENT_HOOK):
            raise DamagedError("interface or hook")
        if name is None:
            return 0
        found = self._indexes.get((name, hook, through))
        if found is None:
            if len(self.by_index) >= INTERFACES_MAX:
                raise DamagedError("more interfaces than a host has")
            found = self._indexes[name, hook, through] = self._free()
            self.by_index[found] = TracedInterface(found, name, hook, "named in recorded handshakes", through=through)
        return found

    def _free(self) -> int:
        while self._next in self.by_index:
            self._next += 1
        return self._next


@dataclass(frozen=True, slots=True)
class _Row:
    """One record taken apart."""

    event: tuple[Any, ...]  # _EVENT_MEMBERS
    syn: tuple[Any, ...]  # _SEGMENT_MEMBERS
    synack: tuple[Any, ...]
    verdict: tuple[Any, ...]  # in the order of Verdicts, and so on
    durations: tuple[float | None, ...]
    vantage: int
    causes: tuple[int | bytes, ...]
    payload: Payload | None


class BatchBuilder:
    """Makes batches of recorded handshakes. The times of a batch never go back: it was settled in that order."""

    def __init__(self) -> None:
        self.interfaces = InterfaceNumbers()
        self.settled_ns = 0  # when the last one was settled, according to its record
        self._next = 0

    def begin(self, ts: str) -> None:
        """Set the clock of the recording, unless handshakes have set it."""
        if not self.settled_ns and is_time(ts):
            self.settled_ns = max(0, int(np.datetime64(ts[:-1], "ns").astype(np.int64)))

    def batch(self, records: Sequence[Handshake]) -> tuple[Batch, list[int]]:
        """A batch of the sound records, and the places of the damaged ones."""
        rows: list[_Row] = []
        sound: list[Handshake] = []
        bad: list[int] = []
        for place, record in enumerate(records):
            try:
                rows.append(self._row(record, self._next + len(rows)))
                sound.append(record)
            except (ValueError, KeyError, OverflowError):  # noqa: PERF203 - one that is damaged must not cost the others
                bad.append(place)
        self._next += len(rows)
        events = np.zeros(len(rows), ROW)
        if rows:
            _fill(events, _EVENT_MEMBERS, [row.event for row in rows])
            _fill(events["syn"], _SEGMENT_MEMBERS, [row.syn for row in rows])
            _fill(events["synack"], _SEGMENT_MEMBERS, [row.synack for row in rows])
            events["settled_ns"] = np.maximum(np.maximum.accumulate(events["settled_ns"]), np.uint64(self.settled_ns))
            self.settled_ns = int(events["settled_ns"][-1])
        carried, numbers = [row.payload is not None for row in rows], np.arange(1, 1 + len(rows), dtype=np.uint32)
        batch = Batch(
            events,
            _judged(Verdicts, "verdicts", [row.verdict for row in rows]),
            _judged(Durations, "durations", [row.durations for row in rows]),
            np.array([row.vantage for row in rows], np.uint8),
            NO_PAYLOADS,
            _judged(Causes, "causes", [row.causes for row in rows]),
            RowKinds(np.where(carried, numbers, 0), [None, *(row.payload for row in rows)]),
            owners_of(sound),
        )
        return batch, bad

    def _row(self, record: Handshake, number: int) -> _Row:
        timing, tfo, code = record.handshake, record.tfo, _NUMBER_OF
        if not _TS.fullmatch(record.ts) or not _ID.fullmatch(record.id):
            raise DamagedError("ts or id")
        if not _PLAIN.fullmatch(record.community_id) or not _PLAIN.fullmatch(record.signature.p0f):
            raise DamagedError("community_id or signature")
        syn_ns = int(np.datetime64(record.ts[:-1], "ns").astype(np.int64))
        if not 0 <= syn_ns < 1 << 62 or len(record.vlan) > 2:
            raise DamagedError("ts or vlan")
        synack_ns = syn_ns + _ns(tfo.delay_us) + _ns(timing.synack_delay_us) if record.synack is not None else 0
        ack_ns = synack_ns + _ns(timing.ack_delay_us) if timing.ack_delay_us is not None else 0
        response_ns = syn_ns + _ns(timing.first_response_us) if timing.first_response_us is not None else 0
        icmp, reset = timing.icmp, timing.reset
        misfits = msgspec.structs.astuple(timing.misfits) if timing.misfits is not None else (0, 0, 0)
        event = (
            number, int(record.id, 16), syn_ns, synack_ns, ack_ns, response_ns,
            max(syn_ns, synack_ns, ack_ns, response_ns), _address(record.client.ip), _address(record.server.ip),
            _within(record.client.port, 16), _within(record.server.port, 16),
            self.interfaces.index(record.interface, record.hook, record.through),
            tuple(_within(vid, 16) for vid in (*record.vlan, 0, 0)[:2]), 6 if ":" in record.client.ip else 4,
            code["handshake.result"][timing.result], code["handshake.settled_by"][timing.settled_by],
            _within(icmp.type, 8) if icmp is not None else 0, _within(icmp.code, 8) if icmp is not None else 0,
            _address(icmp.from_) if icmp is not None and icmp.from_ is not None else bytes(16),
            tfo.outcome is None or (timing.result == "established" and record.synack is None),
            code["handshake.resumed"][timing.resumed],
            code["handshake.reset.from"][reset.from_] if reset is not None else 0,
            _within(reset.ttl, 8) if reset is not None else 0,
            *(_within(number, 8) for number in misfits),
            _retx_flags(timing.answered_syn or 0, timing.answered_ecn), *_numbers_of(timing, _COUNTS),
        )  # fmt: skip
        syn = _segment(record.syn, _SYN_FLAG | ecn.SYN_FLAGS[record.syn.ecn], tfo.kind, tfo.cookie_len)
        synack = _synack(record.synack, tfo.synack_kind, tfo.synack_cookie_len)
        durations = tuple(_duration(record, name) for name in _DURATIONS)
        for duration in durations:
            _ns(duration)  # only that it is within its range
        acked = record.synack.acked_payload_len if record.synack is not None else 0
        attempted = tfo.kind is not None or record.syn.payload_len > 0
        verdict = (
            code["tfo.request"][tfo.request], code["tfo.outcome"][tfo.outcome], code["tfo.group"][tfo.group],
            attempted, _within(acked, 32), tfo.delay_us, timing.answered_syn or 0,
            code["handshake.after"][timing.after], lived(timing),
        )  # fmt: skip
        causes = (
            code["tfo.cause"][tfo.cause], code["tfo.cause_confidence"][tfo.cause_confidence],
            code["tfo.cookie_check"][tfo.cookie_check], code["tfo.client_fail"][tfo.client_fail],
            code["handshake.cause"][timing.cause], code["handshake.cause_confidence"][timing.cause_confidence],
            code["handshake.cause_at"][timing.cause_at], 0, 0, 0, _nat(record.nat), 0,
        )  # fmt: skip
        vantage = code["vantage"][record.vantage]
        return _Row(event, syn, synack, verdict, durations, vantage, causes, _payload(record))


def _duration(record: Handshake, name: str) -> float | None:
    timing = record.handshake
    if name == "reset_after_us":
        return None if timing.reset is None else timing.reset.after_us
    value: float | None = getattr(timing if hasattr(timing, name) else record.tfo, name)
    return value


def _retx_flags(answered_syn: int, asked: str | None) -> bytes:
    """The flags of the SYN that was answered, unless it is the first, which has its own."""
    place = min(_within(answered_syn, 8), 1 + _RETX_MAX)
    flags = ecn.retx_flags(asked) if asked is not None else 0
    return bytes(flags if number == place else 0 for number in range(2, 2 + _RETX_MAX))


def _fill(rows: NDArray[np.void], members: Sequence[str], values: Sequence[tuple[Any, ...]]) -> None:
    """Fill members of rows, column by column; bytes become numbers."""
    for name, column in zip(members, zip(*values, strict=True), strict=True):
        if isinstance(column[0], bytes):
            rows[name] = np.frombuffer(b"".join(column), np.uint8).reshape(len(column), -1)
        else:
            rows[name] = column


def _numbers_of(record: msgspec.Struct, names: Sequence[tuple[str, int]]) -> Iterator[int]:
    """Numbers of a record, each within its bits; null as 0."""
    return (_within(getattr(record, name) or 0, bits) for name, bits in names)


def _within(value: int, bits: int) -> int:
    if not 0 <= value < 1 << bits:
        raise DamagedError("a number beyond its range")
    return value


def _ns(duration_us: float | None) -> int:
    if duration_us is None:
        return 0
    if not 0 <= duration_us < 1e12:
        raise DamagedError("a duration beyond its range")
    return round(duration_us * _NS_PER_US)


@lru_cache(maxsize=65536)
def _address(text: str) -> bytes:
    if not _PLAIN.fullmatch(text) or "%" in text:
        raise DamagedError("address")
    return sixteen_bytes(ip_address(text).packed)


def _synack(synack: SynAck | None, kind: int | None, cookie_len: int | None) -> tuple[Any, ...]:
    if synack is None:
        return _NO_SEGMENT
    return _segment(synack, _SYN_FLAG | ecn.ACK | ecn.SYNACK_FLAGS[synack.ecn], kind, cookie_len)


def _segment(one: Segment, flags: int, kind: int | None, cookie_len: int | None) -> tuple[Any, ...]:
    has = Has.SEGMENT.value
    for flag, present in (
        (Has.MSS, one.mss is not None), (Has.WSCALE, one.wscale is not None), (Has.SACK, one.sack_permitted),
        (Has.TIMESTAMPS, one.ts_val is not None), (Has.TFO, kind is not None), (Has.MPTCP, "mptcp" in one.options),
        (Has.MD5, one.md5), (Has.AO, one.ao),
    ):  # fmt: skip
        has |= flag.value if present else 0
    options = _option_bytes(one.options, one.mptcp, kind)
    return (
        has, flags, len(options), NO_OFFSET, NO_OFFSET, _within(kind or 0, 8), _within(cookie_len or 0, 8),
        options.ljust(_OPTIONS_MAX, b"\0"), *_numbers_of(one, _NUMBERS),
    )  # fmt: skip


_NO_SEGMENT = (0, 0, 0, NO_OFFSET, NO_OFFSET, 0, 0, bytes(_OPTIONS_MAX), *(0 for _ in _NUMBERS))


@lru_cache(maxsize=16384)
def _option_bytes(names: tuple[str, ...], mptcp: str | None, tfo_kind: int | None) -> bytes:
    """The shortest options with these names in this order: columns of option names are read from them."""
    if mptcp not in (None, *_SUBTYPES):
        raise DamagedError("an MPTCP subtype that there is not")
    found = bytearray()
    for name in names:
        if name in ("eol", "nop"):
            found.append(_KINDS[name])
        elif name == opt.TFO_EXPERIMENTAL:
            kind = tfo_kind if tfo_kind in opt.EXPERIMENTS else opt.EXPERIMENTS[1]
            found += bytes((kind, 4)) + opt.TFO_MAGIC.to_bytes(2, "big")
        elif name == "mptcp" and mptcp is not None:
            found += bytes((opt.MPTCP, 3, _SUBTYPES[mptcp] << 4))
            mptcp = None  # of the first one
        else:
            found += bytes((_KINDS[name], 2))
    if len(found) > _OPTIONS_MAX:
        raise DamagedError("more options than fit a header")
    return bytes(found)


def _nat(nat: Nat | None) -> bytes:
    """As a TWIN."""
    if nat is None:
        return bytes(TWIN.itemsize)
    if not _ID.fullmatch(nat.id):
        raise DamagedError("id of the other side")
    twin = np.zeros(1, TWIN)
    twin["id"] = int(nat.id, 16)
    for name, end in (("client", nat.client), ("server", nat.server)):
        twin[name] = np.frombuffer(_address(end.ip), np.uint8)
        twin[f"{name}_port"] = _within(end.port, 16)
    return twin.tobytes()


def _payload(record: Handshake) -> Payload | None:
    info = record.payload
    if info is None or not info.captured:
        return None
    tls, http, dns = record.tls, record.http, record.dns
    return Payload(
        _PROTOCOLS[info.protocol or "other"],
        bool(info.truncated),
        Tls(tls.sni, tls.alpn, tls.ech) if tls is not None else None,
        Http(http.method, http.host) if http is not None else None,
        Dns(dns.name, dns.type) if dns is not None else None,
    )


def _judged(kind: type[J], name: str, rows: Sequence[tuple[Any, ...]]) -> J:
    """Columns from what each row has for them; None becomes NaN."""
    columns = [one.name for one in fields(kind)]
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    return kind(*(np.array(one, BESIDE[f"{name}.{column}"]) for column, one in zip(columns, values, strict=True)))


@dataclass(frozen=True, slots=True)
class _Block:
    first: int
    data: bytes


class RecordedComposer(Composer):
    """Gives the recorded records back. The newest `keep` stay, compressed; older ones are composed from their columns.

    One thread adds, any thread composes.
    """

    columns_tell_all: ClassVar[bool] = False

    def __init__(self, interfaces: InterfaceNumbers, keep: int) -> None:
        super().__init__(interfaces.by_index)
        self._keep = keep
        self._lock = Lock()
        self._blocks: deque[_Block] = deque()
        self._open: list[bytes] = []
        self._open_first = 0
        self._latest: dict[int, Handshake] = {}
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._decoder = msgspec.json.Decoder(Handshake)

    def add(self, batch: Batch, records: Iterable[Handshake], lines: Iterable[bytes]) -> None:
        """The records of a batch and the lines they came from, in its order."""
        numbers = batch.events["row"].tolist()
        with self._lock:
            self._latest = dict(zip(numbers, records, strict=True))
            if not self._keep:
                return
            self._open.extend(lines)
            while len(self._open) >= BLOCK_ROWS:
                data = self._compressor.compress(b"\n".join(self._open[:BLOCK_ROWS]))
                self._blocks.append(_Block(self._open_first, data))
                del self._open[:BLOCK_ROWS]
                self._open_first += BLOCK_ROWS
            while len(self._blocks) * BLOCK_ROWS > self._keep + 2 * BLOCK_ROWS:
                self._blocks.popleft()

    def _part(self, batch: Batch) -> Iterator[Handshake]:
        numbers = batch.events["row"].tolist()
        latest = self._latest
        if all(number in latest for number in numbers):
            return iter([latest[number] for number in numbers])
        return self._stored(batch, numbers)

    def _stored(self, batch: Batch, numbers: list[int]) -> Iterator[Handshake]:
        lines: dict[int, bytes] = {}
        with self._lock:
            blocks, opened, open_first = list(self._blocks), list(self._open), self._open_first
        starts = [block.first for block in blocks]
        for number in numbers:
            if number in lines:
                continue
            if number >= open_first:
                lines[number] = opened[number - open_first]
            elif blocks and number >= starts[0]:
                block = blocks[bisect_right(starts, number) - 1]
                found = zstandard.ZstdDecompressor().decompress(block.data).split(b"\n")
                lines.update(enumerate(found, block.first))
        for place, number in enumerate(numbers):
            line = lines.get(number)
            if line is not None:
                yield self._decoder.decode(line)
            else:
                yield next(super()._part(batch.rows(place, place + 1)))
