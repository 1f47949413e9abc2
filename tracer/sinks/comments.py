"""The comments of a batch from its columns, the same as if each record were composed.

`comment.comment` is the definition. Of handshakes that went as usual, which are most, only durations, processes and
ids differ; the words between them repeat and are remembered. All others are composed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from tracer.encode.composer import Composer
from tracer.encode.lines import keys_of_words
from tracer.handshake.batch import Batch
from tracer.handshake.community_id import community_ids
from tracer.handshake.durations import Durations
from tracer.handshake.events import distinct, nullable
from tracer.handshake.life import misfits
from tracer.handshake.owners import processes
from tracer.handshake.rows import Place
from tracer.records.ends import Process
from tracer.records.fate import holder
from tracer.sinks.comment import Words, comment, filled, words
from tracer.vocabulary.vocabulary import HandshakeResult

KEPT = 8192  # of each kind of handshake, and each name that a SYN asks for; some 500 bytes each


class Comments:
    """Makes comments; remembers the words of usual handshakes. Full, it forgets them all."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer
        self._known: dict[Hashable, Words] = {}
        self._interfaces: dict[int, Place] = {}

    def of(self, batch: Batch) -> list[str]:
        """One comment a handshake, in the batch's order."""
        if not self._composer.columns_tell_all:
            return [comment(record) for record in self._composer.compose(batch)]
        found = [""] * len(batch)
        usual = self._usual(batch)
        for row, text in self._composed(batch, np.flatnonzero(~usual)):
            found[row] = text
        rows = np.flatnonzero(usual)
        if len(rows):
            for row, text in zip(rows.tolist(), self._filled(batch.select(rows)), strict=True):
                found[row] = text
        return found

    def _usual(self, batch: Batch) -> NDArray[np.bool_]:
        """Established at the first attempt, and nothing came that does not belong to it."""
        events, causes = batch.events, batch.causes
        found: NDArray[np.bool_] = events["result"] == HandshakeResult.ESTABLISHED
        for name in ("syn_count", "synack_count"):
            found &= events[name] == 1
        for column in (events["reset_from"], events["resumed"], causes.drop, causes.listener):
            found &= column == 0
        found[misfits(events)] = False
        found &= np.array(self._composer.warnings(events)) == 0
        unchanged = np.array([not words for words in self._composer.changes])  # or not known
        found &= (causes.twins["id"] == 0) & unchanged[causes.changed]
        return found

    def _composed(self, batch: Batch, rows: NDArray[np.intp]) -> Iterator[tuple[int, str]]:
        if len(rows):
            yield from zip(rows.tolist(), map(comment, self._composer.compose(batch.select(rows))), strict=True)

    def _filled(self, batch: Batch) -> Iterator[str]:
        events, durations = batch.events, batch.durations
        client, server = processes(batch, self._composer.cgroups)
        digits = events["id"].astype(">u8").tobytes().hex()
        return map(
            filled,
            self._words(batch),
            nullable(durations.rtt_us),
            nullable(durations.rtt_saved_us),
            _holders(client),
            _holders(server),
            [digits[at : at + 16] for at in range(0, len(digits), 16)],
            community_ids(events["client"], events["server"], events["client_port"], events["server_port"]),
        )

    def _words(self, batch: Batch) -> list[Words]:
        self._forget_renamed(batch)
        keys = self._keys(batch)
        known = self._known
        new = {key: row for row, key in enumerate(keys) if key not in known}
        if new:
            if len(known) + len(new) > KEPT:
                known.clear()
                new = {key: row for row, key in enumerate(keys)}
            rows = np.array([*new.values()], np.intp)
            for key, record in zip(new, self._composer.compose(batch.select(rows)), strict=True):
                known[key] = words(record)
        return [known[key] for key in keys]

    def _forget_renamed(self, batch: Batch) -> None:
        for index in distinct(batch.events["ifindex"]).tolist():
            place = self._composer.interface(index)
            if self._interfaces.setdefault(index, place) != place or len(self._interfaces) > KEPT:
                self._interfaces = {index: place}
                self._known.clear()

    def _keys(self, batch: Batch) -> list[Hashable]:
        """All that words() reads of a usual record, by row; of durations only whether they are known."""
        numbers = [batch.events["syn"]["payload_len"], batch.verdicts.acked_payload_len, _unknown(batch.durations)]
        return [*zip(*keys_of_words(batch), *(column.tolist() for column in numbers), strict=True)]


def _unknown(durations: Durations) -> NDArray[np.int64]:
    """Which durations are not known, a bit each."""
    bits = [np.isnan(getattr(durations, one.name)) << at for at, one in enumerate(fields(Durations))]
    found: NDArray[np.int64] = np.bitwise_or.reduce(bits)
    return found


def _holders(found: Sequence[Process | None]) -> list[str | None]:
    """Most rows have the same few."""
    ids = [*map(id, found)]
    texts = {number: holder(process) for number, process in dict(zip(ids, found, strict=True)).items()}
    return [*map(texts.__getitem__, ids)]
