"""Replays captures that tests write, and says what is judged of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import captures
from tests.support.tracing import Finished, Record, assert_balanced, decode, run
from tracer.records.record import Handshake
from tracer.records.run import End


def replay(path: Path, *words: str) -> tuple[list[Handshake], list[Record], Finished]:
    """The handshakes of a capture; nothing of it may be lost."""
    done = run("replay", str(path), "--json", *words)
    records = [decode(line) for line in done.out.splitlines()]
    assert isinstance(records[-1], End), done
    assert_balanced(records[-1])
    return [one for one in records if isinstance(one, Handshake)], records, done


def judged(tmp_path: Path, content: bytes, *words: str, name: str = "trace.pcap") -> list[Handshake]:
    path = tmp_path / name
    path.write_bytes(content)
    found, _, done = replay(path, *words)
    assert done.code == 0, done
    return found


def assert_accepted(one: Handshake, *, nano: bool = True) -> None:
    """It is `captures.handshake()`, judged right."""
    timing = one.handshake
    assert (timing.result, one.tfo.outcome, one.tfo.request) == ("established", "data_acked", "cookie_and_data")
    assert (one.hook, one.tfo.cookie_len, one.syn.payload_len) == ("replay", 8, len(captures.REQUEST))
    assert one.http is not None
    assert (one.http.method, one.http.host) == ("GET", "www.example.org")
    # of the microsecond that a time was cut to
    slack = 0.0 if nano else 1.0
    assert timing.synack_delay_us == pytest.approx(10_000, abs=slack)
    assert timing.ack_delay_us == pytest.approx(50, abs=slack)
    assert timing.first_response_us == pytest.approx(30_000, abs=slack)
    assert one.ts == ("2023-11-14T22:13:20.123456789Z" if nano else "2023-11-14T22:13:20.123456000Z")
    assert timing.settled_by == "response"
