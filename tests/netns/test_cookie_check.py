"""Cookies of real clients at a real server, verified under the kernel's own keys: valid, backup, invalid, unknown."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.hosts import service, tcp_counters
from tests.support.netbox import wait_until
from tests.support.patience import FACTOR, PATIENCE_S
from tests.support.routed import SOURCES, WIRE, Routed, routed, service_address, source_address
from tests.support.tracing import Run, tracing
from tracer.lab.packet import MSS_1460, Flag, Segment, encode, tfo_option
from tracer.lab.sockets import set_key
from tracer.records.record import Handshake

pytestmark = [pytest.mark.root, pytest.mark.slow]

CONNECTIONS = int(1000 / FACTOR)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Routed]:
    with routed() as made:
        yield made


@pytest.fixture(scope="module")
def run(hosts: Routed) -> Iterator[Run]:
    """At the server, seen by an ordinary user: the keys are not for them."""
    with tracing(WIRE, "--json", "--user", "nobody", "--netns", hosts.first.name) as run:
        yield run


def new_key() -> str:
    return "-".join(secrets.token_hex(4) for _ in range(4))


def set_keys(hosts: Routed, *keys: str) -> None:
    hosts.first.run("sysctl", "-qw", f"net.ipv4.tcp_fastopen_key={','.join(keys)}")


def with_cookie(run: Run, address: str) -> list[Handshake]:
    """The handshakes with a server address that brought a cookie."""
    return [one for one in run.handshakes if one.server.ip == address and one.tfo.cookie_len]


def checks(run: Run, address: str, expected: int) -> Counter[tuple[str | None, str | None]]:
    """How often which outcome came with which check, once so many have come."""
    wait_until(lambda: len(with_cookie(run, address)) >= expected, f"{expected} handshakes with a cookie", PATIENCE_S)
    return Counter((one.tfo.outcome, one.tfo.cookie_check) for one in with_cookie(run, address))


@pytest.mark.parametrize(("version", "connections"), [(4, CONNECTIONS), (6, 100)])
def test_every_cookie_of_many_clients_is_valid(hosts: Routed, run: Run, version: int, connections: int) -> None:
    address = service_address(version, version)
    before = tcp_counters(hosts.first)
    with hosts.listen(hosts.first, address) as listener:
        for number in range(SOURCES):
            for _ in range(1 + connections // SOURCES):  # the first asks for the cookie
                hosts.exchange(listener, source_address(number, version))
    assert checks(run, address, connections) == {("data_acked", "valid"): connections}
    after = tcp_counters(hosts.first)
    assert after["TCPFastOpenPassive"] - before["TCPFastOpenPassive"] == connections
    assert after["TCPFastOpenPassiveFail"] == before["TCPFastOpenPassiveFail"]
    assert len({one.client.ip for one in with_cookie(run, address)}) == SOURCES
    # asked for, not brought
    asked = [one for one in run.handshakes if one.server.ip == address and one.tfo.outcome == "cookie_granted"]
    assert {one.tfo.cookie_check for one in asked} == {None}


@pytest.mark.parametrize("version", [4, 6])
def test_rotation_with_a_backup_and_without(hosts: Routed, run: Run, version: int) -> None:
    address = service_address(10 + version, version)
    # a Linux client remembers five addresses' cookies for one server (TCP_METRICS_RECLAIM_DEPTH)
    sources = [source_address(number, version) for number in range(5)]
    old, new = new_key(), new_key()
    set_keys(hosts, old)
    with hosts.listen(hosts.first, address) as listener:
        for source in sources * 2:
            hosts.exchange(listener, source)
        assert checks(run, address, 5) == {("data_acked", "valid"): 5}
        before = tcp_counters(hosts.first)
        set_keys(hosts, new, old)
        for source in sources * 2:
            hosts.exchange(listener, source)
        after = tcp_counters(hosts.first)
        assert after["TCPFastOpenPassiveAltKey"] - before["TCPFastOpenPassiveAltKey"] == 5
        rotated = {("data_acked", "valid"): 10, ("data_acked_new_cookie", "valid_backup"): 5}
        assert checks(run, address, 15) == rotated
        set_keys(hosts, new_key())
        for source in sources:
            hosts.exchange(listener, source)
        refused = tcp_counters(hosts.first)["TCPFastOpenPassiveFail"] - after["TCPFastOpenPassiveFail"]
        assert refused == 5
        assert checks(run, address, 20) == {**rotated, ("data_not_acked_new_cookie", "invalid"): 5}


def test_a_forged_cookie_is_invalid(hosts: Routed, run: Run) -> None:
    address = service_address(20)
    source = source_address(0)
    with hosts.listen(hosts.first, address) as listener, hosts.client.inside():
        port = listener.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
            raw.bind((source, 0))
            for number in range(20):
                forged = Segment(
                    20000 + number, port, 1000, 0, Flag.SYN, MSS_1460 + tfo_option(secrets.token_bytes(8)), b"hello"
                )
                raw.sendto(encode(forged, source, address), (address, 0))
        # the client's kernel knows nothing of these and resets
        assert checks(run, address, 20) == {("data_not_acked_new_cookie", "invalid"): 20}


def test_a_listener_with_a_key_of_its_own_is_not_judged(hosts: Routed, run: Run) -> None:
    address = service_address(21)
    with hosts.listen(hosts.first, address) as listener:
        set_key(listener, secrets.token_bytes(16))
        for _ in range(3):
            hosts.exchange(listener)
        set_key(listener, secrets.token_bytes(16))
        hosts.exchange(listener)
    # right or wrong under a key that nobody can read: unknown
    assert checks(run, address, 3) == {("data_acked", None): 2, ("data_not_acked_new_cookie", None): 1}


def test_from_the_client_a_cookie_is_not_judged(hosts: Routed) -> None:
    address = service_address(22)
    with tracing(WIRE, "--json", "--netns", hosts.client.name) as run:
        with hosts.listen(hosts.first, address) as listener:
            for _ in range(2):
                hosts.exchange(listener)
        assert checks(run, address, 1) == {("data_acked", None): 1}


def test_over_lo_both_ends_are_here(hosts: Routed) -> None:
    first = hosts.first
    with tracing("lo", "--json", "--netns", first.name) as run, service(first, first, "127.0.0.1") as web:
        ports = [web.exchange(fast_open=True) for _ in range(3)]
        seen = [run.wait_port(port) for port in ports]
    assert {one.vantage for one in seen} == {"local"}
    assert [(one.tfo.outcome, one.tfo.cookie_check) for one in seen] == [
        ("cookie_granted", None), ("data_acked", "valid"), ("data_acked", "valid")
    ]  # fmt: skip
    assert {one.tfo.cause for one in seen} == {None}


def test_a_handshake_that_is_open_when_tracing_ends_is_checked_too(hosts: Routed) -> None:
    address = service_address(23)
    with tracing(WIRE, "--json", "--netns", hosts.first.name) as run, hosts.listen(hosts.first, address) as listener:
        hosts.exchange(listener)
        with hosts.open(listener) as client:
            child, _ = listener.accept()  # nobody answers: the record would wait for that
            with child:
                assert run.stop() == 0
                port = client.getsockname()[1]
        last = run.wait_port(port)
    assert (last.handshake.settled_by, last.tfo.outcome, last.tfo.cookie_check) == ("at_end", "data_acked", "valid")


def test_the_key_is_nowhere_in_what_the_run_says_or_holds(hosts: Routed, run: Run) -> None:
    key = hosts.first.run("sysctl", "-n", "net.ipv4.tcp_fastopen_key").strip().split(",")[0]
    words = key.split("-")
    assert len(words) == 4
    said = b"".join(run.lines) + "\n".join(run.said).encode()
    raw = b"".join(int(word, 16).to_bytes(4, "little") for word in words)
    assert raw not in said
    assert key.encode() not in said
    # nor in the memory of the part that is not root, which a search for something that must be there proves searched
    program = (
        "import sys\n"
        "pid, *wanted = sys.argv[1:]\n"
        "found = {text: 0 for text in wanted}\n"
        "with open(f'/proc/{pid}/maps') as maps, open(f'/proc/{pid}/mem', 'rb', 0) as memory:\n"
        "    for line in maps:\n"
        "        span, rights = line.split()[:2]\n"
        "        begin, end = (int(one, 16) for one in span.split('-'))\n"
        "        if not rights.startswith('rw'):\n"
        "            continue\n"
        "        try:\n"
        "            memory.seek(begin)\n"
        "            data = memory.read(end - begin)\n"
        "        except (OSError, OverflowError, ValueError):\n"
        "            continue\n"
        "        for text in wanted:\n"
        "            found[text] += data.count(bytes.fromhex(text))\n"
        "print(*(found[text] for text in wanted))\n"
    )
    there = b"data_acked_new_cookie"
    wanted = [there.hex(), raw.hex(), key.encode().hex()]
    held = subprocess.run(
        [sys.executable, "-c", program, str(run.user_part), *wanted], check=True, capture_output=True, text=True
    ).stdout.split()
    assert int(held[0]) > 0
    assert held[1:] == ["0", "0"]
    assert os.stat(f"/proc/{run.user_part}").st_uid != 0
