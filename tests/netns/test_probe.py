"""`tfotrace probe`: its verdict on real servers behind a real router, and on what boxes on the path do."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.answering import answering
from tests.support.netbox import NetBox, wait_until
from tests.support.patience import PATIENCE_S
from tests.support.routed import TCP_FASTOPEN, TCP_FASTOPEN_NO_COOKIE, TO_CLIENT, Routed, routed
from tests.support.schema import assert_valid
from tests.support.stage import BARE_SYN, PORT, Forger, Stage, wait_for_queue
from tests.support.synproxy import syn_proxy
from tests.support.tracing import COMMAND, Finished, one_sentence, run
from tracer.vocabulary.addresses import endpoint_text

pytestmark = pytest.mark.root

COUNT = 4
IPPROTO_MPTCP = 262
OFF = 38  # a service address
FAST = ("--rate", "1000", "--count", str(COUNT), "--timeout", "3s")


@pytest.fixture(scope="module")
def hosts() -> Iterator[Routed]:
    with routed() as made:
        yield made


@pytest.fixture(scope="module")
def forger(hosts: Routed) -> Iterator[Forger]:
    made = Forger(hosts)
    yield made
    made.close()


def probe(hosts: Routed, *words: str, patience_s: float = 4 * PATIENCE_S) -> Finished:
    return run("probe", *FAST, *words, prefix=hosts.client.command(), patience_s=patience_s)


@dataclass(slots=True)
class Scene:
    act: Callable[[Stage], None]
    verdict: str
    number: int
    version: int
    syn_data: dict[str, int]
    path: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.act.__name__


SCENES: list[Scene] = []
NOTHING_DROPPED = {"ecn": "passed", "mptcp": "passed", "syn_data": "passed"}
DATA_DROPPED = {**NOTHING_DROPPED, "syn_data": "dropped"}
NO_ANSWER: dict[str, str] = {}  # then nothing more is asked


def scene(
    verdict: str, version: int = 4, path: Mapping[str, str] = NOTHING_DROPPED, **syn_data: int
) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    """What the probe is to say; `syn_data`: of the SYNs with data, `path`: of those that ask for more."""

    def add(act: Callable[[Stage], None]) -> Callable[[Stage], None]:
        SCENES.append(Scene(act, verdict, len(SCENES) + 1, version, syn_data, path))
        return act

    return add


def forward(stage: Stage, *rules: str) -> None:
    """Rules at the router."""
    stage.enter_context(stage.rules(stage.hosts.router, "forward", *rules))


@scene("works", tried=COUNT - 1, served=COUNT - 1)
def a_server_with_fast_open(stage: Stage) -> None:
    answering(stage.listen())


@scene("works", version=6, tried=COUNT - 1, served=COUNT - 1)
def a_server_with_fast_open_by_ipv6(stage: Stage) -> None:
    answering(stage.listen())


@scene("works", tried=COUNT, served=COUNT)
def a_cookie_that_the_host_had_already(stage: Stage) -> None:
    listener = stage.listen()
    stage.prime(listener)
    answering(listener)


@scene("works", tried=COUNT - 1, served=COUNT - 1)
def a_server_that_takes_the_request_and_says_nothing(stage: Stage) -> None:
    answering(stage.listen(), b"")


@scene("not_granted", tried=0)
def a_listener_without(stage: Stage) -> None:
    answering(stage.listen(queue=None))


@scene("not_granted", tried=0)
def a_box_that_strips_the_option(stage: Stage) -> None:
    answering(stage.listen())
    strip = (f"{stage.to_server} {BARE_SYN} reset tcp option {kind}" for kind in (34, 254))
    forward(stage, *strip)


@scene("not_taken", tried=COUNT, taken=0, not_taken=COUNT)
def a_box_that_strips_the_option_of_a_known_cookie(stage: Stage) -> None:
    listener = stage.listen()
    stage.prime(listener)
    answering(listener)
    forward(stage, f"{stage.to_server} {BARE_SYN} reset tcp option 34")


@scene("path_drops_syn_data", path=DATA_DROPPED, tried=COUNT - 1, taken=0, unanswered=COUNT - 1)
def a_box_that_drops_data_in_syns(stage: Stage) -> None:
    answering(stage.listen())
    forward(stage, f"{stage.to_server} {BARE_SYN} ip length > 80 drop")


@scene("drops_option", tried=0)
def a_box_that_drops_the_option(stage: Stage) -> None:
    answering(stage.listen())
    forward(stage, f"{stage.to_server} {BARE_SYN} tcp option 34 exists drop")


@scene("partly", tried=COUNT - 1, taken=1, served=1, unanswered=COUNT - 2)
def a_box_that_drops_every_other_syn_with_data(stage: Stage) -> None:
    answering(stage.listen())
    forward(stage, f"{stage.to_server} {BARE_SYN} ip length > 80 numgen inc mod 2 == 0 drop")


@scene("path_breaks_after_accept", tried=COUNT, taken=COUNT, served=0)
def a_box_that_breaks_connections_with_data_in_the_syn(stage: Stage) -> None:
    listener = stage.listen()
    stage.prime(listener)
    answering(listener)
    forward(
        stage,
        f"{stage.to_server} {BARE_SYN} ip length > 80 add @ports {{ tcp sport }} accept",
        f"{stage.to_client} tcp flags & syn == 0 tcp dport @ports drop",
        f"{stage.to_server} tcp flags & syn == 0 tcp sport @ports drop",
    )


@scene("no_answer", path=NO_ANSWER, tried=0)
def a_queue_that_is_full(stage: Stage) -> None:
    listener = stage.listen(backlog=0)
    stage.connect()
    wait_for_queue(listener, 1)


def fill_fast_open_queue(stage: Stage) -> None:
    """A listener whose queue for Fast Open has room for one, and that one's ACK never comes."""
    listener = stage.listen(queue=1, synack_retries=10)
    stage.prime(listener)
    client = stage.client_socket()
    forward(stage, f"{stage.to_client} tcp dport {client.getsockname()[1]} drop")
    stage.fast_open(client, wait=False)
    wait_for_queue(listener, 1)
    answering(listener)


@scene("not_granted", tried=0)
def a_queue_for_fast_open_that_is_full(stage: Stage) -> None:
    fill_fast_open_queue(stage)
    stage.hosts.client.run("ip", "tcp_metrics", "delete", stage.server_ip)  # and with it the cookie


@scene("not_taken", tried=COUNT, taken=0, not_taken=COUNT)
def a_queue_for_fast_open_that_is_full_and_a_known_cookie(stage: Stage) -> None:
    fill_fast_open_queue(stage)


@scene("silent", tried=COUNT - 1)
def a_path_that_breaks_every_connection(stage: Stage) -> None:
    answering(stage.listen())
    stage.drop_after_the_synack()


@scene("key_not_shared", tried=COUNT - 1)
def two_servers_with_keys_of_their_own(stage: Stage) -> None:
    for box in (stage.hosts.first, stage.hosts.second):
        answering(stage.listen(box=box))
    router = stage.hosts.router
    # each connection goes to the other server
    router.run(
        "nft",
        "table ip balance {"
        f" chain d {{ type filter hook prerouting priority mangle; {stage.to_server}"
        " meta mark set ct mark;"
        f" {stage.to_server} ct state new meta mark set numgen inc mod 2 offset 1;"
        f" {stage.to_server} ct mark set meta mark; }}; }}",
    )
    stage.callback(router.run, "nft", "delete", "table", "ip", "balance")
    router.run("ip", "rule", "add", "fwmark", "2", "table", "77")
    stage.callback(router.run, "ip", "rule", "del", "fwmark", "2", "table", "77")
    router.run("ip", "route", "add", stage.server_ip, "via", "10.98.2.2", "table", "77")


@scene("works", tried=COUNT - 1, served=COUNT - 1)
def a_box_that_clamps_the_mss(stage: Stage) -> None:
    answering(stage.listen())
    forward(
        stage,
        *(
            f"{way} tcp flags & syn == syn tcp option maxseg size set 1300"
            for way in (stage.to_server, stage.to_client)
        ),
    )


@scene("not_granted", tried=0)
def a_proxy_that_answers(stage: Stage) -> None:
    match = f"iifname {TO_CLIENT} {stage.to_server} tcp dport {PORT}"
    stage.enter_context(syn_proxy(stage.hosts.router, match))
    answering(stage.listen())


@scene("works", path={**NOTHING_DROPPED, "ecn": "dropped"}, tried=COUNT - 1, served=COUNT - 1)
def a_box_that_drops_ecn(stage: Stage) -> None:
    answering(stage.listen())
    forward(stage, f"{stage.to_server} tcp flags & (syn|ack|ecn) == syn|ecn drop")


@scene("works", path={**NOTHING_DROPPED, "mptcp": "dropped"}, tried=COUNT - 1, served=COUNT - 1)
def a_box_that_drops_mptcp(stage: Stage) -> None:
    answering(stage.listen())
    forward(stage, f"{stage.to_server} {BARE_SYN} tcp option mptcp exists drop")


@scene("not_granted", path={**NOTHING_DROPPED, "mptcp": "granted"}, tried=0)
def a_server_with_mptcp(stage: Stage) -> None:
    with stage.hosts.first.inside():
        listener = stage.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP))
    listener.bind((stage.server_ip, PORT))
    listener.listen(64)
    answering(listener)


@scene("not_granted", path={**NOTHING_DROPPED, "syn_data": "granted"}, tried=0)
def a_server_that_asks_for_no_cookie(stage: Stage) -> None:
    listener = stage.listen()
    listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
    answering(listener)


@scene("refused", path=NO_ANSWER, tried=0)
def a_closed_port(_stage: Stage) -> None:
    pass


@scene("unreachable", path=NO_ANSWER, tried=0)
def a_firewall_that_prohibits(stage: Stage) -> None:
    answering(stage.listen())
    forward(stage, f"{stage.to_server} {BARE_SYN} reject with icmp type admin-prohibited")


@scene("no_answer", path=NO_ANSWER, tried=0)
def a_silent_host(stage: Stage) -> None:
    answering(stage.listen())
    forward(stage, f"{stage.to_server} drop")


def mptcp_blackholes(hosts: Routed) -> int:
    """How often the client's kernel has turned MPTCP off (MPTcpExt)."""
    text = hosts.client.run("cat", "/proc/net/netstat")
    names, values = (line.split()[1:] for line in text.splitlines() if line.startswith("MPTcpExt:"))
    return int(dict(zip(names, values, strict=True)).get("Blackhole", 0))


@dataclass(frozen=True, slots=True)
class Alone:
    """A probe of a single server: by its words, its verdict and exit code."""

    words: tuple[str, ...]
    verdict: str
    code: int
    tried: int
    queue: int | None = 64
    primed: bool = False  # the client has a cookie already


ALONE = {
    "works": Alone((), "works", 0, COUNT - 1),
    "http": Alone(("--payload", "http"), "works", 0, COUNT - 1),
    "none": Alone(("--payload", "none"), "grants", 0, 0),
    "without": Alone((), "not_granted", 5, 0, queue=None),
    "a known cookie alone": Alone(("--payload", "none"), "cached", 5, 0, primed=True),
}


@dataclass(slots=True)
class Told:
    """What one probe of all scenes' servers says of each, and probes of single servers, by their names."""

    scenes: dict[str, dict[str, Any]] = field(default_factory=dict)
    alone: dict[str, Finished] = field(default_factory=dict)


@pytest.fixture(scope="module")
def told(hosts: Routed, forger: Forger) -> Told:
    """All probes side by side: most of their time they wait for what does not come."""
    found, names = Told(), {}
    with ExitStack() as stages:
        for one in SCENES:
            stage = stages.enter_context(Stage(hosts, forger, one.number, one.version, lambda: 0))
            one.act(stage)
            names[endpoint_text(stage.server_ip, PORT)] = one.name
        servers = {}
        for number, (name, single) in enumerate(ALONE.items(), len(SCENES) + 1):
            stage = stages.enter_context(Stage(hosts, forger, number, 4, lambda: 0))
            listener = stage.listen(queue=single.queue)
            if single.primed:
                stage.prime(listener)
            answering(listener)
            servers[name] = endpoint_text(stage.server_ip, PORT)
        with ThreadPoolExecutor(1 + len(ALONE)) as pool:
            every = pool.submit(probe, hosts, "--json", *names)
            single_ones = {
                name: pool.submit(probe, hosts, servers[name], "--json", *alone.words) for name, alone in ALONE.items()
            }
        done = every.result()
        found.alone = {name: one.result() for name, one in single_ones.items()}
        assert done.code == 5, done.err
        # one path that drops MPTCP must not turn it off for all
        assert mptcp_blackholes(hosts) == 0
    for line in done.out.splitlines():
        record = json.loads(line)
        assert_valid(record)
        found.scenes[names[record["target"]]] = record
    return found


@pytest.mark.parametrize("one", SCENES, ids=[one.name for one in SCENES])
def test_verdict(told: Told, one: Scene) -> None:
    (answer,) = told.scenes[one.name]["addresses"]
    assert answer["verdict"] == told.scenes[one.name]["verdict"] == one.verdict, answer
    assert one.syn_data.items() <= answer["syn_data"].items()
    assert answer["path"] == one.path


@pytest.mark.parametrize("name", ALONE)
def test_one_server(told: Told, name: str) -> None:
    one, done = ALONE[name], told.alone[name]
    assert done.err == ""
    answer = json.loads(done.out)["addresses"][0]
    assert (answer["verdict"], done.code) == (one.verdict, one.code), answer
    assert answer["syn_data"]["tried"] == one.tried
    assert answer["plain"]["established"] == answer["fast_open"]["established"] == COUNT
    assert answer["cookie"]["cached_before"] is one.primed


def test_a_server_where_fast_open_is_off(hosts: Routed, forger: Forger) -> None:
    with Stage(hosts, forger, OFF, 4, lambda: 0) as stage:
        stage.enter_context(hosts.sysctl(hosts.first, tcp_fastopen="1"))
        answering(stage.listen())
        done = probe(hosts, endpoint_text(stage.server_ip, PORT), "--json")
    answer = json.loads(done.out)["addresses"][0]
    assert (answer["verdict"], done.code, done.err) == ("not_granted", 5, ""), answer
    assert answer["syn_data"]["tried"] == 0


@pytest.fixture
def bare() -> Iterator[NetBox]:
    """A host without any route."""
    box = NetBox()
    try:
        box.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=1", "net.ipv4.tcp_fastopen_blackhole_timeout_sec=0")
        yield box
    finally:
        box.close()


def test_no_route(bare: NetBox) -> None:
    done = run("probe", *FAST, "192.0.2.1", prefix=bare.command())
    assert (done.code, done.err) == (5, "")
    assert done.out.startswith(b"192.0.2.1:443: the server cannot be reached: Network is unreachable.\n")


def test_refused_where_the_client_bit_is_off(bare: NetBox) -> None:
    bare.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=2")
    done = run("probe", "--force", "192.0.2.1", prefix=bare.command())
    one_sentence(done, 3, "sysctl -w net.ipv4.tcp_fastopen=3")


def test_refused_where_it_could_harm_others(bare: NetBox) -> None:
    bare.run("sysctl", "-qw", "net.ipv4.tcp_fastopen_blackhole_timeout_sec=60")
    one_sentence(run("probe", "192.0.2.1", prefix=bare.command()), 3, "60 s", "--force")
    assert run("probe", "--force", "192.0.2.1", prefix=bare.command()).code == 5


def test_to_itself(bare: NetBox) -> None:
    bare.run("ip", "link", "set", "lo", "up")
    bare.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=3")
    with bare.inside():
        listener = socket.create_server(("127.0.0.1", PORT))
    with listener:
        listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
        answering(listener)
        done = run("probe", *FAST, f"127.0.0.1:{PORT}", prefix=bare.command())
    assert done.code == 0, done.out


def test_an_interface_that_goes(bare: NetBox) -> None:
    bare.make_pair()
    bare.run("ip", "address", "add", "192.0.2.2/24", "dev", "left")
    words = [*COMMAND, "probe", "192.0.2.1", "--timeout", "5s"]
    with subprocess.Popen(bare.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: "192.0.2.1" in bare.run("ss", "-Htn", "state", "syn-sent"), "the first SYN", PATIENCE_S)
        bare.run("ip", "link", "del", "left")
        out, said = process.communicate(timeout=2 * PATIENCE_S)
    assert (process.returncode, out) == (4, ""), said
    assert said.startswith("tfotrace: left ")
    assert len(said.splitlines()) == 1
