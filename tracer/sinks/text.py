"""One readable line per handshake, in tcpdump's style, with the verdict in words."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch
from tracer.records.fate import cause_words, evidence, failed, standing
from tracer.records.life import misfits, result_and_verdict
from tracer.records.record import End, Handshake, NoticeRecord, Start, Stats
from tracer.records.server_name import server_name
from tracer.sinks.base import SinkFullError
from tracer.sinks.stream import Stream
from tracer.vocabulary.addresses import endpoint_text
from tracer.vocabulary.causes import short_cause
from tracer.vocabulary.printable import printable

# SGR codes; colour never carries meaning alone, the words are there too
_COLOURS = {"ok": "32", "degraded": "33", "failed": "31"}


def wants_colour(is_terminal: bool, environment: Mapping[str, str] = os.environ) -> bool:
    """Colour on a terminal, unless NO_COLOR (no-color.org) is set to anything or the terminal is dumb."""
    return is_terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def _milliseconds(microseconds: float) -> str:
    return f"{microseconds / 1000:.{3 if microseconds < 10_000 else 1}f} ms"


def _coloured(text: str, group: str | None) -> str:
    code = _COLOURS.get(group or "")
    return text if code is None else f"\x1b[{code}m{text}\x1b[0m"


def line(record: Handshake, colour: bool = False) -> str:
    """The line of one handshake, without its newline. Strings from the network are made safe to print."""
    ends = " > ".join(endpoint_text(end.ip, end.port) for end in (record.client, record.server))
    return "  ".join([record.ts[11:26], printable(record.interface or record.hook), ends, *judged(record, colour)])


def judged(record: Handshake, colour: bool = False) -> list[str]:
    """The parts of the line after time, interface and endpoints."""
    tfo, timing = record.tfo, record.handshake
    result, verdict = result_and_verdict(record)
    if colour and failed(timing):
        result = _coloured(result, "failed")
    parts = [result]
    if tfo.outcome != "not_attempted" or not failed(timing):
        parts.append(_coloured(verdict, tfo.group) if colour else verdict)
    if record.through:
        parts.append(f"through {', '.join(map(printable, record.through))}")
    why = cause_words(timing)
    if why is not None:
        parts.append(_coloured(why, standing(record)) if colour else why)
    parts += evidence(record)
    if timing.misfits is not None:
        parts.append(misfits(timing.misfits))
    if tfo.cause is not None:
        parts.append(short_cause(tfo.cause, tfo.cause_confidence))
    if record.syn.payload_len:
        acked = record.synack.acked_payload_len if record.synack is not None else 0
        goes_on = record.payload is not None and record.payload.truncated
        parts.append(f"SYN data {acked}/{record.syn.payload_len} B{', truncated' if goes_on else ''}")
    if timing.syn_count > 1:
        parts.append(f"{timing.syn_count} SYNs")
    if (timing.synack_isns or 0) > 1:
        parts.append(f"{timing.synack_isns} different SYN-ACKs")
    if timing.resumed is not None:
        parts.append(f"went on after {printable(timing.resumed).replace('_', ' ')}")
    if timing.rtt_us is not None:
        parts.append(f"RTT {_milliseconds(timing.rtt_us)}")
    if tfo.rtt_saved_us:
        parts.append(f"saved {_milliseconds(tfo.rtt_saved_us)}")
    for end, name in ((record.client, "client"), (record.server, "server")):
        if end.process is not None:
            parts.append(f"{name} {printable(end.process.name)}[{end.process.pid}]")
    name = server_name(record)
    if name:
        parts.append(f"SNI {name}")
    if record.http is not None and record.http.host:
        parts.append(f"{printable(record.http.method)} {printable(record.http.host)}")
    if record.dns is not None:
        parts.append(f"DNS {printable(record.dns.name)} {printable(record.dns.type)}")
    return parts


class Text:
    """Writes handshakes as lines; the pipeline writes notices and statistics to standard error."""

    def __init__(self, stream: Stream, composer: Composer, colour: bool = False) -> None:
        self._stream = stream
        self._composer = composer
        self._colour = colour

    def start(self, record: Start) -> None:
        """Do nothing: the narration says it."""

    def write(self, batch: Batch) -> None:
        """Write one line per handshake."""
        if self._stream.is_full():
            raise SinkFullError(len(batch))
        lines = [line(record, self._colour) for record in self._composer.compose(batch)]
        if lines:
            self._stream.write(("\n".join(lines) + "\n").encode())

    def notice(self, record: NoticeRecord) -> None:
        """Do nothing: the narration says it."""

    def stats(self, record: Stats) -> None:
        """Do nothing: the balance is in the summary."""

    def tick(self) -> None:
        """Offer the buffer to the reader; notice one that left."""
        self._stream.tick()

    def close(self, record: End | None) -> None:  # noqa: ARG002 - the summary says it
        """Close the stream."""
        self._stream.close()
