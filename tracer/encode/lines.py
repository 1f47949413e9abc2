"""Makes the JSON lines of a batch from its columns, byte for byte as if each record were composed and encoded.

PlainLines is the definition: compose a record, encode it. Lines takes a quarter less time: it caches what repeats from
line to line (line_pieces.py) and writes only what differs, as columns of texts. A row with a new piece is composed,
and its pieces are cached; a part with many such rows (a flood of strangers) is written by PlainLines.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import fields
from functools import cache
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from tracer.encode.composer import PART_MAX, Composer, nats, template_keys
from tracer.encode.line_pieces import (
    OF_TIMING,
    Frame,
    Known,
    PlacePieces,
    SynAckPieces,
    SynPieces,
    TfoPieces,
    TimingPieces,
    cut,
)
from tracer.encode.line_pieces import json_text as encoded
from tracer.handshake.batch import Batch
from tracer.handshake.community_id import community_ids
from tracer.handshake.durations import Durations
from tracer.handshake.ecn import asked_no_more
from tracer.handshake.events import Events, byte_rows, distinct, has
from tracer.handshake.life import request_acked
from tracer.handshake.outcome import cookie_rows, first_answers, first_cookie_rows
from tracer.handshake.owners import processes
from tracer.handshake.payloads import payload_rows
from tracer.handshake.rows import Place
from tracer.handshake.warnings import warning_words
from tracer.handshake.words import WORDS
from tracer.ipc.event_header import struct
from tracer.records.ends import Process
from tracer.records.record import Timing
from tracer.vocabulary.addresses import ip_text
from tracer.vocabulary.vocabulary import HandshakeResult, Has

LEARNED_MAX = 64  # rows of a batch that may be composed to learn from
BLOCK_LINES = 256  # joined at a time: half a megabyte fits the processor's cache and stays below allocator.MMAP_FROM
NULL = "null"
COOKIES_KEPT = 4096
REPR_BELOW = 1e16

_encoder = msgspec.json.Encoder()


class LineMaker(Protocol):
    """Makes the lines of a batch."""

    def lines(self, batch: Batch) -> Iterator[bytes]: ...


class PlainLines:
    """Each record composed and encoded."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer

    def lines(self, batch: Batch) -> Iterator[bytes]:
        """One line a handshake, in the batch's order, some at a time."""
        # not Encoder.encode_lines(), which in msgspec 0.22 never frees an iterator, nor the columns behind it
        records = self._composer.compose(batch)
        while block := b"".join([_encoder.encode(record) + b"\n" for record in islice(records, BLOCK_LINES)]):
            yield block


def line_maker(composer: Composer) -> LineMaker:
    """Lines, if columns give the same as records."""
    return Lines(composer) if composer.columns_tell_all else PlainLines(composer)


# what the pieces of a line depend on, by row: a column for each kind, in the order of _Pieces
_Keys = tuple[Sequence[Hashable], ...]


class _Pieces(NamedTuple):
    """By row, the pieces of a line."""

    place: list[PlacePieces]
    timing: list[TimingPieces]
    syn: list[SynPieces]
    synack: list[SynAckPieces]
    tfo: list[TfoPieces]
    payload: list[str]


class Lines:
    """Lines put together from known pieces; rows with others are composed."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer
        self._plain = PlainLines(composer)
        self._frame: Frame | None = None
        self._interfaces: dict[int, Place] = {}
        self._sent: dict[bytes, str] = {}
        self._returned: dict[bytes, str] = {}
        self._known = [Known(kind) for kind in _Pieces._fields]

    def lines(self, batch: Batch) -> Iterator[bytes]:
        """One line a handshake, in the batch's order, some at a time."""
        for start in range(0, len(batch), PART_MAX):
            yield from self._part(batch.rows(start, start + PART_MAX))

    def _part(self, batch: Batch) -> Iterator[bytes]:
        self._forget_renamed(batch.events)
        keys = _keys(batch)
        try:
            pieces = self._find(keys)
        except KeyError:
            if not self._learn(batch, keys):
                yield from self._plain.lines(batch)
                return
            pieces = self._find(keys)
        lines = map("".join, zip(*self._columns(batch, pieces), strict=False))  # the names never end
        while block := "".join(islice(lines, BLOCK_LINES)):
            yield block.encode()

    # --- pieces ---

    def _forget_renamed(self, events: Events) -> None:
        """Only what is said of interfaces can change what a piece is without changing its key."""
        known = self._interfaces
        for index in distinct(events["ifindex"]).tolist():
            name = self._composer.interface(index)
            if known.setdefault(index, name) != name:
                self._known[0].forget()  # place
                self._interfaces = {index: name}
                return

    def _find(self, keys: _Keys) -> _Pieces:
        return _Pieces(*(known.of(column) for known, column in zip(self._known, keys, strict=True)))

    def _learn(self, batch: Batch, keys: _Keys) -> bool:
        """Compose rows that have something new. False if there are too many of them."""
        new: set[int] = set()
        for known, column in zip(self._known, keys, strict=True):
            new.update(known.unknown(column))
        rows = sorted(new)[:LEARNED_MAX]
        records = self._composer.compose(batch.select(np.array(rows, np.intp)))
        for row, record in zip(rows, records, strict=True):
            pieces = cut(record)
            self._frame = pieces.frame
            for known, column in zip(self._known, keys, strict=True):
                known.learn(column[row], pieces)
        return len(new) <= LEARNED_MAX

    # --- what is between them ---

    def _columns(self, batch: Batch, pieces: _Pieces) -> list[Iterable[str]]:
        """The texts of lines from left to right, a column each."""
        assert self._frame is not None  # it was learned with the first pieces
        frame = self._frame
        # zip(*...) would make an iterator for each row
        first_timing, *timings = ([piece[part] for piece in pieces.timing] for part in range(len(OF_TIMING) + 1))
        syn_middle, syn_rest, p0f = ([piece[part] for piece in pieces.syn] for part in range(3))
        place, through = ([piece[part] for piece in pieces.place] for part in range(2))
        events, syn = batch.events, batch.events["syn"]
        stamped = has(syn["has"], Has.TIMESTAMPS)
        client_processes, server_processes = processes(batch, self._composer.cgroups)
        us = _durations(batch.durations) | {"reset": self._resets(batch)}
        return [
            frame.begin, self._composer.times(events),
            frame.id, _ids(events),
            place,
            community_ids(events["client"], events["server"], events["client_port"], events["server_port"]),
            frame.client_ip, _addresses(events["client"]),
            frame.client_port, _numbers(events["client_port"]),
            frame.client_process, _process_texts(client_processes),
            frame.server_ip, _addresses(events["server"]),
            frame.server_port, _numbers(events["server_port"]),
            frame.server_process, _process_texts(server_processes),
            first_timing, *chain.from_iterable(zip((us[name] for name in OF_TIMING), timings, strict=True)),
            _numbers(syn["seq"]),
            frame.payload_len, _numbers(syn["payload_len"]),
            syn_middle, _numbers_or_null(syn["ts_val"], stamped),
            frame.ts_ecr, _numbers_or_null(syn["ts_ecr"], stamped),
            syn_rest, _synacks(batch, pieces.synack),
            self._tfos(events, pieces.tfo), us["rtt_saved_us"],
            frame.delay_us, us["delay_us"],
            pieces.payload, p0f,
            frame.through, through,
            frame.warnings, map(_warning_text, self._composer.warnings(events)),
            frame.nat, [NULL if nat is None else encoded(nat) for nat in nats(batch)],
            frame.changed_on_host, self._changed(batch),
            frame.end,
        ]  # fmt: skip

    def _tfos(self, events: Events, pieces: list[TfoPieces]) -> list[str]:
        """From the negotiated options to what stands before rtt_saved_us."""
        texts = [piece.plain for piece in pieces]
        syn, answer = events["syn"], first_answers(events)
        sent = self._cookies(
            has(syn["has"], Has.TFO) & (syn["cookie_len"] > 0), lambda: cookie_rows(syn), self._sent, pieces[0].cookie
        )
        returned = self._cookies(
            has(answer.has, Has.TFO) & (answer.cookie_len > 0), lambda: first_cookie_rows(events), self._returned,
            pieces[0].synack_cookie,
        )  # fmt: skip
        for row, text in sent.items():
            texts[row] = f"{pieces[row].before}{text}{pieces[row].after_sent}"
        for row, text in returned.items():
            piece = pieces[row]
            none = f"{NULL}{piece.cookie}{NULL}"
            texts[row] = f"{piece.before}{sent.get(row, none)}{piece.between}{text}{piece.after}"
        return texts

    def _changed(self, batch: Batch) -> list[str]:
        numbers = batch.causes.changed
        texts = {number: encoded(self._composer.changes[number]) for number in distinct(numbers).tolist()}
        return [texts[number] for number in numbers.tolist()]

    def _resets(self, batch: Batch) -> list[str]:
        return [NULL if reset is None else encoded(reset) for reset in self._composer.resets(batch)]

    def _cookies(
        self, there: NDArray[np.bool_], read: Callable[[], list[bytes]], known: dict[bytes, str], name: str
    ) -> dict[int, str]:
        """By row with a cookie: its id, `name`, and the cookie if it is shown."""
        rows = np.flatnonzero(there).tolist()
        if not rows:
            return {}
        cookies = read()
        try:
            return {row: known[cookies[row]] for row in rows}
        except KeyError:
            if len(known) > COOKIES_KEPT:
                known.clear()
            composer = self._composer
            for cookie in {cookies[row] for row in rows} - known.keys():
                shown = f'"{cookie.hex()}"' if composer.show_cookies else NULL
                known[cookie] = f'"{composer.cookie_id(cookie)}"{name}{shown}'
            return {row: known[cookies[row]] for row in rows}


# --- keys: all that the pieces between two numbers depend on ---


# These are written between the pieces. All other facts about a handshake as a whole belong to a key: so the value of
# a new field is right from the start, and its pieces repeat as often as its values do.
_WRITTEN = frozenset({
    "id", "syn_ns", "synack_ns", "ack_ns", "request_ns", "response_ns", "settled_ns", "client_port", "server_port",
    "ifindex", "ack_ts_ecr", "client_socket", "server_socket", "reset_ttl",
})  # fmt: skip
_OF_EVENT = [
    one.name
    for one in struct("handshake_event").fields
    if one.number_size and (one.name not in _WRITTEN or one.name in Timing.__struct_fields__)
]
_WORDS = [numbers for name, (_, numbers) in WORDS.items() if name.startswith("handshake.")]
_OF_TFO = ("request", "outcome", "group")
_CAUSES = ("cause", "confidence", "cookie_check")
_OF_OPTION = ("has", "tfo_kind", "cookie_len")


def _senders(events: Events) -> tuple[NDArray[Any], ...]:
    """Who sent the ICMP error, as two words, where there is any."""
    if not (events["result"] == HandshakeResult.UNREACHABLE).any():
        return ()
    words = np.ascontiguousarray(events["icmp_from"]).view("<u8")
    return words[:, 0], words[:, 1]


def _packed(*columns: NDArray[Any]) -> list[bytes]:
    """One bytes object a row, equal where all columns are equal."""
    dtype = np.dtype([(f"f{at}", column.dtype) for at, column in enumerate(columns)])
    rows = np.empty(len(columns[0]), dtype)
    for at, column in enumerate(columns):
        rows[f"f{at}"] = column
    found: list[bytes] = rows.view(f"V{dtype.itemsize}").tolist()
    return found


def _keys(batch: Batch) -> _Keys:
    events = batch.events
    family = events["family"]
    place, timing, tfo, after_delay = keys_of_words(batch)
    return (
        place, timing, template_keys(events["syn"], family), template_keys(events["synack"], family), tfo, after_delay,
    )  # fmt: skip


def keys_of_words(batch: Batch) -> _Keys:
    """By row, what all depends on that a record says in words: the place, the handshake, Fast Open, the SYN's data."""
    events = batch.events
    syn, synack, vlan = events["syn"], events["synack"], events["vlan"]
    answer = first_answers(events)
    return (
        _packed(events["ifindex"], vlan[:, 0], vlan[:, 1], batch.vantage),
        _packed(
            *(events[name] for name in _OF_EVENT),
            *_senders(events),
            *(numbers(batch) for numbers in _WORDS),
            batch.verdicts.answered_syn,
            request_acked(events),
            batch.causes.drop,
            batch.causes.listener,
        ),
        _packed(
            *(getattr(batch.verdicts, name) for name in _OF_TFO),
            *(getattr(batch.causes, name) for name in _CAUSES),
            *(syn[name] for name in _OF_OPTION),
            *(getattr(answer, name) for name in _OF_OPTION),
            synack["has"],
            syn["tcp_flags"],
            synack["tcp_flags"],
            asked_no_more(events, batch.verdicts.answered_syn),
        ),
        _after_delay(batch),
    )


def _after_delay(batch: Batch) -> Sequence[Hashable]:
    """Keys of what stands between delay_us and the fingerprint."""
    payloads, fails = payload_rows(batch), batch.causes.client_fail
    return [*zip(payloads, fails.tolist(), strict=True)] if fails.any() else payloads


# --- columns of texts ---


@cache
def _warning_text(mask: int) -> str:
    return encoded(warning_words(mask))


def _ids(events: Events) -> list[str]:
    digits = events["id"].astype(">u8").tobytes().hex()
    return [digits[at : at + 16] for at in range(0, len(digits), 16)]


def _addresses(column: NDArray[np.uint8]) -> Iterable[str]:
    return map(ip_text, byte_rows(column))


def _process_texts(found: list[Process | None]) -> list[str]:
    texts = {id(process): encoded(process) for process in {id(one): one for one in found}.values()}
    return [texts[id(process)] for process in found]


def _durations(durations: Durations) -> dict[str, list[str]]:
    """Microseconds as Composer rounds them, null where they are not known, by the column's name."""
    names = [one.name for one in fields(Durations) if one.name != "reset_after_us"]
    rounded = np.round([getattr(durations, name) for name in names], 3)
    known = ~np.isnan(rounded)
    # Python and msgspec write the same, except for durations of centuries
    text: Callable[[float], str] = repr if not (np.abs(rounded) >= REPR_BELOW).any() else encoded
    found: dict[str, list[str]] = {}
    for name, column, there in zip(names, rounded, known, strict=True):
        rtt_is = _same_as_rtt(durations) if name == "rtt_us" else None
        if rtt_is is not None:
            found[name] = found[rtt_is]
        elif there.all():
            found[name] = [*map(text, column.tolist())]
        else:
            texts = found[name] = [NULL] * len(column)
            for row, value in zip(np.flatnonzero(there).tolist(), column[there].tolist(), strict=True):
                texts[row] = text(value)
    return found


def _same_as_rtt(durations: Durations) -> str | None:
    """The delay that equals the round trip of all rows, as when all of them are seen from one end."""
    for name in ("ack_delay_us", "synack_delay_us"):
        if np.array_equal(durations.rtt_us, getattr(durations, name), equal_nan=True):
            return name
    return None


def _numbers(column: NDArray[Any]) -> Iterable[str]:
    return map(str, column.tolist())


def _numbers_or_null(column: NDArray[Any], known: NDArray[np.bool_]) -> list[str]:
    texts = list(_numbers(column))
    for row in np.flatnonzero(~known).tolist():
        texts[row] = NULL
    return texts


def _synacks(batch: Batch, pieces: list[SynAckPieces]) -> list[str]:
    synack = batch.events["synack"]
    stamped = has(synack["has"], Has.TIMESTAMPS)
    return [
        f"{begin}{seq}{len_name}{length}{middle}{ts_val}{ts_ecr_name}{ts_ecr}{rest}{acked}{end}" if end else begin
        for (begin, len_name, middle, ts_ecr_name, rest, end), seq, length, ts_val, ts_ecr, acked in zip(
            pieces, synack["seq"].tolist(), synack["payload_len"].tolist(), _numbers_or_null(synack["ts_val"], stamped),
            _numbers_or_null(synack["ts_ecr"], stamped), batch.verdicts.acked_payload_len.tolist(), strict=True,
        )
    ]  # fmt: skip
