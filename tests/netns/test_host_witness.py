"""What the root part answers about listening sockets, translated connections and clients, against the kernel."""

from __future__ import annotations

import ipaddress
import os
import resource
import secrets
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.hosts import (
    ADDRESSES,
    MSG_FASTOPEN,
    TCP_FASTOPEN,
    WIRE,
    Hosts,
    add_addresses,
    tcp_counters,
    two_hosts,
)
from tests.support.netbox import NetBox, wait_until
from tests.support.patience import FACTOR, PATIENCE_S, SHORT_S
from tests.support.stage import wait_for_queue
from tracer.ipc.messages import ClientAnswer, CookieQuestion, FlowQuestion, HostAnswer, HostQuestion, ListenerAnswer
from tracer.lab.sockets import set_key
from tracer.linux import interfaces, listener_options, sock_diag
from tracer.linux.modules import Modules
from tracer.linux.routes import NO_ROUTE
from tracer.root import cookie_keys, witness
from tracer.root.witness import Witness
from tracer.vocabulary.addresses import sixteen_bytes
from tracer.vocabulary.vocabulary import ClientFail, CookieCheck, CookieOrigin

pytestmark = pytest.mark.root

WITHOUT_SOCK_DIAG = Modules(*["/none"] * 3)
CLIENT, SERVER = ADDRESSES[4]
CLIENT6, SERVER6 = ADDRESSES[6]
SECOND, SECOND6 = "10.99.0.3", "fd00:99::3"
PORT = 8080
SO_REUSEPORT, SO_BINDTODEVICE = socket.SO_REUSEPORT, socket.SO_BINDTODEVICE


def packed(text: str) -> bytes:
    return sixteen_bytes(ipaddress.ip_address(text).packed)


def flow(server: str, port: int = PORT, client: str = CLIENT, client_port: int = 4000) -> FlowQuestion:
    return FlowQuestion(packed(client), packed(server), client_port, port)


def host_state() -> tuple[object, ...]:
    """What asking must not change: modules, the table of connections, sysctls of the namespace."""
    sysctls = sorted(Path("/proc/sys/net/netfilter").glob("nf_conntrack_*")) + sorted(
        Path("/proc/sys/net/ipv4").glob("tcp_fastopen*")
    )
    return sorted(os.listdir("/sys/module")), [path.read_text() for path in sysctls]


@pytest.fixture(scope="module")
def host() -> Iterator[Hosts]:
    with two_hosts() as hosts:
        add_addresses(hosts.server, WIRE, SECOND, SECOND6)
        sock_diag.listening_inodes(1)  # loads the module
        yield hosts


@pytest.fixture
def sockets() -> Iterator[ExitStack]:
    """Closes what is opened within a test."""
    with ExitStack() as stack:
        yield stack


def ask(witness: Witness, *listeners: FlowQuestion, clients: tuple[FlowQuestion, ...] = ()) -> HostAnswer:
    return witness.answer(HostQuestion(7, listeners=list(listeners), clients=list(clients)))


def ask_until(
    box: NetBox, wanted: Callable[[HostAnswer], bool], question: HostQuestion, witness: Witness
) -> HostAnswer:
    """Ask until the answer is as wanted, and let the witness look in between, as the root part does."""
    deadline = time.monotonic() + PATIENCE_S
    with box.inside():
        while True:
            answer = witness.answer(question)
            if wanted(answer):
                return answer
            assert time.monotonic() < deadline, answer
            time.sleep(min(0.03, witness.wait_s()))
            witness.advance()


def listen(
    box: NetBox, stack: ExitStack, address: str, port: int = PORT, queue: int | None = None, *, v6only: bool = False,
    group: bool = False, device: str = "",
) -> socket.socket:  # fmt: skip
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with box.inside():
        made = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    if group:
        made.setsockopt(socket.SOL_SOCKET, SO_REUSEPORT, 1)
    if device:
        made.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode())
    made.bind((address, port))
    if queue is not None:
        made.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, queue)
    made.listen(8)
    return made


# --- listening sockets ---

KINDS: dict[str, list[dict[str, object]]] = {
    "exact": [{"address": SERVER}],
    "exact and wildcard": [{"address": SERVER, "group": True}, {"address": "0.0.0.0", "group": True}],
    "wildcard": [{"address": "0.0.0.0"}],
    "both families": [{"address": "::"}],
    "IPv6 only": [{"address": "::", "v6only": True}],
    "a wildcard of each": [{"address": "::", "v6only": True}, {"address": "0.0.0.0"}],
    "a group of each": [{"address": one, "group": True} for one in ("::", "0.0.0.0", "::", "0.0.0.0")],
    "mapped": [{"address": f"::ffff:{SERVER}", "group": True}, {"address": "0.0.0.0", "group": True}],
    "exact, IPv6": [{"address": SERVER6, "group": True}, {"address": "::", "group": True}],
    "group": [{"address": SERVER, "group": True} for _ in range(4)] + [{"address": "0.0.0.0", "group": True}],
    "device": [{"address": "0.0.0.0", "device": WIRE}],
    "device and not": [{"address": "0.0.0.0", "device": WIRE, "group": True}, {"address": "::", "group": True}],
    "another device": [{"address": "0.0.0.0", "device": "lo"}],
}


def taker(host: Hosts, made: list[socket.socket], server: str) -> int | None:
    """Which socket the kernel gives a connection to; None if it refuses."""
    with host.client.inside():
        client = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET)
    with client:
        client.settimeout(SHORT_S)
        try:
            client.connect((server, PORT))
        except ConnectionRefusedError:
            return None
        ready, _, _ = select.select(made, [], [], SHORT_S)
        (one,) = ready
        one.accept()[0].close()
    return made.index(one)


@pytest.mark.parametrize("modules", [Modules(), WITHOUT_SOCK_DIAG], ids=["sock_diag", "proc"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_sockets_are_those_that_get_connections(
    host: Hosts, sockets: ExitStack, kind: str, modules: Modules
) -> None:
    made = [listen(host.server, sockets, queue=10 + number, **one) for number, one in enumerate(KINDS[kind])]  # type: ignore[arg-type]
    for server in (SERVER, SECOND, SERVER6, SECOND6):
        takers = {taker(host, made, server) for _ in range(8)}
        seer = Witness(modules)
        question = HostQuestion(1, listeners=[flow(server, client=CLIENT6 if ":" in server else CLIENT)])
        answer = ask_until(host.server, lambda one: _whole(one.listeners, "device" in kind), question, seer)
        (found,) = answer.listeners
        if found.sockets is None:  # bound to a device: perhaps
            continue
        assert len(found.queues) == found.sockets
        assert (takers == {None}) == (found.sockets == 0)
        assert {10 + number for number in takers if number is not None} <= set(found.queues)
        if "device" not in kind:  # all have the one address, or are one group
            places = {str(KINDS[kind][queue - 10]["address"]) for queue in found.queues}
            assert len(places) == min(1, found.sockets)


def _whole(answers: list[ListenerAnswer], perhaps: bool) -> bool:
    return all(perhaps if one.sockets is None else len(one.queues) == one.sockets for one in answers)


def test_the_listeners_of_some_ports(host: Hosts, sockets: ExitStack) -> None:
    ports = [1, 2, 443, 8080, 65_534, 65_535]
    for port in ports:
        listen(host.server, sockets, SERVER if port % 2 else "::", port)
    with host.server.inside():
        for wanted in ([1], [65_535], [443, 8080], [65_535, 1, 1], [3, 65_533], [], ports, range(400, 500)):
            found = sock_diag.listeners(wanted, 100)
            assert found is not None
            assert sorted(one.port for one in found) == sorted(set(ports) & set(wanted))
        assert len(sock_diag.listeners(ports, len(ports)) or []) == len(ports)
        assert sock_diag.listeners(ports, len(ports) - 1) is None
        assert len(sock_diag.listening_inodes(len(ports)) or []) == len(ports)
        assert sock_diag.listening_inodes(len(ports) - 1) is None


def test_where_sock_diag_would_have_to_be_loaded_proc_and_copies_serve(
    host: Hosts, sockets: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen(host.server, sockets, "0.0.0.0", queue=5)
    listen(host.server, sockets, "::", PORT + 1)
    seer = Witness(WITHOUT_SOCK_DIAG)
    for port, count in ((PORT, 1), (PORT + 1, 1), (PORT + 2, 0)):
        question = HostQuestion(1, listeners=[flow(SERVER, port)])
        ask_until(host.server, lambda one, count=count: one.listeners[0].sockets == count, question, seer)  # type: ignore[misc]
    with host.server.inside():
        assert ask(seer, clients=(flow(SERVER),)).clients == [None]
        # /proc alone says neither IPV6_V6ONLY nor SO_BINDTODEVICE
        monkeypatch.setattr(listener_options, "may_be_copied", lambda: False)
        seer = Witness(WITHOUT_SOCK_DIAG)
        wait_until(lambda: ask(seer, flow(SERVER, PORT + 2)).listeners[0].sockets == 0, "nobody listens")
        for port in (PORT, PORT + 1):
            assert ask(seer, flow(SERVER, port)).listeners[0].sockets is None


@pytest.mark.parametrize("modules", [Modules(), WITHOUT_SOCK_DIAG], ids=["sock_diag", "proc"])
def test_how_full_an_accept_queue_is(host: Hosts, sockets: ExitStack, modules: Modules) -> None:
    """With sock_diag also what the listener dropped; without it, whether it is the only one."""
    full, other = listen(host.server, sockets, SERVER), listen(host.server, sockets, SERVER, PORT + 1)
    full.listen(1)
    other.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
    seer, before = Witness(modules), host_state()
    with host.server.inside():
        seer.host()
    dropped = tcp_counters(host.server)["ListenOverflows"]
    for waiting in (1, 2, 2):
        with host.client.inside():
            client = sockets.enter_context(socket.socket())
        client.setblocking(False)
        client.connect_ex((SERVER, PORT))
        wait_for_queue(full, waiting)
    wait_until(lambda: tcp_counters(host.server)["ListenOverflows"] > dropped, "a SYN is dropped")
    question = HostQuestion(1, listeners=[flow(SERVER), flow(SERVER, PORT + 1)])

    def is_known(one: HostAnswer) -> bool:
        # listeners are not read again at once
        told = modules is WITHOUT_SOCK_DIAG or any(queue.dropped for queue in one.listeners[0].accept)
        return told and all(found.accept and found.defers is not None for found in one.listeners)

    answer = ask_until(host.server, is_known, question, seer)
    ((first,), (second,)) = (one.accept for one in answer.listeners)
    assert (first.address, first.port, first.queued, first.backlog) == (packed(SERVER), PORT, 2, 1)
    assert (second.port, second.queued, second.backlog, second.full) == (PORT + 1, 0, 8, None)
    assert first.inode == os.fstat(full.fileno()).st_ino
    assert first.full is not None
    assert (first.full.queued, first.full.backlog) == (2, 1)
    assert [one.defers for one in answer.listeners] == [False, True]
    if modules is WITHOUT_SOCK_DIAG:
        assert (first.known_ns, second.known_ns) == (None, None)
        other.close()
        ask_until(host.server, lambda one: one.listeners[0].alone, HostQuestion(1, listeners=[flow(SERVER)]), seer)
    else:
        assert [one.alone for one in first.dropped] == [True]
        assert second.dropped == []
        assert second.known_ns is not None
    assert host_state()[0] == before[0]


def test_a_queue_that_changes_and_a_socket_that_is_closed(host: Hosts, sockets: ExitStack) -> None:
    made = listen(host.server, sockets, SERVER, queue=5)
    seer = Witness()
    question = HostQuestion(1, listeners=[flow(SERVER)])
    ask_until(host.server, lambda one: one.listeners[0].queues == [5], question, seer)
    made.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 9)
    ask_until(host.server, lambda one: one.listeners[0].queues == [9], question, seer)
    made.close()
    ask_until(host.server, lambda one: (one.listeners[0].sockets, one.listeners[0].queues) == (0, []), question, seer)
    again = listen(host.server, sockets, SERVER)
    ask_until(host.server, lambda one: one.listeners[0].queues == [0], question, seer)
    assert again.fileno() >= 0


def test_a_listener_of_other_processes(host: Hosts, sockets: ExitStack) -> None:
    """Two siblings have it, of which neither is the owner."""
    made = listen(host.server, sockets, SERVER, queue=6)
    wait = [sys.executable, "-c", "input()"]
    children = [
        sockets.enter_context(subprocess.Popen(wait, stdin=subprocess.PIPE, pass_fds=[made.fileno()])) for _ in "ab"
    ]
    made.close()
    try:
        question = HostQuestion(1, listeners=[flow(SERVER)])
        ask_until(host.server, lambda one: one.listeners[0].queues == [6], question, Witness())
    finally:
        for child in children:
            child.communicate(b"\n")
    # nobody keeps it open
    with host.server.inside():
        wait_until(lambda: ask(Witness(), flow(SERVER)).listeners[0].sockets == 0, "the listener to be gone")


def test_new_listeners_one_after_the_other_have_their_queues_at_once(host: Hosts, sockets: ExitStack) -> None:
    seer = Witness()
    first = []
    for number in range(3):
        listen(host.server, sockets, SERVER, PORT + number, 5)
        with host.server.inside():
            first += ask(seer, flow(SERVER, PORT + number)).listeners[0].queues
        ask_until(host.server, lambda one: one.listeners[0].queues == [5],
                  HostQuestion(1, listeners=[flow(SERVER, PORT + number)]), seer)  # fmt: skip
    assert set(first) <= {5}  # all three, where /proc is read in that time


def test_by_which_interface_the_answer_leaves(host: Hosts, sockets: ExitStack) -> None:
    listen(host.server, sockets, "::")
    ways = (
        (SERVER, CLIENT, WIRE),
        (SERVER6, CLIENT6, WIRE),
        (SERVER, SERVER, "lo"),
        (SERVER, "203.0.113.1", "no route"),
    )
    with host.server.inside():
        answers = ask(Witness(), *(flow(server, client=client) for server, client, _ in ways)).listeners
        wanted = [interfaces.find(name).index if name != "no route" else NO_ROUTE for _, _, name in ways]
    assert [one.leaves_by for one in answers] == wanted


# --- translated connections ---

IPTABLES = ["iptables", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "81", "-j"]
NFT = "table ip test {{ chain c {{ type nat hook prerouting priority dstnat; tcp dport {} {}; }}; }}"


@pytest.mark.parametrize(
    ("rule", "port", "elsewhere"),
    [
        (["nft", NFT.format(81, f"dnat to {SECOND}:{PORT}")], 81, True),
        (["nft", NFT.format(81, f"redirect to :{PORT}")], 81, True),
        (["nft", NFT.format(81, "redirect to :82")], PORT, False),
        ([*IPTABLES, "REDIRECT", "--to-ports", "8080"], 81, True),
        ([*IPTABLES, "DNAT", "--to-destination", "10.99.0.3:8080"], 81, True),
        ([], PORT, False),
    ],
)
def test_translated_connections(host: Hosts, sockets: ExitStack, rule: list[str], port: int, elsewhere: bool) -> None:
    listen(host.server, sockets, "0.0.0.0")
    if rule:
        host.server.run(*rule)
        sockets.callback(host.server.run, "nft", "flush", "ruleset")
    with host.client.inside():
        client = sockets.enter_context(socket.create_connection((SERVER, port), SHORT_S))
    question = flow(SERVER, port, client_port=client.getsockname()[1])
    with host.server.inside():
        before = host_state()
        seer = Witness()
        answer = ask(seer, question, flow(SERVER, port, client_port=1), flow(SERVER6, port, client=CLIENT6))
        assert [one.translated for one in answer.listeners] == [elsewhere, False, False]
        assert host_state() == before


def test_translated_connections_of_ipv6_and_from_here(host: Hosts, sockets: ExitStack) -> None:
    listen(host.server, sockets, "::")
    host.server.run(
        "nft", "table ip6 test { chain c { type nat hook output priority -100; tcp dport 81 redirect to :8080; }; }"
    )
    sockets.callback(host.server.run, "nft", "flush", "ruleset")
    with host.server.inside():
        client = sockets.enter_context(socket.create_connection((SERVER6, 81), SHORT_S))
        answer = ask(Witness(), flow(SERVER6, 81, SERVER6, client.getsockname()[1]))
    assert [one.translated for one in answer.listeners] == [True]


# --- clients ---


def opened(host: Hosts, stack: ExitStack, server: str, source: str = "", family: int | None = None) -> socket.socket:
    with host.client.inside():
        client = stack.enter_context(socket.socket(family or (socket.AF_INET6 if ":" in server else socket.AF_INET)))
    if source:
        client.bind((source, 0))
    client.setblocking(False)
    try:
        client.sendto(b"hello", MSG_FASTOPEN, (server, PORT))
    except BlockingIOError:
        pass
    assert select.select([], [client], [], PATIENCE_S)[1]
    return client


def own_word(client: socket.socket) -> tuple[int, bool]:
    """The same by getsockopt(2)."""
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return info[7] >> (1 if sys.byteorder == "little" else 5) & 3, bool(info[5] & 32)


def check_word(host: Hosts, client: socket.socket, fail: ClientFail, acked: bool, server: str) -> None:
    address, port = client.getsockname()[:2]
    with host.client.inside():
        before = host_state()
        question = flow(server.removeprefix("::ffff:"), PORT, address.removeprefix("::ffff:"), port)
        (answer,) = ask(Witness(), clients=(question,)).clients
        assert host_state() == before
    assert answer == ClientAnswer(int(fail), acked)
    assert own_word(client) == (int(fail), acked)
    shown = host.client.run("ss", "-tinoH", f"sport = :{port}")
    assert ("fastopen" in shown.split()) == acked


@pytest.mark.parametrize("server", [SERVER, SERVER6, f"::ffff:{SERVER}"])
def test_a_clients_word(host: Hosts, sockets: ExitStack, server: str) -> None:
    made = listen(host.server, sockets, "::", queue=16)
    host.client.run("ip", "tcp_metrics", "flush")
    first = opened(host, sockets, server)
    check_word(host, first, ClientFail.COOKIE_UNAVAILABLE, False, server)
    check_word(host, opened(host, sockets, server), ClientFail.NONE, True, server)
    set_key(made, secrets.token_bytes(16))
    check_word(host, opened(host, sockets, server), ClientFail.DATA_NOT_ACKED, False, server)
    host.server.run("nft", "table inet test { chain c { type filter hook input priority 0; tcp flags syn drop; }; }")
    sockets.callback(host.server.run, "nft", "flush", "ruleset")
    with host.client.inside():
        last = sockets.enter_context(socket.socket(first.family))
    last.setblocking(False)
    assert last.sendto(b"hello", MSG_FASTOPEN, (server, PORT)) == 5  # with a cookie it returns at once
    host.server.run("nft", "flush", "ruleset")
    wait_until(lambda: own_word(last)[0] != 0, "the SYN to be sent again and answered", PATIENCE_S)
    check_word(host, last, ClientFail.SYN_RETRANSMITTED, False, server)
    address, port = last.getsockname()[:2]
    last.close()
    with host.client.inside():  # TIME_WAIT, or gone
        question = flow(server.removeprefix("::ffff:"), PORT, address.removeprefix("::ffff:"), port)
        wait_until(lambda: ask(Witness(), clients=(question,)).clients == [None], "the socket to be gone")


# --- keys of listeners ---


def cookie_of(key: bytes, server: str = SERVER) -> bytes:
    return cookie_keys.cookie(key, packed(CLIENT), packed(server))


def asked(sent: bytes, given: bytes, accepted: bool, port: int = PORT) -> HostQuestion:
    now = time.monotonic_ns()
    return HostQuestion(1, [CookieQuestion(packed(CLIENT), packed(SERVER), sent, given, accepted, now, port)])


def test_own_keys_of_listeners_and_whose_cookie_it_is(host: Hosts, sockets: ExitStack) -> None:
    mine, other, spaces = (secrets.token_bytes(16) for _ in range(3))
    words = "-".join(f"{int.from_bytes(spaces[at : at + 4], 'little'):08x}" for at in range(0, 16, 4))
    host.server.run("sysctl", "-qw", f"net.ipv4.tcp_fastopen_key={words}")
    made = listen(host.server, sockets, SERVER, queue=16)
    set_key(made, mine)
    set_key(listen(host.server, sockets, "0.0.0.0", PORT + 1, 16), other)
    listen(host.server, sockets, "::", PORT + 2)
    seer = Witness()
    given = cookie_of(mine)

    def answer(question: HostQuestion, check: CookieCheck, origin: CookieOrigin) -> None:
        found = ask_until(host.server, lambda one: (one.checks, one.origins) == ([check], [origin]), question, seer)
        assert mine not in repr(found).encode("latin-1")

    invalid, none = CookieCheck.INVALID, CookieOrigin.UNKNOWN
    answer(asked(given, b"", accepted=True), CookieCheck.VALID, none)
    answer(asked(secrets.token_bytes(8), given, accepted=False), invalid, CookieOrigin.NOT_OURS)
    answer(asked(cookie_of(other), given, accepted=False), invalid, CookieOrigin.OTHER_LISTENER)
    answer(asked(cookie_of(spaces), given, accepted=False), invalid, CookieOrigin.OTHER_LISTENER)
    answer(asked(cookie_of(mine, "10.99.0.200"), given, accepted=False), invalid, CookieOrigin.OTHER_ADDRESS)
    # at the listener with the namespace's key
    answer(asked(cookie_of(spaces), b"", True, PORT + 2), CookieCheck.VALID, none)
    answer(asked(given, cookie_of(spaces), False, PORT + 2), invalid, CookieOrigin.OTHER_LISTENER)
    changes = seer.host().key_changes
    new = secrets.token_bytes(16)
    set_key(made, new, mine)
    answer(asked(given, cookie_of(new), accepted=True), CookieCheck.VALID_BACKUP, none)
    assert seer.host().key_changes > changes
    set_key(made, other)
    question = asked(cookie_of(new), cookie_of(other), accepted=False)
    ask_until(host.server, lambda one: one.origins == [CookieOrigin.EARLIER_KEY], question, seer)


def test_ten_thousand_listeners(host: Hosts, sockets: ExitStack) -> None:
    """They are found all the same; of a port that has too many, nothing is said."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, max(20_000, limits[1])))
    sockets.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
    # an emulated CPU does not list ten thousand in the time that there is
    count, share = (10_000, 10) if FACTOR == 1 else (3_000, 4)
    for number in range(count):
        port = 20_000 + number if number % share else 19_999
        listen(host.server, sockets, f"127.0.{number // 200}.{number % 200 + 1}", port)
    some = range(1, count, 111)
    flows = [flow(f"127.0.{number // 200}.{number % 200 + 1}", 20_000 + number) for number in some if number % share]
    with host.server.inside():
        seer = Witness()

        def all_found() -> bool:  # what there was no time for is known the next time
            return [one.sockets for one in ask(seer, *flows).listeners] == [1] * len(flows)

        wait_until(all_found, "every listener to be found")
        answer = ask(Witness(), flow("127.0.0.1", 19_999), *flows[:2])
        assert answer.listeners[0].sockets is None


# --- what a compromised user part may ask ---


@pytest.mark.parametrize("size", [0, 4, 15, 17, 100_000])
@pytest.mark.parametrize("port", [-1, 0, 443, 65_536, 1 << 62])
def test_odd_questions_have_empty_answers(host: Hosts, size: int, port: int) -> None:
    odd = FlowQuestion(bytes(size), bytes(16), port, 443), FlowQuestion(bytes(16), bytes(16), 1, port - 1)
    mixed = FlowQuestion(packed(CLIENT), packed(SERVER6), 1, 443)
    cookies = [
        CookieQuestion(bytes(size), bytes(16), bytes(8), b"", False, 1, 443),
        CookieQuestion(bytes(16), bytes(16), bytes(8), bytes(100), False, 1, 443),
        CookieQuestion(bytes(16), bytes(16), bytes(8), bytes(8), False, -1, port if size else 443),
    ]
    many = [flow(SERVER, 1 + number) for number in range(10_000)]
    with host.server.inside():
        answer = Witness().answer(HostQuestion(-5, cookies, [*odd, mixed, *many], [*odd, mixed, *many]))
    assert answer.serial == -5
    assert answer.listeners[0] == ListenerAnswer()
    assert len(answer.listeners) == witness.FLOWS_MAX
    assert len(answer.clients) == witness.CLIENTS_MAX
    assert set(answer.clients) == {None}
    assert answer.checks == [0] * 3
