"""Captures as read by tshark and dpkt."""

from __future__ import annotations

import subprocess
from pathlib import Path

import dpkt

from tests.support.tracing import PATIENCE_S
from tracer.records.record import Handshake
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.meanings import VERDICTS


def shark(path: Path, *fields: str, only: str = "frame") -> list[dict[str, str]]:
    """These fields of each packet, as tshark says them."""
    words = ["tshark", "-r", str(path), "-Y", only, "-o", "tcp.relative_sequence_numbers:FALSE", "-T", "fields"]
    for field in fields:
        words += ["-e", field]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return [dict(zip(fields, row, strict=True)) for row in rows]


def frames(path: Path) -> list[bytes]:
    """The bytes of each packet."""
    with path.open("rb") as file:
        return [data for _, data in dpkt.pcap.UniversalReader(file)]


def comment_is_right(comment: str, record: Handshake) -> None:
    """Fails unless the comment is about this handshake and says what came of it."""
    assert f"handshake {record.id}" in comment
    if record.tfo.outcome != "not_attempted" or record.handshake.result == "established":
        assert VERDICTS[record.tfo.outcome] in comment
    assert in_words(record.handshake.result) in comment
    assert record.community_id in comment


def handshake_id(comment: str) -> str:
    """Of the handshake that a comment is about."""
    return comment.partition("handshake ")[2][:16]


def first_responses(path: Path) -> dict[tuple[int, str, int], float | None]:
    """Microseconds from each handshake's first SYN to the server's first data byte, by the client's port, the server's
    address and the client's initial number."""
    rows = shark(
        path, "frame.time_epoch", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.srcport", "tcp.dstport", "tcp.flags",
        "tcp.seq", "tcp.len", only="tcp && !icmp",
    )  # fmt: skip
    began: dict[tuple[int, str, int], int] = {}
    found: dict[tuple[int, str, int], float | None] = {}
    newest: dict[tuple[int, str], int] = {}  # the client's initial number
    firsts: dict[tuple[int, str], set[int]] = {}  # numbers of the server's first byte
    for row in rows:
        flags, number = int(row["tcp.flags"], 16), int(row["tcp.seq"])
        seconds, _, rest = row["frame.time_epoch"].partition(".")
        now = int(seconds) * 10**9 + int(rest)
        source, target = row["ip.src"] or row["ipv6.src"], row["ip.dst"] or row["ipv6.dst"]
        if flags & 0x12 == 0x02:
            ends = int(row["tcp.srcport"]), target
            newest[ends] = number
            firsts.setdefault(ends, set())
            began.setdefault((*ends, number), now)
            found.setdefault((*ends, number), None)
            continue
        ends = int(row["tcp.dstport"]), source
        if ends not in newest:
            continue
        if flags & 0x12 == 0x12:
            firsts[ends].add((number + 1) & 0xFFFFFFFF)
        elif int(row["tcp.len"]) and number in firsts[ends]:
            handshake = (*ends, newest[ends])
            if found[handshake] is None:
                found[handshake] = (now - began[handshake]) / 1000
    return found
