"""Places where the same packets are traced and captured at once, so that live records and a replay can be compared."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tests.support.netbox import NetBox
from tests.support.patience import FACTOR, PATIENCE_S
from tests.support.tracing import INFERRING, Record, Run, assert_balanced, decode, run, tracing
from tracer.records.record import Handshake
from tracer.records.run import End

RESPONSE_TIMEOUT_S = 2.5 * FACTOR
# what only the traced host knows, and what differs in each run
_OF_THE_HOST = ("interface", "hook", "ts")
_OF_THE_RUN = ("cookie_id", "synack_cookie_id", "cause", "cause_confidence", "cookie_check")


@dataclass
class Place:
    """An interface of a host. `live` and `replayed` are there after watching() has ended."""

    name: str
    box: NetBox
    interface: str
    capture: Path
    local: tuple[str, ...] = ()  # addresses of the host, where it is an end
    live: list[Handshake] = field(default_factory=list)
    replayed: list[Handshake] = field(default_factory=list)


@dataclass
class Watch:
    """Places that are being watched."""

    places: Sequence[Place]
    runs: dict[str, Run]  # by the name of the namespace
    _decoded: dict[str, list[Record]] = field(default_factory=dict)  # likewise

    def handshakes(self, place: Place) -> list[Handshake]:
        """What has been seen there so far."""
        decoded = self._decoded.setdefault(place.box.name, [])
        decoded += [decode(line) for line in self.runs[place.box.name].lines[len(decoded) :]]
        return [one for one in decoded if isinstance(one, Handshake) and one.interface == place.interface]


@contextmanager
def _dumping(place: Place) -> Iterator[None]:
    words = ["tcpdump", "-i", place.interface, "-w", str(place.capture), "--time-stamp-precision=nano"]
    # In immediate mode each frame takes a slot of the whole snapshot length: with 256 KiB, a hundred frames in a row
    # filled 8 MiB while tcpdump did not run.
    words += ["-U", "--immediate-mode", "-B", "32768", "-s", "4096"]
    with subprocess.Popen(place.box.command(*words), stderr=subprocess.PIPE, text=True) as dump:
        try:
            assert dump.stderr is not None
            assert "listening" in dump.stderr.readline()
            yield
            dump.send_signal(signal.SIGINT)
            _, said = dump.communicate(timeout=PATIENCE_S)
            assert "0 packets dropped by kernel" in said, said
        finally:
            dump.kill()


@contextmanager
def watching(places: Sequence[Place]) -> Iterator[Watch]:
    """Trace and capture at all places meanwhile; then replay the captures."""
    boxes = {place.box.name: place.box for place in places}
    with ExitStack() as opened:
        runs = {}
        for name in boxes:
            interfaces = [place.interface for place in places if place.box.name == name]
            words = (*interfaces, "--json", INFERRING, "--netns", name, "--response-timeout", str(RESPONSE_TIMEOUT_S))
            runs[name] = opened.enter_context(tracing(*words))
        watch = Watch(places, runs)
        with ExitStack() as dumps:
            for place in places:
                dumps.enter_context(_dumping(place))
            yield watch
        for one in runs.values():
            assert one.stop() == 0, one.said
            assert_balanced(one.end)
        for place in places:
            place.live = watch.handshakes(place)
    for place in places:
        place.replayed = _replay(place)


def _replay(place: Place) -> list[Handshake]:
    local = [word for one in place.local for word in ("--local", one)]
    done = run("replay", str(place.capture), "--json", "--response-timeout", str(RESPONSE_TIMEOUT_S), *local)
    assert done.code == 0, done.err
    records = [decode(line) for line in done.out.splitlines()]
    assert isinstance(records[-1], End)
    assert_balanced(records[-1])
    return [one for one in records if isinstance(one, Handshake)]


def addresses(box: NetBox) -> tuple[str, ...]:
    return tuple(info["local"] for link in box.json("ip", "-j", "address") for info in link["addr_info"])


def facts_and_times(one: Handshake) -> tuple[dict[str, Any], dict[str, float | None]]:
    """What live record and replay must agree on, and the durations, by their paths ("handshake.rtt_us")."""
    record: dict[str, Any] = msgspec.to_builtins(one)
    for name in _OF_THE_HOST:
        del record[name]
    for name in _OF_THE_RUN:
        del record["tfo"][name]
    for end in ("client", "server"):
        del record[end]["process"]
    # a capture does not have the interface's MTU
    record["warnings"] = [one for one in record["warnings"] if one != "mss_above_mtu"]
    facts = _flat(record)
    times = {path: facts.pop(path) for path in list(facts) if path.endswith("_us")}
    return facts, times


def _flat(part: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in part.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
