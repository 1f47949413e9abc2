"""Scenes: traffic between real kernels, and beside it what each place must tell about it.

All scenes of a file are played at once, each at a service address of its own, while every place is traced and captured
(places.py). Each ends with its handshakes settled; its sockets are closed after that.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from tests.support.hosts import tcp_counters
from tests.support.netbox import wait_until
from tests.support.patience import SHORT_S
from tests.support.places import Place, Watch, addresses, facts_and_times, watching
from tests.support.routed import TO_CLIENT, TO_FIRST, WIRE, Routed, routed, service_address
from tests.support.stage import Forger, Stage
from tracer.records.record import Handshake
from tracer.root.part import SWEEP_S

Partial = Mapping[str, object]
Play = Callable[[Stage], None]
# The client's host, the router's interfaces to the client and to the server, the server's host.
ON_THE_WAY = ("client", "near", "far", "server")
_LAST = 39  # number of the service address of the last connection, which shows that the captures are complete
_MISSING = "(no such field)"


@dataclass(frozen=True)
class Scene:
    """Traffic, and what each record of it must say, in the order of their first SYNs."""

    play: Play
    seen: Sequence[Partial]
    at: Mapping[str, Sequence[Partial]]  # places that see something else
    number: int  # of its service address
    version: int

    @property
    def name(self) -> str:
        return self.play.__name__

    def expected(self, place: Place) -> Sequence[Partial]:
        return self.at.get(place.name, self.seen)

    def records(self, handshakes: Sequence[Handshake]) -> list[Handshake]:
        """Those of this scene. A handshake's second record stays behind its first one."""
        server = service_address(self.number, self.version)
        found = [one for one in handshakes if one.server.ip == server]
        began = {(one.id, one.vlan): one.ts for one in reversed(found)}
        return sorted(found, key=lambda one: began[one.id, one.vlan])


class Scenes(list[Scene]):
    """The scenes of a file."""

    def scene(self, *seen: Partial, **at: Sequence[Partial]) -> Callable[[Play], Play]:
        """Decorates the function that plays it."""
        return self._adding(4, seen, at)

    def scene_by_ipv6(self, *seen: Partial, **at: Sequence[Partial]) -> Callable[[Play], Play]:
        return self._adding(6, seen, at)

    def _adding(
        self, version: int, seen: Sequence[Partial], at: Mapping[str, Sequence[Partial]]
    ) -> Callable[[Play], Play]:
        def add(play: Play) -> Play:
            self.append(Scene(play, seen, at, len(self) + 1, version))
            assert len(self) < _LAST
            return play

        return add


@dataclass
class Played:
    """What came of the scenes of a file."""

    places: Sequence[Place]
    faults: dict[str, BaseException] = field(default_factory=dict)  # by scene
    counters: dict[str, dict[str, int]] = field(default_factory=dict)  # client, server: how TcpExt has moved

    def check(self, scene: Scene) -> None:
        """Every place tells what it must, live and in a replay alike."""
        if scene.name in self.faults:
            raise self.faults[scene.name]
        found: dict[str, list[str]] = {}
        for place in self.places:
            live, replayed = scene.records(place.live), scene.records(place.replayed)
            for line in _differences(scene.expected(place), live):
                found.setdefault(line, []).append(place.name)
            for line in _differences(scene.expected(place), replayed):
                found.setdefault(line, []).append(f"{place.name} replayed")
            for number, pair in enumerate(zip(live, replayed, strict=False)):
                for line in _disagreements(*pair):
                    found.setdefault(f"record {number}: {line}", []).append(place.name)
        assert not found, "\n".join(["", *(f"{line} ({', '.join(where)})" for line, where in found.items())])


def _disagreements(live: Handshake, replayed: Handshake) -> list[str]:
    one, other = _comparable(live), _comparable(replayed)
    if live.handshake.cause_at == "this_host":  # by what its kernel and its sockets say
        for path in {*one, *other}:
            if path.startswith(("handshake.cause", "handshake.listener")):
                one.pop(path, None), other.pop(path, None)
    return [
        f"{path} is {one.get(path)!r} live and {other.get(path)!r} replayed"
        for path in sorted(one.keys() | other.keys())
        if one.get(path) != other.get(path)
    ]


def _comparable(one: Handshake) -> dict[str, Any]:
    facts, times = facts_and_times(one)
    facts.pop("tfo.client_fail", None)  # only a live client's kernel can be asked
    facts.pop("changed_on_host", None)  # a capture here is of one interface
    return facts | {path: value and "a time" for path, value in times.items()}


def field_of(record: Mapping[str, Any], path: str) -> object:
    """A field of `handshake`, of `tfo` or of the whole record."""
    first, *rest = path.split(".")
    for part in (record["handshake"], record["tfo"], record):
        if first in part:
            found = part[first]
            for name in rest:
                found = None if found is None else found.get(name, _MISSING)
            return found
    return _MISSING


def _differences(expected: Sequence[Partial], seen: Sequence[Handshake]) -> list[str]:
    """Where the records say something else."""
    found = []
    if len(seen) != len(expected):
        told = ", ".join(f"{one.handshake.result} by {one.handshake.settled_by}" for one in seen)
        found.append(f"{len(seen)} records instead of {len(expected)}: {told}")
    for number, (wanted_fields, one) in enumerate(zip(expected, seen, strict=False)):
        record = msgspec.to_builtins(one)
        for path, wanted in wanted_fields.items():
            got = field_of(record, path)
            right = wanted(got) if callable(wanted) else got == wanted
            if not right:
                name = getattr(wanted, "__doc__", wanted) if callable(wanted) else repr(wanted)
                found.append(f"record {number}: {path} is {got!r} instead of {name}")
    return found


def at_least(least: float) -> Callable[[object], bool]:
    """For a field's value: a number that large."""

    def fits(got: object) -> bool:
        return isinstance(got, (int, float)) and got >= least

    fits.__doc__ = f"at least {least}"
    return fits


def one_of(*values: object) -> Callable[[object], bool]:
    """For a field's value: one of these."""

    def fits(got: object) -> bool:
        return got in values

    fits.__doc__ = f"one of {values}"
    return fits


def reset_by(whose: str) -> Callable[[object], bool]:
    """For `reset`: an RST of this end."""

    def fits(got: object) -> bool:
        return isinstance(got, dict) and got["from"] == whose and got["after_us"] > 0 and got["ttl"] + got["hops"] == 64

    fits.__doc__ = f"an RST of the {whose}"
    return fits


A_TIME = at_least(0.001)
# A SYN that was repeated after the first timeout (TCP_TIMEOUT_INIT, 1 s). The kernel begins to count before a hook or a
# tap sees the SYN: on a busy machine that takes some milliseconds, and what we see is as much shorter.
A_SYN_TIMEOUT = at_least(900_000)
# A plain connection that was answered, with nothing odd about it.
ORDINARY: Partial = {
    "result": "established", "after": "response", "settled_by": "response", "syn_count": 1, "synack_count": 1,
    "late_syns": 0, "connect_us": A_TIME, "first_response_us": A_TIME, "request_repeats": 0, "reset": None,
    "misfits": None, "copies": 0, "synack_isns": 1, "answered_syn": 1, "resumed": None, "challenge_acks": 0,
}  # fmt: skip
# The one that asked for the cookie, and the one that used it.
GRANTED: Partial = {**ORDINARY, "outcome": "cookie_granted"}
ACCEPTED: Partial = {
    **ORDINARY, "outcome": "data_acked", "group": "ok", "first_request_us": 0.0, "rtt_saved_us": A_TIME
}  # fmt: skip


def _play_all(scenes: Sequence[Scene], ready: Sequence[Stage], faults: dict[str, BaseException]) -> None:
    def play(scene: Scene, stage: Stage) -> None:
        try:
            scene.play(stage)
        except BaseException as error:  # noqa: BLE001 - its test raises it
            faults[scene.name] = error

    threads = [threading.Thread(target=play, args=pair, daemon=True) for pair in zip(scenes, ready, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _wait_for_records(watch: Watch, scenes: Sequence[Scene]) -> None:
    """Until every place has told as much as it should; what is missing then is said by the scene's test."""

    def all_told() -> bool:
        for place in watch.places:
            handshakes = watch.handshakes(place)
            if any(len(one.records(handshakes)) < len(one.expected(place)) for one in scenes):
                return False
        return True

    try:
        wait_until(all_told, "the records of all scenes", SHORT_S)
    except AssertionError:
        pass


def play(scenes: Sequence[Scene], hosts: Routed, forger: Forger, places: Sequence[Place]) -> Played:
    """Play all scenes at once."""
    played = Played(places)
    hosts_by_name = {"client": hosts.client, "server": hosts.first}
    before = {name: tcp_counters(box) for name, box in hosts_by_name.items()}
    with watching(places) as watch:
        with ExitStack() as opened:
            ready = []
            for one in scenes:
                told = partial(lambda one: len(one.records(watch.handshakes(places[0]))), one)
                ready.append(opened.enter_context(Stage(hosts, forger, one.number, one.version, told)))
            _play_all(scenes, ready, played.faults)
            _wait_for_records(watch, scenes if not played.faults else [])
            time.sleep(
                2 * SWEEP_S
            )  # a replay, which sweeps at other moments, must settle them before the FINs and RSTs
        with Stage(hosts, forger, _LAST, 4, lambda: 0) as last:
            listener = last.listen(queue=None)
            last.finish(listener, last.connect())
            marker = socket.inet_aton(service_address(_LAST))
            for place in places:
                wait_until(partial(_is_in, place.capture, marker), f"the last packets at {place.name}")
    for name, box in hosts_by_name.items():
        after = tcp_counters(box)
        played.counters[name] = {key: after[key] - before[name].get(key, 0) for key in after}
    return played


def _is_in(capture: Path, marker: bytes) -> bool:
    return marker in capture.read_bytes()


@contextmanager
def on_the_way(folder: Path) -> Iterator[tuple[Routed, Forger, list[Place]]]:
    """The hosts, a third one, and the places on the way from client to server."""
    with routed() as hosts:
        forger = Forger(hosts)
        try:
            whose = ((hosts.client, WIRE), (hosts.router, TO_CLIENT), (hosts.router, TO_FIRST), (hosts.first, WIRE))
            yield (
                hosts,
                forger,
                [
                    Place(name, box, interface, folder / f"{name}.pcap", () if box is hosts.router else addresses(box))
                    for name, (box, interface) in zip(ON_THE_WAY, whose, strict=True)
                ],
            )
        finally:
            forger.close()


def play_on_the_way(scenes: Sequence[Scene], folder: Path) -> Played:
    with on_the_way(folder) as (hosts, forger, places):
        return play(scenes, hosts, forger, places)
