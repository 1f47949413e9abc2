"""The lab against an independent witness: tcpdump on the client's interface, scapy and a small judge of its own.

The judge follows TFO.md sections 1 to 3 and shares no code with the lab or the tracer, so it can contradict both.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from scapy.config import conf
from scapy.layers.inet import ICMP, IP, TCP, IPerror, TCPerror
from scapy.layers.inet6 import ICMPv6DestUnreach, IPerror6, IPv6
from scapy.packet import Packet
from scapy.utils import rdpcap

from tests.support.netbox import wait_until
from tests.support.patience import LONG_S, PATIENCE_S
from tests.support.tracing import NOT_ROOT
from tracer.errors import CannotTraceError
from tracer.lab import director, road, topology
from tracer.lab.lab import Lab
from tracer.lab.scenarios import SCENARIOS, Expected, Scenario, server_address

pytestmark = pytest.mark.root

ROUNDS = 2  # what the first leaves in the kernels (cookies, path MTUs) must not spoil the next
SYN, RST, ACK = 2, 4, 16
CASES = [(scenario, version) for scenario in SCENARIOS for version in (4, 6)]
Flow = tuple[str, int, str, int]  # client and server as address and port


@dataclass
class Seen:
    """All segments of one 4-tuple, and which SYNs an ICMP error answered."""

    segments: list[tuple[bool, Packet]] = field(default_factory=list)  # from the client?, TCP layer
    unreachable: set[int] = field(default_factory=set)


def options_of(tcp: Packet) -> bytes:
    return bytes(tcp.original[20 : tcp.dataofs * 4])


def payload_len(tcp: Packet) -> int:
    under = tcp.underlayer
    total = under.len - under.ihl * 4 if IP in under else under.plen
    return int(total - tcp.dataofs * 4)


def fast_open_option(options: bytes) -> tuple[int, bytes] | str | None:
    """(kind, cookie), "malformed" or None, by RFC 7413 section 4.1.1 and RFC 6994."""
    at = 0
    while at < len(options):
        kind = options[at]
        if kind == 0:
            break
        if kind == 1:
            at += 1
            continue
        length = options[at + 1]
        body = options[at + 2 : at + length]
        if kind in (253, 254) and body[:2] == b"\xf9\x89":
            body = body[2:]
        elif kind != 34:
            at += length
            continue
        if len(body) in (0, 4, 6, 8, 10, 12, 14, 16):
            return kind, body
        return "malformed"
    return None


def judge(flow: Seen) -> list[Expected]:
    """Request, outcome and result of every handshake on one 4-tuple, by TFO.md section 3."""
    numbers = []
    for from_client, tcp in flow.segments:
        if from_client and int(tcp.flags) & (SYN | ACK) == SYN and tcp.seq not in numbers:
            numbers.append(tcp.seq)
    return [judge_one(flow, number, numbers) for number in numbers]


def judge_one(flow: Seen, number: int, numbers: list[int]) -> Expected:
    syns: list[Packet] = []
    synack = final = reset_by_client = reset_by_server = bare_ack = crossing = None
    for from_client, tcp in flow.segments:
        flags = int(tcp.flags)
        if from_client and flags & (SYN | ACK) == SYN:
            if tcp.seq != number and syns:
                break  # the next handshake
            if tcp.seq == number:
                syns.append(tcp)
        elif not syns:
            continue
        elif from_client and flags & RST:
            reset_by_client = reset_by_client or (tcp if final is None else None)
        elif from_client and flags & ACK and not flags & SYN:
            if synack is not None and tcp.ack == (synack.seq + 1 + payload_len(synack)) % 2**32:
                final = final or tcp
        elif not from_client and flags & RST:
            if synack is None and tcp.ack == (number + 1 + payload_len(syns[0])) % 2**32:
                reset_by_server = tcp
        elif not from_client and flags & (SYN | ACK) == SYN:
            crossing = tcp
        elif not from_client and flags & (SYN | ACK) == SYN | ACK:
            synack = synack or tcp
        elif not from_client and synack is None:
            bare_ack = bare_ack or tcp
    unreachable = number in flow.unreachable

    if crossing is not None:
        result = "simultaneous_open"
    elif synack is not None:
        result = "aborted" if reset_by_client else "established" if final else "half_open"
    elif bare_ack is not None:
        result = "syn_on_established"
    else:
        result = "rejected" if reset_by_server else "unreachable" if unreachable else "no_reply"

    option, length = fast_open_option(options_of(syns[0])), payload_len(syns[0])
    kind = option[0] if isinstance(option, tuple) else None
    if option == "malformed":
        request = "malformed"
    elif option is None:
        request = "data_only" if length else "none"
    elif option[1] == b"":
        request = "cookie_request_and_data" if length else "cookie_request"
    else:
        request = "cookie_and_data" if length else "cookie"
    outcome = judge_outcome(option, length, syns, synack, result)
    return Expected(request, outcome, result, kind, len(syns))


def judge_outcome(
    option: tuple[int, bytes] | str | None, length: int, syns: list[Packet], synack: Packet | None, result: str
) -> str:
    if not isinstance(option, tuple) and not length:
        return "not_attempted"
    if synack is None:
        return "rejected" if result in ("rejected", "unreachable") else "no_answer"
    acked = (synack.ack - syns[0].seq - 1) % 2**32
    answer = fast_open_option(options_of(synack)) if isinstance(option, tuple) else None
    back = answer[1] if isinstance(answer, tuple) else None
    before = [syn for syn in syns if syn.time <= synack.time]
    if acked == 0 and len(before) > 1:
        return "syn_timeout_fallback"
    if length:
        if acked > length:
            return "over_acked"
        if acked == length:
            return "data_acked_new_cookie" if back else "data_acked"
        if acked:
            return "data_partly_acked"
        stem = "data_not_acked"
    else:
        assert isinstance(option, tuple)
        if option[1] == b"":
            return "cookie_granted" if back else "cookie_not_granted"
        stem = "cookie_only"
    if back is None:
        return stem
    assert isinstance(option, tuple)
    return f"{stem}_same_cookie" if back == option[1] else f"{stem}_new_cookie"


def flows_of(packets: list[Packet], client: tuple[str, str]) -> dict[Flow, Seen]:
    """Segments and ICMP errors of a capture by client and server, in order of appearance."""
    flows: dict[Flow, Seen] = defaultdict(Seen)
    for packet in packets:
        ip = packet.getlayer(IP) or packet.getlayer(IPv6)
        if ip is None:
            continue
        quoted = ip.getlayer(TCPerror)
        if quoted is not None:
            hard = (ICMP in ip and ip[ICMP].type == 3 and ip[ICMP].code != 4) or ICMPv6DestUnreach in ip
            inner = ip.getlayer(IPerror) or ip.getlayer(IPerror6)
            if hard:
                flows[inner.src, quoted.sport, inner.dst, quoted.dport].unreachable.add(quoted.seq)
        elif TCP in ip:
            tcp = ip[TCP]
            tcp.time = packet.time
            if ip.src in client:
                flows[ip.src, tcp.sport, ip.dst, tcp.dport].segments.append((True, tcp))
            else:
                flows[ip.dst, tcp.dport, ip.src, tcp.sport].segments.append((False, tcp))
    return flows


@dataclass
class Round:
    """What the rounds, without background traffic, left behind."""

    handshakes: dict[str, list[Expected]]  # by server address, in the order of the first SYN
    packets: list[Packet]
    faults: list[str]
    counters: dict[str, dict[str, int]]  # client, server: TcpExt of the namespace


def tcp_counters(pid: int) -> dict[str, int]:
    lines = [line.split() for line in Path(f"/proc/{pid}/net/netstat").read_text().splitlines()]
    names, values = (line[1:] for line in lines if line[0] == "TcpExt:")
    return {name: int(value) for name, value in zip(names, values, strict=True)}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Round:
    capture = tmp_path_factory.mktemp("lab") / "client.pcap"
    with Lab() as lab:
        command = ["nsenter", f"--net={lab.client_netns}", "tcpdump", "-i", lab.client_interface, "-n", "-U"]
        command += ["--immediate-mode", "-B", "32768", "-s", "4096", "-w", str(capture)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as dump:
            try:
                assert dump.stderr is not None
                assert "listening on" in dump.stderr.readline()
                lab.start_traffic(rounds=ROUNDS, background_per_s=0)
                assert all(lab.wait_round(30) for _ in range(ROUNDS))
            finally:
                dump.send_signal(signal.SIGINT)
            said = dump.stderr.read()
        assert "\n0 packets dropped by kernel" in said, said
        counters = {"client": tcp_counters(lab.client_pid), "server": tcp_counters(lab.server_pid)}
        faults = list(lab.faults)
        client = (lab.client_ipv4, lab.client_ipv6)
    conf.debug_dissector = True
    packets = list(rdpcap(str(capture)))
    handshakes: dict[str, list[tuple[float, Expected]]] = defaultdict(list)
    for (_, _, server, _), seen in flows_of(packets, client).items():
        firsts: dict[int, float] = {}
        for from_client, tcp in seen.segments:
            if from_client and int(tcp.flags) & (SYN | ACK) == SYN:
                firsts.setdefault(tcp.seq, float(tcp.time))
        handshakes[server] += zip(firsts.values(), judge(seen), strict=True)
    ordered = {
        server: [each for _, each in sorted(found, key=lambda pair: pair[0])] for server, found in handshakes.items()
    }
    return Round(ordered, packets, faults, counters)


def test_every_scenario_could_be_played(played: Round) -> None:
    assert played.faults == []


@pytest.mark.parametrize(("scenario", "version"), CASES, ids=[f"{s.name}-ipv{v}" for s, v in CASES])
def test_wire_shows_what_the_table_says(played: Round, scenario: Scenario, version: int) -> None:
    assert played.handshakes[server_address(scenario, version)] == ROUNDS * list(scenario.handshakes)


def test_nothing_else_is_on_the_wire(played: Round) -> None:
    assert set(played.handshakes) == {server_address(scenario, version) for scenario, version in CASES}


def test_checksums_of_hand_made_segments_are_right(played: Round) -> None:
    by_hand = {server_address(s, v) for s, v in CASES if s.name == "over_acked"}
    checked = 0
    for packet in played.packets:
        ip = packet.getlayer(IP) or packet.getlayer(IPv6)
        if ip is not None and TCP in ip and by_hand & {ip.src, ip.dst}:
            seen = ip[TCP].chksum
            again = ip.copy()
            del again[TCP].chksum
            assert type(ip)(bytes(again))[TCP].chksum == seen
            checked += 1
    assert checked == ROUNDS * 3 * len(by_hand)


def test_synack_with_data_carries_data(played: Round) -> None:
    scenario = next(each for each in SCENARIOS if each.name == "synack_with_data")
    for version in (4, 6):
        server = server_address(scenario, version)
        lengths = [
            payload_len(packet[TCP])
            for packet in played.packets
            if TCP in packet and packet.payload.src == server and int(packet[TCP].flags) & SYN
        ]
        assert [bool(length) for length in lengths] == ROUNDS * [False, True]  # grant, then use


def test_client_hello_is_in_the_syn(played: Round) -> None:
    scenario = next(each for each in SCENARIOS if each.name == "tls_in_syn")
    servers = {server_address(scenario, version) for version in (4, 6)}
    hellos = [
        bytes(packet[TCP].payload)
        for packet in played.packets
        if TCP in packet and packet.payload.dst in servers and int(packet[TCP].flags) & SYN and packet[TCP].payload
    ]
    assert len(hellos) == ROUNDS * len(servers)
    for hello in hellos:
        assert hello[:3] == b"\x16\x03\x01"
        assert hello[5] == 1
        assert b"www.demo.example" in hello


def test_kernel_counters_moved(played: Round) -> None:
    client, server = played.counters["client"], played.counters["server"]
    for name in ("TCPFastOpenActive", "TCPFastOpenActiveFail"):
        assert client[name] > 0, name
    for name in ("Passive", "PassiveFail", "PassiveAltKey", "ListenOverflow", "CookieReqd"):
        assert server[f"TCPFastOpen{name}"] > 0, name


NAMESPACES = 5  # client, server and the three hosts behind it


@pytest.mark.parametrize(("kind", "known"), [("pfifo", True), ("tfotest", False)])
def test_trying_a_qdisc_leaves_none(kind: str, known: bool) -> None:
    with Lab() as lab:
        space = lab._namespaces[1]  # the server's
        words = ["nsenter", f"--net={lab.server_netns}", "tc", "qdisc", "show", "dev", "lo"]
        before = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        assert road.knows_qdisc(space, kind) is known
        assert subprocess.run(words, check=True, capture_output=True, text=True).stdout == before


@pytest.mark.parametrize("delayed", [True, False], ids=["road", "neither netem nor tun"])
def test_sites_are_visited_over_a_road_and_without_one(monkeypatch: pytest.MonkeyPatch, delayed: bool) -> None:
    if not delayed:
        monkeypatch.setattr(road, "knows_qdisc", lambda *_: False)
        monkeypatch.setattr(road, "_tun_devices", lambda *_: [])
    with Lab() as lab:
        assert lab.delayed is delayed
        assert ("20 ms away" in lab.about()[0]) is delayed
        lab.start_traffic(rounds=0, background_per_s=1)
        # each of the healthy sites, and that with two keys, takes SYN data sooner or later
        wait_until(lambda: tcp_counters(lab.client_pid)["TCPFastOpenActive"] >= 20, "accepted SYN data", PATIENCE_S)
        assert lab.faults == []


# The lab's end ------------------------------------------------------------------------------------------------------


def network_namespaces() -> set[int]:
    """Inode numbers of all network namespaces that some process lives in or holds a descriptor of."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        for link in (process / "ns/net", *process.glob("task/*/ns/net"), *process.glob("fd/*")):
            try:
                target = os.readlink(link)
            except OSError:  # ended meanwhile
                continue
            if target.startswith("net:["):
                found.add(int(target[5:-1]))
    return found


def alive(pid: int) -> bool:
    """Does it run? A zombie has released everything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def inode(path: str) -> int:
    return os.stat(path).st_ino


def test_nothing_is_left_after_the_block() -> None:
    descriptors = set(os.listdir("/proc/self/fd"))
    with Lab() as lab:
        pids = lab.pids
        spaces = {os.fstat(each).st_ino for each in lab._namespaces}
        assert {inode(lab.client_netns), inode(lab.server_netns)} < spaces
        assert len(spaces - {inode("/proc/self/ns/net")}) == NAMESPACES
        lab.start_traffic()
    assert not any(alive(pid) for pid in pids)
    assert not spaces & network_namespaces()
    assert set(os.listdir("/proc/self/fd")) == descriptors


def test_nothing_is_left_after_an_exception() -> None:
    try:
        with Lab() as lab:
            pids = lab.pids
            spaces = {os.fstat(each).st_ino for each in lab._namespaces}
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert not any(alive(pid) for pid in pids)
    assert not spaces & network_namespaces()


VICTIM = """
import os, sys, time
from tracer.lab.lab import Lab
with Lab() as lab:
    lab.start_traffic()
    spaces = [os.fstat(each).st_ino for each in lab._namespaces]
    other = 0
    if sys.argv[1] == "unprivileged_with_another_child":
        other = os.fork()  # has our end of the pipes too, so their readers see no end of file
    if other or sys.argv[1] != "unprivileged_with_another_child":
        print(other, *lab.pids, *spaces, flush=True)
    if sys.argv[1] != "root":
        os.setresuid(65534, 65534, 65534)
    while True:
        time.sleep(60)
"""


@dataclass
class Victim:
    """A process with a running lab, to be killed."""

    process: subprocess.Popen[str]
    pids: list[int]  # of the lab
    other: int  # another child of the process, 0 = none
    spaces: set[int]


@pytest.fixture(params=["root"])
def victim(request: pytest.FixtureRequest) -> Iterator[Victim]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", VICTIM, request.param]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        other, *words = (int(word) for word in process.stdout.readline().split())
        pids, spaces = words[:-NAMESPACES], words[-NAMESPACES:]
        try:
            assert set(spaces) <= network_namespaces()
            yield Victim(process, pids, other, set(spaces))
        finally:
            process.kill()
            for pid in (*pids, other):
                if pid and alive(pid):
                    os.kill(pid, signal.SIGKILL)


def wait_until_gone(victim: Victim) -> None:
    wait_until(lambda: not any(alive(pid) for pid in victim.pids), "children to end")
    if victim.other:
        os.kill(victim.other, signal.SIGKILL)  # it inherited the descriptors of the namespaces too
    wait_until(lambda: not victim.spaces & network_namespaces(), "namespaces to vanish")


@pytest.mark.parametrize("victim", ["root", "unprivileged", "unprivileged_with_another_child"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_nothing_is_left_after_a_signal(victim: Victim, number: signal.Signals) -> None:
    victim.process.send_signal(number)
    wait_until_gone(victim)


def test_nothing_is_left_of_children_that_hang(victim: Victim) -> None:
    for pid in victim.pids:
        os.kill(pid, signal.SIGSTOP)
    victim.process.kill()
    wait_until_gone(victim)


def test_a_dead_child_is_reported() -> None:
    with Lab() as lab:
        os.kill(lab.client_pid, signal.SIGKILL)
        with pytest.raises(CannotTraceError, match="died"):
            lab.wait_round(10)
        with pytest.raises(CannotTraceError, match="died"):
            lab.start_traffic()


def test_without_ipv6_the_rest_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "has_ipv6", lambda: False)
    with Lab() as lab:
        lab.start_traffic(rounds=1, background_per_s=50)
        assert lab.wait_round(30)
        assert lab.faults == []
        assert lab.wait_round(0) is False


def test_a_parent_that_never_asks_does_not_stop_the_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(director.Director, "_round", lambda self, spaces: None)
    with Lab() as lab:
        lab.start_traffic(rounds=20_000, background_per_s=0)  # far more than the control socket has room for
        idle = Path(f"/proc/{lab.client_pid}/wchan")
        said = Path(f"/proc/{lab.client_pid}/task/{lab.client_pid}/syscall")
        receive = {"x86_64": "45", "aarch64": "207"}[os.uname().machine]
        wait_until(lambda: said.read_text().startswith(f"{receive} "), f"all rounds, not blocked in {idle.read_text()}")
        assert lab.wait_round(1)


def test_without_root_one_sentence_says_so() -> None:
    root = Path(__file__).parents[2]
    program = "from tracer.lab.lab import Lab\nwith Lab():\n    pass\n"
    run = subprocess.run(
        [*NOT_ROOT, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=LONG_S,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    sentence = "The demo lab needs the right to make network namespaces and links: run it as root."
    assert run.stderr.splitlines()[-1] == f"tracer.errors.CannotTraceError: {sentence}"


def test_ordinary_traffic_goes_on_after_the_rounds() -> None:
    with Lab() as lab:
        assert lab.wait_round(0) is False
        lab.start_traffic(rounds=0, background_per_s=200)
        started = tcp_counters(lab.client_pid)["TCPFastOpenActive"]
        wait_until(lambda: tcp_counters(lab.client_pid)["TCPFastOpenActive"] >= started + 20, "accepted SYN data")
        assert lab.faults == []
