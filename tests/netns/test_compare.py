"""`tfotrace compare`: what real boxes on a path did, from recordings and captures of both ends whose clocks differ."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.hosts import ANSWER, REQUEST
from tests.support.netbox import NetBox, wait_until
from tests.support.patience import PATIENCE_S
from tests.support.routed import TO_CLIENT, WIRE, routed, service_address
from tests.support.stage import BARE_SYN, PORT, SYN_ACK, Forger, Stage, nothing_for
from tests.support.synproxy import syn_proxy
from tests.support.tracing import INFERRING, Run, run, tracing

pytestmark = pytest.mark.root

AHEAD_S = 3  # how far the server's clock is ahead of the client's
TIMES = 4  # connections of a scene, unless it says otherwise
TCP_SYNCNT = 7
AT_A_TIME = 4  # commands
TRANSLATED = 20  # a service address behind a translation is so much further on
_TS = re.compile(rb'"ts":"([^"]*)Z"')

Told = tuple[str, str, str | None, str | None]  # what, piece, before, after


@dataclass(slots=True)
class Scene:
    """A box on the path, and what is to be told of it: how often each thing happened."""

    act: Callable[[Stage], None]
    expected: Mapping[Told, int]
    number: int
    likely: frozenset[str] = frozenset()  # what is not certain

    @property
    def name(self) -> str:
        return self.act.__name__

    @property
    def addresses(self) -> tuple[str, ...]:
        return service_address(self.number), service_address(self.number + TRANSLATED)


SCENES: list[Scene] = []


def scene(
    expected: Mapping[Told, int], likely: Sequence[str] = ()
) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    def add(act: Callable[[Stage], None]) -> Callable[[Stage], None]:
        SCENES.append(Scene(act, expected, len(SCENES) + 1, frozenset(likely)))
        return act

    return add


def plainly(stage: Stage, listener: socket.socket, times: int = TIMES) -> None:
    for _ in range(times):
        stage.finish(listener, stage.connect())


def at_once(stage: Stage, listener: socket.socket, clients: Sequence[socket.socket]) -> None:
    """Serve clients that wait for something lost side by side; each has sent its request, or will once connected."""
    children = [stage.accept(listener) for _ in clients]
    for child in children:
        child.sendall(ANSWER)
    for client in clients:
        assert client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER


def plainly_at_once(stage: Stage, listener: socket.socket) -> None:
    clients = [stage.begin() for _ in range(TIMES)]
    for client in clients:
        client.sendall(REQUEST)
    at_once(stage, listener, clients)


def forward(stage: Stage, rule: str) -> ExitStack:
    """A rule at the router, until the scene's end or until this is closed."""
    stack = stage.enter_context(ExitStack())
    stack.enter_context(stage.rules(stage.hosts.router, "forward", rule))
    return stack


@scene({})
def nothing_in_between(stage: Stage) -> None:
    listener = stage.listen()
    plainly(stage, listener)
    for _ in range(TIMES):
        stage.prime(listener)


@scene({("option_stripped", "syn", "tfo", None): TIMES})
def a_box_that_strips_fast_open(stage: Stage) -> None:
    listener = stage.listen()
    stage.prime(listener)  # a client without a cookie asks by another option when this one got none
    forward(stage, f"{stage.to_server} {BARE_SYN} reset tcp option 34")
    for _ in range(TIMES):
        stage.finish(listener, stage.fast_open(), ask=False)
    plainly(stage, listener)


@scene({("lost", "syn", "data", None): TIMES})
def a_box_that_drops_data_in_syns(stage: Stage) -> None:
    listener = stage.listen()
    stage.prime(listener)
    forward(stage, f"{stage.to_server} {BARE_SYN} ip length > 80 drop")
    at_once(stage, listener, [stage.fast_open(wait=False) for _ in range(TIMES)])
    plainly(stage, listener)


@scene({("mss_changed", "syn", "1460", "1300"): TIMES, ("mss_changed", "synack", "1460", "1300"): TIMES})
def a_box_that_clamps_the_mss(stage: Stage) -> None:
    for way in (stage.to_server, stage.to_client):
        forward(stage, f"{way} tcp flags & syn == syn tcp option maxseg size set 1300")
    plainly(stage, stage.listen())


@scene({("ecn_changed", "syn", "ecn", "none"): TIMES})
def a_box_that_clears_ecn(stage: Stage) -> None:
    forward(stage, f"{stage.to_server} {BARE_SYN} @th,104,8 set 0x02")
    box = stage.hosts.client
    box.run("ip", "route", "add", stage.server_ip, "via", "10.98.0.1", "features", "ecn")
    stage.callback(box.run, "ip", "route", "del", stage.server_ip)
    plainly(stage, stage.listen())


@scene(
    {("option_stripped", "syn", "timestamps", None): TIMES, ("option_stripped", "syn", "sack_permitted", None): TIMES}
)
def a_box_that_strips_timestamps_and_sack(stage: Stage) -> None:
    forward(stage, f"{stage.to_server} {BARE_SYN} reset tcp option timestamp reset tcp option sack-perm")
    plainly(stage, stage.listen())


@scene({("ttl_raised", "syn", None, None): TIMES})
def a_box_that_raises_the_ttl(stage: Stage) -> None:
    forward(stage, f"{stage.to_server} {BARE_SYN} ip ttl set 200")
    plainly(stage, stage.listen())


def _moved(number: int) -> str:
    return f"{service_address(number + TRANSLATED)}:{PORT}"


@scene({
    ("client_translated", "syn", "10.98.0.2", "10.98.1.1"): 2 * TIMES,
    ("server_translated", "syn", "ADDRESS", "MOVED"): 2 * TIMES,
})  # fmt: skip
def addresses_that_are_translated(stage: Stage) -> None:
    router = stage.hosts.router
    moved = service_address(int(stage.server_ip.split(".")[2]) + TRANSLATED)
    router.run(
        "nft",
        "table ip moved {"
        f" chain d {{ type nat hook prerouting priority dstnat; {stage.to_server} dnat to {moved}; }};"
        f" chain s {{ type nat hook postrouting priority srcnat; ip daddr {moved} masquerade; }}; }}",
    )
    stage.callback(router.run, "nft", "delete", "table", "ip", "moved")
    listener = stage.enter_context(stage.hosts.listen(stage.hosts.first, moved, PORT))
    plainly(stage, listener, 2 * TIMES)


@scene({("answered_on_path", "synack", None, None): TIMES})
def a_proxy_that_answers(stage: Stage) -> None:
    match = f"iifname {TO_CLIENT} {stage.to_server} tcp dport {PORT}"
    stage.enter_context(syn_proxy(stage.hosts.router, match))
    listener = stage.listen()
    for _ in range(TIMES):
        stage.finish(listener, stage.begin())  # the request waits for the ACK, which the proxy needs


def _later_on(stage: Stage, listener: socket.socket, seconds: float = 0.1) -> None:
    """A connection by which both ends are seen to watch still."""
    client = stage.connect()
    client.sendall(REQUEST)
    child = stage.accept(listener)
    nothing_for(seconds, client)
    stage.answer(child, client)
    plainly(stage, listener, 1)


@scene({("refused", "rst", None, None): TIMES}, likely=("refused",))
def a_firewall_that_refuses(stage: Stage) -> None:
    listener = stage.listen()
    plainly(stage, listener)
    with forward(stage, f"{stage.to_server} {BARE_SYN} reject with tcp reset"):
        for _ in range(TIMES):
            with pytest.raises(ConnectionRefusedError):
                stage.connect()
    _later_on(stage, listener)


@scene({("refused", "icmp", None, None): TIMES}, likely=("refused",))
def a_firewall_that_prohibits(stage: Stage) -> None:
    listener = stage.listen()
    plainly(stage, listener)
    with forward(stage, f"{stage.to_server} {BARE_SYN} reject with icmp type admin-prohibited"):
        for _ in range(TIMES):
            with pytest.raises(OSError, match="No route"):
                stage.connect()
    _later_on(stage, listener)


@scene({("lost", "syn", "plain", None): 1}, likely=("lost",))
def a_firewall_that_says_nothing(stage: Stage) -> None:
    listener = stage.listen()
    plainly(stage, listener)
    client = stage.client_socket()
    forward(stage, f"{stage.to_server} {BARE_SYN} tcp sport {client.getsockname()[1]} drop")
    client.setsockopt(socket.IPPROTO_TCP, TCP_SYNCNT, 1)
    client.setblocking(False)
    with suppress(BlockingIOError):
        stage.dial(client)
    _later_on(stage, listener)


@scene({("lost", "syn", "plain", None): TIMES})
def first_syns_that_are_lost(stage: Stage) -> None:
    listener = stage.listen()
    stage.drop_first(f"{stage.to_server} {BARE_SYN}")
    plainly_at_once(stage, listener)


@scene({("lost", "synack", None, None): TIMES})
def synacks_that_are_lost(stage: Stage) -> None:
    listener = stage.listen()
    stage.drop_first(f"{stage.to_client} {SYN_ACK}", port="tcp dport")
    plainly_at_once(stage, listener)


@scene({("lost", "ack", None, None): TIMES, ("lost", "synack", None, None): TIMES})  # the second one
def a_path_that_breaks_after_the_synack(stage: Stage) -> None:
    stage.listen(synack_retries=1)
    stage.drop_after_the_synack()
    for _ in range(TIMES):
        stage.connect().sendall(REQUEST)


@scene({("lost", "request", None, None): TIMES})
def requests_that_are_lost(stage: Stage) -> None:
    listener = stage.listen()
    stage.drop_first(f"{stage.to_server} tcp flags & psh == psh")
    plainly_at_once(stage, listener)


@scene({("lost", "response", None, None): TIMES})
def responses_that_are_lost(stage: Stage) -> None:
    listener = stage.listen()
    forward(stage, f"{stage.to_client} ip length 53 drop")  # one byte of data
    for _ in range(TIMES):
        client = stage.connect()
        client.sendall(REQUEST)
        stage.accept(listener).sendall(b"!")
    _later_on(stage, listener, 0.6)


@scene({})
def a_server_that_answers_by_another_way(stage: Stage) -> None:
    """Its resets pass by the traced interface no more than its other answers do."""
    router, server = stage.hosts.router, stage.hosts.first
    router.run("ip", "link", "add", "around", "type", "veth", "peer", "name", "around", "netns", server.name)
    for box, last in ((router, 1), (server, 2)):
        box.run("ip", "link", "set", "around", "up")
        box.run("ip", "address", "add", f"10.98.8.{last}/24", "dev", "around")
    server.run("ip", "route", "add", "default", "via", "10.98.8.1", "table", "8")
    server.run("ip", "rule", "add", "from", stage.server_ip, "lookup", "8")
    listener = stage.listen()
    plainly(stage, listener)
    listener.close()
    for _ in range(TIMES):
        with pytest.raises(ConnectionRefusedError):
            stage.connect()


@scene({})
def everything_works_again(stage: Stage) -> None:
    _later_on(stage, stage.listen(), 0.6)


@dataclass(slots=True)
class Both:
    """What both ends saw of all scenes."""

    folder: Path
    lines: dict[str, list[bytes]] = field(default_factory=dict)

    def recording(self, place: str, addresses: Sequence[str], ahead_s: int) -> Path:
        """A place's recording with the handshakes of some servers only, as if its clock were ahead."""
        kept = [line for line in self.lines[place] if _is_of(line, addresses)]
        path = self.folder / f"{place}-{addresses[0]}.jsonl"
        path.write_bytes(b"".join(_TS.sub(lambda found: _later(found, ahead_s), line) for line in kept))
        return path

    def capture(self, place: str, addresses: Sequence[str], ahead_s: int) -> Path:
        """The same of its capture."""
        path = self.folder / f"{place}-{addresses[0]}.pcap"
        hosts = " or ".join(("icmp", *(f"host {one}" for one in addresses)))
        whole = str(self.folder / f"{place}.pcap")
        subprocess.run(["tcpdump", "-r", whole, "-w", str(path), hosts], check=True, capture_output=True)
        data = bytearray(path.read_bytes())
        at = 24  # of the first packet's header
        while at < len(data):
            seconds, _, size = struct.unpack_from("<3I", data, at)
            struct.pack_into("<I", data, at, seconds + ahead_s)
            at += 16 + size
        path.write_bytes(data)
        return path


def _is_of(line: bytes, addresses: Sequence[str]) -> bool:
    record = json.loads(line)
    return record["event"] != "handshake" or record["server"]["ip"] in addresses


def _later(found: re.Match[bytes], ahead_s: int) -> bytes:
    later = np.datetime64(found[1].decode(), "ns") + np.timedelta64(ahead_s, "s")
    return b'"ts":"%sZ"' % str(later).encode()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    found = Both(tmp_path_factory.mktemp("compare"))
    with ExitStack() as opened:
        hosts = opened.enter_context(routed())
        forger = Forger(hosts)
        opened.callback(forger.close)
        places = {"client": hosts.client, "server": hosts.first}
        runs = {
            name: opened.enter_context(
                tracing(WIRE, "--json", INFERRING, "--netns", box.name, "--response-timeout", "4")
            )
            for name, box in places.items()
        }
        for name, box in places.items():
            opened.enter_context(_dumping(box, found.folder / f"{name}.pcap"))
        with ExitStack() as scenes:
            for one in SCENES:
                stage = scenes.enter_context(Stage(hosts, forger, one.number, 4, lambda: 0))
                one.act(stage)
            # the last to be settled: a SYN without an answer, and clients that wait for one
            for name, handshakes in (("responses_that_are_lost", TIMES), ("a_firewall_that_says_nothing", TIMES + 3)):
                wait_until(lambda: _told_of(runs["client"], name) >= handshakes, name, PATIENCE_S)  # noqa: B023
        for name, watch in runs.items():
            assert watch.stop() == 0, watch.said
            found.lines[name] = watch.lines
    return found


def _told_of(watch: Run, name: str) -> int:
    """How many handshakes of a scene have a record."""
    wanted = next(one for one in SCENES if one.name == name)
    return sum(b'"event":"handshake"' in line and _is_of(line, wanted.addresses) for line in list(watch.lines))


@contextmanager
def _dumping(box: NetBox, path: Path) -> Iterator[None]:
    words = ["tcpdump", "-i", WIRE, "-w", str(path), "-U", "--immediate-mode", "-B", "32768", "-s", "4096"]
    with subprocess.Popen(box.command(*words), stderr=subprocess.PIPE, text=True) as dump:
        try:
            assert dump.stderr is not None
            assert "listening" in dump.stderr.readline()
            yield
        finally:
            dump.terminate()


def compare(*files: Path) -> dict[str, Any]:
    done = run("compare", "--json", *map(str, files), patience_s=4 * PATIENCE_S)  # two captures take their time
    assert done.code == 0, done.err
    (between,) = json.loads(done.out)["between"]
    return dict(between)


def told(between: Mapping[str, Any]) -> dict[Told, int]:
    return {
        (one["what"], one["piece"], one["before"], one["after"]): one["count"]
        for one in between["findings"]
        # how often a client tries again is its own affair
        if one["before"] != "sent again"
    }


def expected(one: Scene) -> dict[Told, int]:
    names = {"ADDRESS": f"{one.addresses[0]}:{PORT}", "MOVED": f"{one.addresses[1]}:{PORT}"}
    return {
        (what, piece, names.get(str(before), before), names.get(str(after), after)): count
        for (what, piece, before, after), count in one.expected.items()
    }


# a replay of captures takes seconds
CAPTURED = (
    nothing_in_between, a_box_that_strips_fast_open, a_box_that_strips_timestamps_and_sack, a_box_that_raises_the_ttl,
    addresses_that_are_translated, a_firewall_that_prohibits, a_path_that_breaks_after_the_synack,
)  # fmt: skip


@pytest.fixture(scope="module")
def compared(both: Both) -> dict[tuple[str, str], dict[str, Any]]:
    """What is told of each scene, by its name, from recordings and from captures: some commands at a time."""

    def recordings(one: Scene) -> dict[str, Any]:
        return compare(both.recording("client", one.addresses, 0), both.recording("server", one.addresses, AHEAD_S))

    def captures(one: Scene) -> dict[str, Any]:
        # with the connections of the first and the last one, to see that both places watched before and after
        addresses = (*one.addresses, *SCENES[0].addresses, *SCENES[-1].addresses)
        return compare(both.capture("client", addresses, 0), both.capture("server", addresses, AHEAD_S))

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        jobs = {("pcap", one.name): pool.submit(captures, one) for one in SCENES if one.act in CAPTURED}
        jobs |= {("jsonl", one.name): pool.submit(recordings, one) for one in SCENES}
        return {name: job.result() for name, job in jobs.items()}


@pytest.mark.parametrize("one", SCENES, ids=[one.name for one in SCENES])
def test_recordings(compared: dict[tuple[str, str], dict[str, Any]], one: Scene) -> None:
    check(one, compared["jsonl", one.name], "jsonl")


@pytest.mark.parametrize("one", [one for one in SCENES if one.act in CAPTURED], ids=lambda one: str(one.name))
def test_captures(compared: dict[tuple[str, str], dict[str, Any]], one: Scene) -> None:
    check(one, compared["pcap", one.name], "pcap")


def check(one: Scene, between: dict[str, Any], kind: str) -> None:
    assert told(between) == expected(one), between
    assert {finding["what"] for finding in between["findings"] if not finding["certain"]} == set(one.likely)
    names = [Path(between[end]).name for end in ("near", "far")]
    assert names == [f"{place}-{one.addresses[0]}.{kind}" for place in ("client", "server")]
    if between["clock_error_us"] is not None:
        assert abs(between["clock_offset_us"] - AHEAD_S * 1e6) < between["clock_error_us"] + 100_000
