"""Captures as read by tshark and dpkt."""

from __future__ import annotations

import subprocess
from pathlib import Path

import dpkt

from tests.support.tracing import PATIENCE_S
from tracer.records.record import Handshake
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
    assert VERDICTS[record.tfo.outcome] in comment
    assert record.handshake.result.replace("_", " ") in comment
    assert record.community_id in comment


def handshake_id(comment: str) -> str:
    """Of the handshake that a comment is about."""
    return comment.partition("handshake ")[2][:16]
