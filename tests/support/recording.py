"""Handshake records with their payloads in a file, as drained by a run, for tests and pictures without a kernel.

The file is numpy's .npz. It has real cookies and payloads: record the lab, not people.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import msgspec
import numpy as np

from tests.support.events import event_dtype
from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch
from tracer.handshake.causes import Causes
from tracer.handshake.durations import measure
from tracer.handshake.events import U8, Events
from tracer.handshake.outcome import judge
from tracer.handshake.syn_payloads import SynPayload, SynPayloads
from tracer.ipc.traced import TracedInterface
from tracer.records.run import Balance, End, Start
from tracer.store.store import Store

_FORMAT = 1
_NS_PER_S = 1_000_000_000


class _Head(msgspec.Struct, frozen=True):
    """What is not an array."""

    format: int
    start: Start
    balance: Balance
    counters: dict[str, int]
    host_counters: dict[str, int]
    sysctls: dict[str, str]


@dataclass(frozen=True, slots=True)
class Recording:
    """Records as drained, batch by batch with their vantages, and facts about the run."""

    batches: Sequence[tuple[Events, U8]]
    payloads: Sequence[SynPayload]
    start: Start
    balance: Balance
    counters: Mapping[str, int]
    host_counters: Mapping[str, int]
    sysctls: Mapping[str, str]

    @classmethod
    def of(
        cls,
        batches: Iterable[Batch],
        start: Start,
        end: End,
        host_counters: Mapping[str, int] | None = None,
        sysctls: Mapping[str, str] | None = None,
    ) -> Recording:
        """What a sink was given between start and close."""
        assert end.balance is not None  # only a replay can lack it
        kept = list(batches)
        return cls(
            [(batch.events, batch.vantage) for batch in kept],
            [payload for batch in kept for payload in batch.payloads.values()],
            start,
            end.balance,
            end.counters,
            host_counters or {},
            sysctls or {},
        )

    def __len__(self) -> int:
        return sum(len(events) for events, _ in self.batches)

    def decoded(self) -> Iterator[Batch]:
        """The batches as sinks get them, judged again, so that a recording outlives the rules."""
        payloads = SynPayloads.of(self.payloads)
        for events, vantage in self.batches:
            verdicts = judge(events)
            yield Batch(
                events,
                verdicts,
                measure(events, verdicts, vantage),
                vantage,
                payloads,
                Causes.none(len(events)),
            )

    @property
    def interfaces(self) -> dict[int, TracedInterface]:
        """The traced interfaces by index, as a composer wants them."""
        return {
            one.index: TracedInterface(
                one.index, one.name, one.hook, one.why, list(one.others), list(one.warnings), one.group
            )
            for one in self.start.interfaces
        }

    @property
    def begin_ns(self) -> int:
        """The first SYN's time, nanoseconds of the recorded CLOCK_MONOTONIC; 0 without records."""
        return min((int(events["syn_ns"].min()) for events, _ in self.batches if len(events)), default=0)

    @property
    def end_ns(self) -> int:
        """When the last record was settled, nanoseconds of the recorded CLOCK_MONOTONIC; 0 without records."""
        return max((int(events["settled_ns"].max()) for events, _ in self.batches if len(events)), default=0)


def save(path: Path, recording: Recording) -> None:
    """Write a recording, compressed. Raises OSError, and ValueError if there is no record in it."""
    kept = [(events, vantage) for events, vantage in recording.batches if len(events)]
    if not kept:
        raise ValueError("nothing was recorded")
    head = _Head(
        _FORMAT,
        recording.start,
        recording.balance,
        dict(recording.counters),
        dict(recording.host_counters),
        dict(recording.sysctls),
    )
    payloads = recording.payloads
    np.savez_compressed(
        path,
        head=np.frombuffer(msgspec.json.encode(head), np.uint8),
        lengths=np.array([len(events) for events, _ in kept], np.int64),
        events=np.concatenate([events for events, _ in kept]),
        vantages=np.concatenate([vantage for _, vantage in kept]),
        payload_ids=np.array([one.id for one in payloads], np.uint64),
        payload_syn_ns=np.array([one.syn_ns for one in payloads], np.uint64),
        payload_wire_lens=np.array([one.wire_len for one in payloads], np.int64),
        payload_lens=np.array([len(one.data) for one in payloads], np.int64),
        payload_data=np.frombuffer(b"".join(one.data for one in payloads), np.uint8),
    )


def load(path: Path) -> Recording:
    """Read what `save` wrote. Raises OSError, and ValueError for anything else than a recording."""
    try:
        with np.load(path, allow_pickle=False) as found:
            return _recording({name: found[name] for name in found.files})
    except (BadZipFile, EOFError, KeyError, TypeError, AttributeError, msgspec.MsgspecError, ValueError) as error:
        raise ValueError(f"{path} is no recording of handshakes: {error}") from None


def _recording(found: dict[str, np.ndarray]) -> Recording:
    head = msgspec.json.decode(found["head"].tobytes(), type=_Head)
    if head.format != _FORMAT:
        raise ValueError(f"format {head.format} instead of {_FORMAT}")
    ends = np.cumsum(found["lengths"])[:-1]
    batches = list(zip(np.split(_current(found["events"]), ends), np.split(found["vantages"], ends), strict=True))
    data = found["payload_data"].tobytes()
    payloads = [
        SynPayload(id_, syn_ns, wire_len, data[end - length : end])
        for id_, syn_ns, wire_len, length, end in zip(
            found["payload_ids"].tolist(),
            found["payload_syn_ns"].tolist(),
            found["payload_wire_lens"].tolist(),
            found["payload_lens"].tolist(),
            np.cumsum(found["payload_lens"]).tolist(),
            strict=True,
        )
    ]
    return Recording(batches, payloads, head.start, head.balance, head.counters, head.host_counters, head.sysctls)


def _current(events: Events) -> Events:
    """Records as the programs send them now: members that came later are 0."""
    found = np.zeros(len(events), event_dtype())
    _copy(events, found)
    return found


def _copy(old: Events, new: Events) -> None:
    for name in old.dtype.names or ():
        if old.dtype[name].names:
            _copy(old[name], new[name])
        else:
            new[name] = old[name]


def recorded_store(path: Path, *, limit: int = 100_000, ended: bool = False) -> Store:
    """A store with a whole recording; its clock is stopped a second after the last record was settled.

    Raises OSError, and ValueError if `path` is no recording.
    """
    recording = load(path)
    composer = Composer(recording.interfaces, offset_ns=recording.start.boot_clock_offset_ns)
    clock = _Clock(recording.begin_ns)
    store = Store(limit, composer=composer, clock=clock, refresh_ns=0)
    store.start(recording.start)
    if recording.sysctls:
        store.set_host(dict.fromkeys(recording.host_counters, 0), recording.sysctls)
        store.set_host(recording.host_counters, recording.sysctls)
    for batch in recording.decoded():
        store.write(batch)
    store.set_balance(recording.balance, recording.counters)
    clock.now_ns = recording.end_ns + _NS_PER_S
    if ended:
        store.end("asked")
    return store


@dataclass(slots=True)
class _Clock:
    """A stopped clock."""

    now_ns: int

    def __call__(self) -> int:
        return self.now_ns
