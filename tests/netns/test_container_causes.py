"""A host that forwards ports to containers: it neither serves nor drops what it passes on, whoever listens there.

Its own settings, counters and sockets say nothing about Fast Open of a container, which has its own.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.support.containers import BRIDGE, GONE, HOST, ONE, OUTSIDE, TWO, Containers, container_places, listen
from tests.support.hosts import tcp_counters
from tests.support.netbox import NetBox
from tests.support.trials import (
    DROPPED,
    NO_FATE,
    NO_QUEUE,
    NOTHING,
    PERHAPS_NO_QUEUE,
    Places,
    Said,
    Trial,
    begin,
    counted,
    dial,
    dropping,
    fate,
    said,
    serve,
    translations,
    trying,
)
from tracer.lab.sockets import DROP_UNLESS_SYN, attach, detach
from tracer.records.record import Handshake

pytestmark = [pytest.mark.root, pytest.mark.slow]

ON_THE_HOST = ("uplink", "bridge", "port of one")
ON_THE_WAY = ("outside", *ON_THE_HOST)
SYN_WITH_DATA = "meta length > 100 tcp flags & (syn|ack) == syn"
OFF: Said = ("server_disabled", "likely")
FULL: Said = ("queue_overflow", "likely")
PERHAPS_FULL: Said = ("queue_overflow", "possible")
UNSUPPORTED: Said = ("not_supported", "possible")
# what listens on the host at the forwarded port beside the rule, as Docker's proxy does
BESIDE = pytest.mark.parametrize("beside", ["no proxy", "proxy", "proxy with Fast Open"])
BESIDE_OR_NOT = pytest.mark.parametrize("beside", ["no proxy", "proxy"])  # where seconds go by


@pytest.fixture(scope="module")
def hosts_and_places() -> Iterator[tuple[Containers, Places]]:
    with container_places() as made:
        yield made


@pytest.fixture
def hosts(hosts_and_places: tuple[Containers, Places]) -> Containers:
    return hosts_and_places[0]


class Forwarded:
    """A forwarded port of the host."""

    def __init__(self, hosts: Containers, trial: Trial, beside: str, to: str = ONE) -> None:
        self._hosts, self._trial, self._to = hosts, trial, to
        self.target = HOST, trial.port
        trial.enter_context(hosts.forward(trial.port, to))
        # a client has one cookie an address, and each container starts with a key of its own
        hosts.outside.run("ip", "tcp_metrics", "flush")
        if beside != "no proxy":
            self.proxy = trial.enter_context(
                listen(hosts.host, "0.0.0.0", trial.port, 64 if "Fast Open" in beside else None)
            )

    def listen(self, queue: int | None = 64) -> socket.socket:
        box = self._hosts.one if self._to == ONE else self._hosts.two
        return self._trial.enter_context(listen(box, self._to, self._trial.port, queue))

    def exchange(self, listener: socket.socket, box: NetBox | None = None, fast_open: bool = True) -> int:
        """A whole connection from outside, or from another box; returns the client's port."""
        return serve(dial(box or self._hosts.outside, self.target, fast_open=fast_open), listener)


# --- a port that is forwarded from outside ---


@BESIDE
def test_a_forwarded_port_that_works(hosts: Containers, trial: Trial, beside: str) -> None:
    forwarded = Forwarded(hosts, trial, beside)
    listener = forwarded.listen()
    with counted(hosts.one, TCPFastOpenPassive=2, TCPFastOpenPassiveFail=0), counted(hosts.host, TCPFastOpenPassive=0):
        ports = [forwarded.exchange(listener) for _ in range(3)]
    plain = forwarded.exchange(listener, fast_open=False)
    trial.nothing_said((*ON_THE_WAY, "one"), *ports, plain)
    assert len(translations(hosts.host, trial.port)) == 4
    for place in (*ON_THE_WAY, "one"):
        seen = [trial.at(place, port) for port in ports]
        assert [one.tfo.outcome for one in seen] == ["cookie_granted", "data_acked", "data_acked"]
        assert {one.tfo.cookie_check for one in seen[1:]} == {"valid" if place == "one" else None}
        assert {one.vantage for one in seen} == {_VANTAGE[place]}


_VANTAGE = {"outside": "client", "uplink": "server", "bridge": "transit", "port of one": "transit", "one": "server"}


@BESIDE
def test_a_container_whose_listener_does_without_fast_open(hosts: Containers, trial: Trial, beside: str) -> None:
    forwarded = Forwarded(hosts, trial, beside)
    listener = forwarded.listen(queue=None)
    known = trial.come_to("one", NO_QUEUE, lambda: forwarded.exchange(listener), PERHAPS_NO_QUEUE)
    for port in (known, forwarded.exchange(listener)):
        assert trial.said("one", port) == [NO_QUEUE]
        assert trial.said("outside", port) == [UNSUPPORTED]
        for place in ON_THE_HOST:
            # neither the host's sysctl nor a socket beside the rule has to do with it
            assert said(trial.at(place, port)) == UNSUPPORTED
        assert {fate(trial.at(place, port)) for place in (*ON_THE_WAY, "one")} == {NO_FATE}


def test_a_container_with_fast_open_off(hosts: Containers, trial: Trial) -> None:
    forwarded = Forwarded(hosts, trial, "proxy with Fast Open")
    listener = forwarded.listen()
    trial.certain.add(("one", "server_disabled"))
    hosts.one.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=1")
    try:
        # the look before the first one may have seen it on
        certain = ("server_disabled", "certain")
        port = trial.come_to("one", certain, lambda: forwarded.exchange(listener), OFF)
        assert {said(trial.at(place, port)) for place in ON_THE_WAY} == {UNSUPPORTED}
    finally:
        hosts.one.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=3")


@BESIDE
def test_a_container_that_drops_syns_with_data(hosts: Containers, trial: Trial, beside: str) -> None:
    forwarded = Forwarded(hosts, trial, beside)
    listener = forwarded.listen()
    trial.nothing_said((*ON_THE_WAY, "one"), forwarded.exchange(listener), forwarded.exchange(listener))
    with dropping(hosts.one, f"tcp dport {trial.port} {SYN_WITH_DATA}"):
        port = forwarded.exchange(listener)
    for place in (*ON_THE_WAY, "one"):
        record = trial.at(place, port)
        assert (record.tfo.outcome, record.handshake.syn_count) == ("syn_timeout_fallback", 2)
        # the host passed the SYN on, which is all that it can do, and the container has answered the second one
        assert fate(record)[:2] in ((None, None), ("syn_or_synack_lost", "possible")), place
        assert said(record) in ((("packet_loss", "possible"), NOTHING) if place != "one" else (NOTHING,))


@BESIDE_OR_NOT
def test_a_container_that_drops_all(hosts: Containers, trial: Trial, beside: str) -> None:
    forwarded = Forwarded(hosts, trial, beside)
    forwarded.listen()
    trial.may_drop.add("one")
    with dropping(hosts.one, f"tcp dport {trial.port}"):
        client = begin(hosts.outside, forwarded.target)
        port = client.getsockname()[1]
        client.close()  # before it would send its SYN again
        assert fate(trial.at("one", port)) == DROPPED
    # the host passed it on, as it knows, for it sees both sides
    assert {fate(trial.at(place, port)) for place in ON_THE_HOST} == {("no_answer_beyond", "likely", None)}
    assert {said(trial.at(place, port)) for place in ON_THE_WAY} == {NOTHING}
    assert {trial.at(place, port).handshake.result for place in ON_THE_WAY} == {"no_reply"}


def test_a_container_that_has_gone(hosts: Containers, trial: Trial) -> None:
    forwarded = Forwarded(hosts, trial, "proxy", GONE)
    client = trial.enter_context(begin(hosts.outside, forwarded.target))
    port = client.getsockname()[1]
    record = trial.at("uplink", port)
    # once nobody has said that the address is theirs, the host itself tells the client
    assert record.handshake.result in ("unreachable", "no_reply")
    trial.nothing_said(("outside", "uplink"), port)


def test_a_forwarded_port_of_another_number(hosts: Containers, hosts_and_places: tuple[Containers, Places]) -> None:
    with trying(hosts_and_places[1]) as outer, trying(hosts_and_places[1]) as inner:
        outer.enter_context(listen(hosts.host, "0.0.0.0", outer.port))
        outer.enter_context(hosts.forward(outer.port, ONE, inner.port))
        hosts.outside.run("ip", "tcp_metrics", "flush")
        listener = inner.enter_context(listen(hosts.one, ONE, inner.port, queue=None))
        target = HOST, outer.port
        port = inner.come_to("one", NO_QUEUE, lambda: serve(dial(hosts.outside, target), listener), PERHAPS_NO_QUEUE)
        assert outer.said("outside", port) == outer.said("uplink", port) == [UNSUPPORTED]
        assert inner.said("bridge", port) == inner.said("port of one", port) == [UNSUPPORTED]


@BESIDE
def test_a_container_where_nobody_listens(hosts: Containers, trial: Trial, beside: str) -> None:
    forwarded = Forwarded(hosts, trial, beside)
    listener = forwarded.listen()
    forwarded.exchange(listener)
    listener.close()
    client = trial.enter_context(begin(hosts.outside, forwarded.target))
    port = client.getsockname()[1]
    # without the kernel's own word, and somebody listened before
    assert fate(trial.at("one", port)) == ("no_listener", "likely", "this_host")
    for place in (*ON_THE_WAY, "one"):
        record = trial.at(place, port)
        assert (record.handshake.result, said(record)) == ("rejected", NOTHING)
        # the host has no listener there either, or has one which is not meant
        assert place == "one" or record.handshake.cause in (None, "refused"), place


@BESIDE
def test_a_container_whose_queue_overflows(hosts: Containers, trial: Trial, beside: str) -> None:
    forwarded = Forwarded(hosts, trial, beside)
    listener = forwarded.listen(queue=1)
    forwarded.exchange(listener)
    attach(listener, DROP_UNLESS_SYN)
    full = "TCPFastOpenListenOverflow"
    before, ports = tcp_counters(hosts.one)[full], []

    def exchange() -> int:
        ports.append(forwarded.exchange(listener))
        return ports[-1]

    with counted(hosts.host, TCPFastOpenListenOverflow=0):
        first = trial.enter_context(dial(hosts.outside, forwarded.target))
        child, _ = listener.accept()  # has inherited the filter, so it stays in the queue
        with child:
            detach(listener)
            trial.come_to("one", FULL, exchange, PERHAPS_FULL)
            exchange()
            first.close()
    assert tcp_counters(hosts.one)[full] == before + len(ports)
    assert trial.said("one", ports[-1]) == [FULL]
    # it has worked through this path before
    trial.nothing_said(ON_THE_WAY, *ports)


def test_the_host_to_its_own_forwarded_port(hosts: Containers, trial: Trial) -> None:
    forwarded = Forwarded(hosts, trial, "proxy")
    listener = forwarded.listen()
    ports = [forwarded.exchange(listener, hosts.host) for _ in range(2)]
    trial.nothing_said(("bridge", "port of one", "one"), *ports)
    assert {trial.at("bridge", port).vantage for port in ports} == {"client"}


def test_a_proxy_that_serves_itself(hosts: Containers, trial: Trial) -> None:
    """Here the host's own settings are the reason, and there is no rule that would take the port elsewhere."""
    trial.certain.add(("uplink", "server_disabled"))
    hosts.outside.run("ip", "tcp_metrics", "flush")
    proxy = trial.enter_context(listen(hosts.host, "0.0.0.0", trial.port))
    off = ("server_disabled", "certain")
    port = trial.come_to("uplink", off, lambda: serve(dial(hosts.outside, (HOST, trial.port)), proxy), OFF)
    assert trial.said("outside", port) == [UNSUPPORTED]


# --- from a container to the outside, in the host's name ---


def test_a_container_that_is_masqueraded(hosts: Containers, trial: Trial) -> None:
    hosts.one.run("ip", "tcp_metrics", "flush")
    listener = trial.enter_context(listen(hosts.outside, OUTSIDE, trial.port))
    ports = [serve(dial(hosts.one, listener.getsockname()), listener) for _ in range(3)]
    trial.nothing_said(("one", *reversed(ON_THE_WAY)), *ports)
    for place, vantage in (("one", "client"), ("bridge", "transit"), ("uplink", "client"), ("outside", "server")):
        seen = [trial.at(place, port) for port in ports]
        assert [one.tfo.outcome for one in seen] == ["cookie_granted", "data_acked", "data_acked"]
        assert {one.vantage for one in seen} == {vantage}


def test_a_masqueraded_container_and_a_server_without_fast_open(hosts: Containers, trial: Trial) -> None:
    hosts.one.run("ip", "tcp_metrics", "flush")
    listener = trial.enter_context(listen(hosts.outside, OUTSIDE, trial.port, queue=None))
    target = listener.getsockname()
    port = trial.come_to("outside", NO_QUEUE, lambda: serve(dial(hosts.one, target), listener), PERHAPS_NO_QUEUE)
    for place in ("one", *ON_THE_HOST):
        record = trial.at(place, port)
        assert (said(record), fate(record)) == (UNSUPPORTED, NO_FATE), place


# --- from one container by the host's address to another, and to itself ---


@BESIDE
@pytest.mark.parametrize("to", [TWO, ONE], ids=["the other", "itself"])
def test_a_container_that_goes_by_the_hosts_address(hosts: Containers, trial: Trial, to: str, beside: str) -> None:
    forwarded = Forwarded(hosts, trial, beside, to)
    listener = forwarded.listen()
    hosts.one.run("ip", "tcp_metrics", "flush")
    target, port_of_target = ("two", "port of two") if to == TWO else ("one", "port of one")
    box = hosts.two if to == TWO else hosts.one
    with counted(box, TCPFastOpenPassive=2, TCPFastOpenPassiveFail=0):
        ports = [forwarded.exchange(listener, hosts.one) for _ in range(3)]
    for port in ports:
        # before it is translated, and after
        ways = [(place, HOST) for place in ("one", "port of one", "bridge")]
        ways += [(place, to) for place in ("bridge", port_of_target, target)]
        for place, server in ways:
            record = trial.at(place, port, server)
            assert (said(record), fate(record)) == (NOTHING, NO_FATE), (place, server)
            assert record.handshake.result == "established"
        assert trial.at("bridge", port, HOST).vantage == "server"
        assert (trial.at("bridge", port, to).client.ip, trial.at("bridge", port, to).vantage) == (BRIDGE, "client")


def _is_first(one: Handshake) -> bool:
    return one.handshake.resumed is None


def _is_resumed(one: Handshake) -> bool:
    return one.handshake.resumed == "aborted"


@BESIDE_OR_NOT
def test_answers_that_do_not_come_back_by_the_host(hosts: Containers, trial: Trial, beside: str) -> None:
    forwarded = Forwarded(hosts, trial, beside, TWO)
    forwarded.listen()
    with hosts.no_masquerade():
        client = trial.enter_context(begin(hosts.one, forwarded.target))
        port = client.getsockname()[1]
        # the container answers the other one, which knows no such connection, each time anew
        for first in (True, False):
            at_two = trial.at("two", port, match=_is_first if first else _is_resumed)
            assert (at_two.handshake.result, at_two.client.ip) == ("aborted", ONE)
            assert (said(at_two), fate(at_two)) == (NOTHING, NO_FATE)
        client.close()
        for place in ("one", "port of one", "bridge"):
            record = trial.at(place, port, HOST)
            assert (record.handshake.result, record.tfo.outcome) == ("no_reply", "not_attempted")
            assert said(record) == NOTHING, place
            if place != "one":
                assert fate(record) == ("nat_one_way", "likely", None), place
