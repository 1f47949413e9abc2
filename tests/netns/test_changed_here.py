"""What a router's own netfilter changes in handshakes, told live by a trace of its interfaces; and what not.

Real kernels: the hosts of routed.py, the router traced on all three of its interfaces.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import pytest

from tests.support.routed import TO_CLIENT, TO_FIRST, TO_SECOND, WIRE, Routed, routed, service_address
from tests.support.stage import BARE_SYN, PORT, Forger, Stage
from tests.support.synproxy import syn_proxy
from tests.support.tracing import Run, run, tracing
from tracer.records.record import Handshake

pytestmark = [pytest.mark.root, pytest.mark.slow]

TCP_MAXSEG = 2
MOVED = 20  # a service address behind a translation is so much further on


@dataclass(slots=True)
class Scene:
    """A rule on the router, and what is to be told of the last handshake there."""

    act: Callable[[Stage], int]  # returns the client's port
    told: tuple[str, ...] | None
    number: int

    @property
    def name(self) -> str:
        return self.act.__name__


SCENES: list[Scene] = []


def scene(*told: str, compared: bool = True) -> Callable[[Callable[[Stage], int]], Callable[[Stage], int]]:
    def add(act: Callable[[Stage], int]) -> Callable[[Stage], int]:
        SCENES.append(Scene(act, told if compared else None, len(SCENES) + 1))
        return act

    return add


def forward(stage: Stage, *rules: str) -> None:
    """Rules at the router."""
    stage.enter_context(stage.rules(stage.hosts.router, "forward", *rules))


def plainly(stage: Stage, listener: socket.socket | None = None) -> int:
    """One ordinary connection."""
    listener = listener or stage.listen()
    client = stage.connect()
    stage.finish(listener, client)
    port: int = client.getsockname()[1]
    return port


@scene()
def nothing(stage: Stage) -> int:
    return plainly(stage)


@scene()
def fast_open(stage: Stage) -> int:
    listener = stage.listen()
    stage.prime(listener)
    client = stage.fast_open()
    stage.finish(listener, client, ask=False)
    port: int = client.getsockname()[1]
    return port


@scene("mss_changed syn 1460 > 1300", "mss_changed synack 1460 > 1200")
def a_clamped_mss(stage: Stage) -> int:
    forward(
        stage,
        f"{stage.to_server} tcp flags syn tcp option maxseg size set 1300",
        f"{stage.to_client} tcp flags & (syn|ack) == syn|ack tcp option maxseg size set 1200",
    )
    return plainly(stage)


@scene("option_stripped syn tfo")
def a_stripped_option(stage: Stage) -> int:
    listener = stage.listen()
    stage.prime(listener)
    forward(stage, f"{stage.to_server} {BARE_SYN} reset tcp option 34")
    client = stage.fast_open()
    stage.finish(listener, client, ask=False)
    port: int = client.getsockname()[1]
    return port


@scene("option_stripped synack tfo")
def a_stripped_cookie(stage: Stage) -> int:
    listener = stage.listen()
    forward(stage, f"{stage.to_client} tcp flags & (syn|ack) == syn|ack reset tcp option 34")
    client = stage.fast_open()
    stage.finish(listener, client, ask=False)
    port: int = client.getsockname()[1]
    return port


@scene("option_stripped syn sack_permitted", "option_stripped syn timestamps")
def stripped_timestamps_and_sack(stage: Stage) -> int:
    forward(stage, f"{stage.to_server} {BARE_SYN} reset tcp option timestamp reset tcp option sack-perm")
    return plainly(stage)


@scene("wscale_changed syn {wscale} > 2")
def another_window_scale(stage: Stage) -> int:
    forward(stage, f"{stage.to_server} {BARE_SYN} @th,312,8 set 2")  # Linux has it last: byte 39
    return plainly(stage)


@scene("window_changed syn {window} > 1000")
def another_window(stage: Stage) -> int:
    forward(stage, f"{stage.to_server} {BARE_SYN} tcp window set 1000")
    return plainly(stage)


@scene("ecn_changed syn ecn > none")
def cleared_ecn(stage: Stage) -> int:
    forward(stage, f"{stage.to_server} {BARE_SYN} @th,104,8 set 0x02")
    box = stage.hosts.client
    box.run("ip", "route", "add", stage.server_ip, "via", "10.98.0.1", "features", "ecn")
    stage.callback(box.run, "ip", "route", "del", stage.server_ip)
    return plainly(stage)


@scene("ttl_raised syn 64 > 199")
def a_raised_ttl(stage: Stage) -> int:
    forward(stage, f"{stage.to_server} {BARE_SYN} ip ttl set 199")
    return plainly(stage)


@scene("answered_on_path synack")
def a_syn_proxy(stage: Stage) -> int:
    match = f"iifname {TO_CLIENT} {stage.to_server} tcp dport {PORT}"
    stage.enter_context(syn_proxy(stage.hosts.router, match))
    listener = stage.listen()
    client = stage.begin()
    stage.finish(listener, client)
    port: int = client.getsockname()[1]
    return port


@scene("mss_changed syn 1460 > 1300")
def a_clamped_mss_over_a_translation(stage: Stage) -> int:
    """Addresses that differ are `nat`, and no change."""
    router, moved = stage.hosts.router, service_address(int(stage.server_ip.split(".")[2]) + MOVED)
    router.run(
        "nft",
        "table ip moved {"
        f" chain d {{ type nat hook prerouting priority dstnat; {stage.to_server} dnat to {moved}; }};"
        f" chain s {{ type nat hook postrouting priority srcnat; ip daddr {moved} masquerade; }}; }}",
    )
    stage.callback(router.run, "nft", "delete", "table", "ip", "moved")
    forward(stage, f"ip daddr {moved} {BARE_SYN} tcp option maxseg size set 1300")
    return plainly(stage, stage.enter_context(stage.hosts.listen(stage.hosts.first, moved, PORT)))


@scene(compared=False)
def a_lost_syn_with_data(stage: Stage) -> int:
    """What is sent again has neither data nor the option: nobody stripped them."""
    listener = stage.listen()
    stage.prime(listener)
    forward(stage, f"{stage.to_server} {BARE_SYN} ip length > 80 drop")
    client = stage.fast_open()
    stage.finish(listener, client, ask=False)
    port: int = client.getsockname()[1]
    return port


@scene()
def a_lost_synack_with_a_cookie(stage: Stage) -> int:
    """The second SYN-ACK has no cookie. The server counts two, the client's side one: they are not compared."""
    listener = stage.listen()
    stage.drop_first(f"{stage.to_client} tcp flags & (syn|ack) == syn|ack", port="tcp dport")
    client = stage.fast_open()
    stage.finish(listener, client, ask=False)
    port: int = client.getsockname()[1]
    return port


@scene()
def a_copy_to_another_interface(stage: Stage) -> int:
    """The second server gets a copy of all that comes to the router."""
    chain = f"type filter hook ingress device {TO_CLIENT} priority 0; {stage.to_server} dup to {TO_SECOND};"
    stage.hosts.router.run("nft", f"table netdev mirror {{ chain c {{ {chain} }}; }}")
    stage.callback(stage.hosts.router.run, "nft", "delete", "table", "netdev", "mirror")
    return plainly(stage)


@scene(compared=False)
def a_server_that_does_not_answer(stage: Stage) -> int:
    """A firewall here: it came in, and left by no interface."""
    forward(stage, f"{stage.to_server} drop")
    client = stage.client_socket()
    client.setblocking(False)
    with suppress(BlockingIOError):
        stage.dial(client)
    stage.callback(client.close)
    port: int = client.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def live() -> Iterator[tuple[Run, dict[str, int], Routed]]:
    """A trace of the router, and the client's port of each scene."""
    with ExitStack() as opened:
        hosts = opened.enter_context(routed())
        forger = Forger(hosts)
        opened.callback(forger.close)
        words = (TO_CLIENT, TO_FIRST, TO_SECOND, "--json", "-w", "{folder}/f.pcapng", "--netns", hosts.router.name)
        watch = opened.enter_context(tracing(*words))
        ports = {}
        for one in SCENES:
            with Stage(hosts, forger, one.number, 4, lambda: 0) as stage:
                ports[one.name] = one.act(stage)
        yield watch, ports, hosts


def seen(watch: Run, port: int, interface: str) -> Handshake:
    return watch.wait_handshake(lambda one: (one.interface, one.client.port) == (interface, port))


@pytest.mark.parametrize("one", SCENES, ids=[one.name for one in SCENES])
def test_told_live(live: tuple[Run, dict[str, int], Routed], one: Scene) -> None:
    watch, ports, _ = live
    came = seen(watch, ports[one.name], TO_CLIENT)
    own = {"wscale": came.syn.wscale, "window": came.syn.window}  # by the client's memory
    told = None if one.told is None else tuple(text.format(**own) for text in one.told)
    assert came.changed_on_host == told, came


def test_a_host_at_the_end_of_the_way_compares_nothing(live: tuple[Run, dict[str, int], Routed]) -> None:
    _, _, hosts = live
    with ExitStack() as opened:
        listener = opened.enter_context(hosts.listen(hosts.first, service_address(39), PORT))
        at_server = opened.enter_context(tracing(WIRE, "lo", "--json", "--netns", hosts.first.name))
        port = hosts.exchange_plainly(listener)
        assert seen(at_server, port, WIRE).changed_on_host is None


def test_both_records_say_so_and_so_do_text_and_capture(live: tuple[Run, dict[str, int], Routed]) -> None:
    watch, ports, _ = live
    port = ports["a_clamped_mss"]
    told = [seen(watch, port, interface).changed_on_host for interface in (TO_CLIENT, TO_FIRST)]
    # one of them may have been settled before the other was known
    assert set(told) - {None} == {SCENES[2].told}
    assert watch.stop() == 0, watch.said
    words = "changed here: MSS of the SYN from 1460 to 1300, MSS of the SYN-ACK from 1460 to 1200"
    assert words.encode() in (watch.folder / "f.pcapng").read_bytes()
    recording = watch.folder / "recording.jsonl"
    recording.write_bytes(b"".join(list(watch.lines)))
    lines = run("replay", str(recording), "--text").out.decode().splitlines()
    assert [line for line in lines if words in line]
    chosen = run("replay", str(recording), "--json", "--filter-record", 'changed_on_host ~ "mss_changed"').out
    assert chosen.count(b'"event":"handshake"') >= 2
