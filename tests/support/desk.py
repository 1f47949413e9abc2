"""What a kernel says of segments, and the user part's desk that joins it with records, for tests."""

from __future__ import annotations

import numpy as np

from tests.support.rows import START_NS, batch_of
from tracer.handshake.batch import Batch
from tracer.handshake.events import Events
from tracer.handshake.words import words
from tracer.ipc.event_header import struct
from tracer.ipc.layout import to_dtype
from tracer.ipc.messages import Evidence, PlaceAnswer, PlaceQuestion
from tracer.records.drop import Drop
from tracer.run.kernel_words import KernelWords
from tracer.vocabulary.vocabulary import HandshakeResult as Result
from tracer.vocabulary.vocabulary import Has
from tracer.vocabulary.vocabulary import SettleReason as Settled

OWN, OTHER, AT = 100, 200, 0xFFFFFFFF81000005
OVERFLOW = "TCP_LISTEN_OVERFLOW"
REASONS = {
    2: "NOT_SPECIFIED", 3: "NO_SOCKET", 5: "SOCKET_FILTER", 12: "NETFILTER_DROP", 16: "IP_RPFILTER",
    17: "IP_INADDRERRORS", 90: OVERFLOW,
}  # fmt: skip
SYN, SYNACK, ACK, RST = 2, 18, 16, 20
ISN, SERVER_ISN = 0xFFFFFFFF, 5000
DROPS, EVENTS = to_dtype(struct("drop_event")), to_dtype(struct("handshake_event"))
CERTAIN = ("certain", "this_host")
NO_CAUSE = (None, None, None)
FAILED = [
    (Result.NO_REPLY, Settled.BY_TIMEOUT, SYN, "syn"),
    (Result.REJECTED, Settled.BY_RST, SYN, "syn"),
    (Result.UNREACHABLE, Settled.BY_ICMP, SYN, "syn"),
    (Result.SYN_ON_ESTABLISHED, Settled.BY_TIMEOUT, SYN, "syn"),
    (Result.NO_REPLY, Settled.BY_TIMEOUT, SYNACK, "synack"),
    (Result.HALF_OPEN, Settled.BY_TIMEOUT, SYNACK, "synack"),
    (Result.HALF_OPEN, Settled.BY_TIMEOUT, ACK, "ack"),
]


class Desk:
    """The user part's half, and what it asks."""

    def __init__(self, *, places: bool = True) -> None:
        self.asked: list[PlaceQuestion] = []
        self.is_read = True
        evidence = Evidence(4096, REASONS, {1: "NO_SOCKET"}, places, OWN)
        self.words = KernelWords(evidence, self._ask)

    def _ask(self, question: PlaceQuestion) -> bool:
        if self.is_read:
            self.asked.append(question)
        return self.is_read

    def said(self, batch: Batch) -> list[Drop | None]:
        self.words.tell(batch)
        return [self.words.drops[number] for number in batch.causes.drop.tolist()]


def record(result: Result, reason: Settled = Settled.BY_TIMEOUT, **more: int) -> Events:
    """A handshake from port 40000 to 443, opened 5 s before it was settled."""
    events = np.zeros(1, EVENTS)
    for name, value in {
        "syn_ns": START_NS, "settled_ns": START_NS + 5_000_000_000, "client_port": 40000, "server_port": 443,
        "family": 4, "result": int(result), "reason": int(reason), "ifindex": 2, "syn_count": 1, **more,
    }.items():  # fmt: skip
        events[name] = value
    events["client"], events["server"] = 1, 2
    events["syn"]["seq"], events["syn"]["has"] = ISN, Has.SEGMENT
    if result in (Result.HALF_OPEN, Result.ESTABLISHED, Result.ABORTED):
        events["synack_ns"] = START_NS + 1000
        events["synack"]["seq"], events["synack"]["ack"], events["synack"]["has"] = SERVER_ISN, 0, Has.SEGMENT
        events["synack_count"] = more.get("synack_count", 1)
    return events


def word(flags: int, number: int = 12, netns: int = OWN, after_ns: int = 1000, **more: int) -> Events:
    """What the kernel says of a segment whose numbers fit."""
    drops = np.zeros(1, DROPS)
    from_client = flags in (SYN, ACK)
    numbers = {
        SYN: (ISN, 0), SYNACK: (SERVER_ISN, 0), ACK: (0, SERVER_ISN + 1), RST: (0, 0),
    }[flags]  # fmt: skip
    for name, value in {
        "now_ns": START_NS + after_ns, "location": AT, "seq": numbers[0], "ack": numbers[1], "reason": number,
        "netns": netns, "ifindex": 2, "tcp_flags": flags, "family": 4, "src_port": 40000 if from_client else 443,
        "dst_port": 443 if from_client else 40000, **more,
    }.items():  # fmt: skip
        drops[name] = value
    drops["src"], drops["dst"] = (1, 2) if from_client else (2, 1)
    return drops


def causes(batch: Batch) -> list[tuple[str | None, str | None, str | None]]:
    """Cause, confidence and where it lies, of each record."""
    names = ("handshake.cause", "handshake.cause_confidence", "handshake.cause_at")
    return [*zip(*(words(batch, name) for name in names), strict=True)]


def heard(desk: Desk, *words: Events, place: str = "nft_do_chain") -> None:
    desk.words.note(np.concatenate(words), START_NS)
    if desk.asked:
        desk.words.answered(PlaceAnswer(dict.fromkeys(desk.asked[-1].addresses, place)))


def caused(desk: Desk, events: Events) -> tuple[str | None, str | None, str | None]:
    batch = batch_of(events)
    desk.words.tell(batch)
    (cause,) = causes(batch)
    return cause
