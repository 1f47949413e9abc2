"""Something answers SYNs before the listener does: a SYN proxy of the kernel, or a program, at the host or on the way.

A listener with Fast Open is not to blame there, and nobody took the option from the SYN: the proxy makes its own.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import count

import pytest

from tests.support.hosts import ANSWER, REQUEST
from tests.support.netbox import NetBox
from tests.support.play import send_after_ack
from tests.support.routed import TO_CLIENT, WIRE, Routed, service_address, source_address
from tests.support.synproxy import syn_proxy
from tests.support.trials import (
    NO_FATE,
    NO_QUEUE,
    NOTHING,
    PERHAPS_NO_QUEUE,
    Places,
    Said,
    Trial,
    begin,
    dial,
    fate,
    routed_places,
    said,
    serve,
)
from tracer.lab import sockets
from tracer.lab.packet import MSS_1460, Flag
from tracer.lab.stage import RawEnd

pytestmark = [pytest.mark.root, pytest.mark.slow]

SYN, ACK, PSH, RST = Flag.SYN, Flag.ACK, Flag.PSH, Flag.RST
UNSUPPORTED: Said = ("not_supported", "possible")
BEFORE: Said = ("answered_before_listener", "likely")
_numbers = count(1)


@pytest.fixture(scope="module")
def hosts_and_places() -> Iterator[tuple[Routed, Places]]:
    with routed_places() as made:
        yield made


@pytest.fixture
def hosts(hosts_and_places: tuple[Routed, Places]) -> Routed:
    return hosts_and_places[0]


def proxied(box: NetBox) -> int:
    """SYNs that the kernel's proxy has answered."""
    _, *cpus = box.run("cat", "/proc/net/stat/synproxy").splitlines()
    return sum(int(line.split()[1], 16) for line in cpus)


def ask(hosts: Routed, listener: socket.socket, version: int = 4) -> int:
    """A whole connection that asks for a cookie; the request waits for the ACK, which the proxy needs."""
    client = begin(hosts.client, listener.getsockname()[:2], asking=True, source=source_address(0, version))
    return serve(send_after_ack(client), listener)


@pytest.mark.parametrize("version", [4, 6])
def test_a_syn_proxy_at_the_host(hosts: Routed, trial: Trial, version: int) -> None:
    listener = trial.enter_context(hosts.listen(hosts.first, service_address(next(_numbers), version), trial.port))
    before = proxied(hosts.first)
    with syn_proxy(hosts.first, f"iifname {WIRE} tcp dport {trial.port}", "input"):
        known = trial.come_to("server", BEFORE, lambda: ask(hosts, listener, version), PERHAPS_NO_QUEUE)
        ports = [known, ask(hosts, listener, version), ask(hosts, listener, version)]
    assert proxied(hosts.first) >= before + 3
    for port in ports:
        assert trial.at("server", port).tfo.outcome == "cookie_not_granted"
        assert trial.said("server", port) == [BEFORE]
        assert trial.said("client", port) == trial.said("near", port) == trial.said("far", port) == [UNSUPPORTED]
        # the proxy's own SYN to the listener never had the option
        trial.nothing_said(("loopback",), port)
        assert fate(trial.at("server", port)) == NO_FATE


def test_a_syn_proxy_before_a_listener_without_fast_open(hosts: Routed, trial: Trial) -> None:
    listener = trial.enter_context(hosts.listen(hosts.first, service_address(next(_numbers)), trial.port, queue=None))
    with syn_proxy(hosts.first, f"iifname {WIRE} tcp dport {trial.port}", "input"):
        trial.come_to("server", NO_QUEUE, lambda: ask(hosts, listener), PERHAPS_NO_QUEUE)


def test_a_syn_proxy_of_a_host_with_fast_open_off(hosts: Routed, trial: Trial) -> None:
    trial.certain.add(("server", "server_disabled"))
    listener = trial.enter_context(hosts.listen(hosts.first, service_address(next(_numbers)), trial.port))
    with syn_proxy(hosts.first, f"iifname {WIRE} tcp dport {trial.port}", "input"):
        with hosts.sysctl(hosts.first, tcp_fastopen="1"):
            trial.come_to(
                "server", ("server_disabled", "certain"), lambda: ask(hosts, listener), ("server_disabled", "likely")
            )
        # once it has been seen that it is on again, that is no reason any more
        trial.come_to("server", BEFORE, lambda: ask(hosts, listener), ("server_disabled", "likely"), PERHAPS_NO_QUEUE)


def test_a_syn_proxy_that_takes_no_data(hosts: Routed, trial: Trial) -> None:
    """The client has data to send but no window, so its ACK becomes a window probe, which the proxy does not take."""
    address, source = service_address(next(_numbers)), source_address(next(_numbers))
    listener = trial.enter_context(hosts.listen(hosts.first, address, trial.port))
    trial.nothing_said(
        ("client", "near", "far", "server"), serve(dial(hosts.client, (address, trial.port), source=source), listener)
    )
    with syn_proxy(hosts.first, f"iifname {WIRE} tcp dport {trial.port}", "input"):
        client = trial.enter_context(dial(hosts.client, (address, trial.port), source=source))
        port = client.getsockname()[1]
        record = trial.at("server", port)
        assert record.tfo.outcome == "data_not_acked"
        assert said(record) in (BEFORE, NOTHING)
        assert fate(record) == NO_FATE
        # it has worked before, so that it is not supported is no explanation elsewhere
        trial.nothing_said(("client", "near", "far"), port)


def test_a_syn_proxy_on_the_way(hosts: Routed, trial: Trial) -> None:
    listener = trial.enter_context(hosts.listen(hosts.first, service_address(next(_numbers)), trial.port))
    before = proxied(hosts.router)
    with syn_proxy(hosts.router, f"iifname {TO_CLIENT} tcp dport {trial.port}"):
        ports = [ask(hosts, listener) for _ in range(2)]
    assert proxied(hosts.router) == before + 2
    for port in ports:
        assert trial.said("client", port) == trial.said("near", port) == [UNSUPPORTED]
        assert trial.at("server", port).tfo.outcome == "not_attempted"
        trial.nothing_said(("far", "server"), port)
        assert fate(trial.at("near", port)) == NO_FATE


def test_a_program_that_answers_in_the_hosts_name(hosts: Routed, trial: Trial) -> None:
    """As a balancer by XDP or AF_PACKET does: the listener is there, with Fast Open, and gets none of it."""
    number = next(_numbers)
    address, source = service_address(number), source_address(number)
    with hosts.first.inside():
        trial.enter_context(sockets.listener(4, address, trial.port, drop=sockets.DROP_ALL))
        raw = trial.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP))
    raw.bind((address, 0))
    raw.connect((source, 0))
    program = RawEnd(raw, (address, trial.port), source)

    def exchange() -> int:
        with begin(hosts.client, (address, trial.port), asking=True, source=source) as client:
            port: int = client.getsockname()[1]
            syn = program.receive(SYN)
            program.send(port, SYN | ACK, 1, syn.next_seq, options=MSS_1460)
            client.sendall(REQUEST)
            request = program.receive(PSH)
            program.send(port, PSH | ACK, 2, request.next_seq, payload=ANSWER)
            assert client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER
            program.send(port, RST, 2 + len(ANSWER))
        return port

    port = trial.come_to("server", BEFORE, exchange, PERHAPS_NO_QUEUE)
    assert fate(trial.at("server", port)) == NO_FATE
    assert trial.said("client", port) == trial.said("near", port) == trial.said("far", port) == [UNSUPPORTED]
