"""Addresses, settings and sockets that change while a handshake is under way: it is judged by what was at its time."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.support.hosts import REQUEST, TCP_FASTOPEN
from tests.support.netbox import NetBox, wait_until
from tests.support.routed import Routed, service_address, source_address
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
    dial,
    dropping,
    fate,
    routed_places,
    said,
    serve,
)

pytestmark = [pytest.mark.root, pytest.mark.slow]

RESPONSE_TIMEOUT_S = 2
UNSUPPORTED: Said = ("not_supported", "possible")
LOST: Said = ("packet_loss", "possible")
_BY_SETTING = {"tcp_fastopen": "server_disabled", "tcp_syncookies": "syn_cookies"}
NOT_YET = "10.99.99.1"  # an address that the router sends to the first server, which has it only in one test
_numbers = count(1)


@pytest.fixture(scope="module")
def hosts_and_places() -> Iterator[tuple[Routed, Places]]:
    with routed_places("--response-timeout", str(RESPONSE_TIMEOUT_S)) as made:
        yield made


@pytest.fixture
def hosts(hosts_and_places: tuple[Routed, Places]) -> Routed:
    return hosts_and_places[0]


def remove(box: NetBox, address: str) -> None:
    box.run("ip", "address", "del", f"{address}/32", "dev", "lo")


def known(hosts: Routed, trial: Trial, listener: socket.socket, source: str) -> None:
    """Until the server's host knows that a listener has no Fast Open."""
    # the look before the first one may have seen a setting of the test before
    less = (PERHAPS_NO_QUEUE, *((cause, "likely") for cause in _BY_SETTING.values()))
    trial.come_to("server", NO_QUEUE, lambda: answered_after(hosts, listener, source), *less)


def settings(box: NetBox, **values: str) -> None:
    """Set net.ipv4 settings at once, without a program of its own that would take its time."""
    with box.inside():
        for name, value in values.items():
            Path(f"/proc/sys/net/ipv4/{name}").write_text(value)


def address_errors(box: NetBox) -> int:
    """Packets to addresses that are not the host's (IpInAddrErrors)."""
    told = box.run("nstat", "-asz", "IpInAddrErrors")
    return int(told.split("IpInAddrErrors")[1].split()[0])


# --- addresses ---


def test_an_address_removed_while_its_syn_is_pending(hosts: Routed, trial: Trial) -> None:
    address = service_address(next(_numbers))
    trial.enter_context(hosts.listen(hosts.first, address, trial.port))
    trial.may_drop.add("server")
    with dropping(hosts.first, f"tcp dport {trial.port}") as dropped:
        client = begin(hosts.client, (address, trial.port))
        port = client.getsockname()[1]
        dropped.wait()
        client.close()
        remove(hosts.first, address)
        record = trial.at("server", port)
    assert (record.vantage, record.handshake.result, fate(record)) == ("server", "no_reply", DROPPED)
    trial.nobody_answers(("client", "near", "far"), port)
    # what comes for it now is not for this host
    before = address_errors(hosts.first)
    client = begin(hosts.client, (address, trial.port))
    port = client.getsockname()[1]
    wait_until(lambda: address_errors(hosts.first) > before, "a packet to nobody's address")
    client.close()
    record = trial.at("server", port)
    assert (record.vantage, record.handshake.result) == ("transit", "no_reply")
    assert said(record) == NOTHING
    assert fate(record) in (NO_FATE, ("not_forwarded", "likely", "this_host"))


def test_an_address_added_while_a_syn_to_it_is_pending(hosts: Routed, trial: Trial) -> None:
    before = address_errors(hosts.first)
    client = begin(hosts.client, (NOT_YET, trial.port), asking=True)
    wait_until(lambda: address_errors(hosts.first) > before, "a packet to nobody's address")
    hosts.first.run("ip", "address", "add", f"{NOT_YET}/32", "dev", "lo")
    trial.callback(remove, hosts.first, NOT_YET)
    listener = trial.enter_context(hosts.listen(hosts.first, NOT_YET, trial.port))
    client.sendall(REQUEST)
    port = serve(client, listener)
    seen = {place: trial.at(place, port) for place in ("client", "near", "far", "server")}
    assert {one.tfo.outcome for one in seen.values()} == {"syn_timeout_fallback"}
    assert {one.handshake.result for one in seen.values()} == {"established"}
    # the SYN came to a host that it did not belong to
    assert seen["server"].vantage == "transit"
    assert {said(one) for one in seen.values()} <= {LOST, NOTHING}
    assert {fate(one) for one in seen.values()} <= {NO_FATE, ("syn_or_synack_lost", "possible", None)}


def test_an_address_removed_before_its_handshake_is_settled(hosts: Routed, trial: Trial) -> None:
    address = service_address(next(_numbers))
    listener = trial.enter_context(hosts.listen(hosts.first, address, trial.port, queue=None))
    known(hosts, trial, listener, "10.98.0.2")
    client = trial.enter_context(dial(hosts.client, (address, trial.port)))
    port = client.getsockname()[1]
    trial.enter_context(listener.accept()[0])
    remove(hosts.first, address)
    record = trial.at("server", port)
    assert (record.vantage, record.handshake.result, record.tfo.outcome) == (
        "server", "established", "cookie_not_granted",
    )  # fmt: skip
    assert (said(record), fate(record)) == (NO_QUEUE, NO_FATE)
    assert trial.said("client", port) == trial.said("near", port) == [UNSUPPORTED]


def test_a_clients_address_removed_while_its_syn_is_pending(hosts: Routed, trial: Trial) -> None:
    number = next(_numbers)
    address, source = service_address(number), source_address(number)
    trial.enter_context(hosts.listen(hosts.first, address, trial.port))
    with dropping(hosts.router, f"tcp dport {trial.port}", "forward") as dropped:
        client = begin(hosts.client, (address, trial.port), source=source)
        port = client.getsockname()[1]
        dropped.wait()
        remove(hosts.client, source)
        client.close()
        record = trial.at("client", port)
    assert (record.vantage, record.handshake.result) == ("client", "no_reply")
    trial.nobody_answers(("client", "near"), port)


# --- settings ---


def answered_after(
    hosts: Routed, listener: socket.socket, source: str, change: Callable[[], object] = lambda: None
) -> int:
    """A connection during which something changes, after its SYN-ACK and before it is settled; the client's port."""
    client = dial(hosts.client, listener.getsockname(), source=source)
    change()
    return serve(client, listener)


@pytest.mark.parametrize(
    ("setting", "value"), [("tcp_fastopen", "1"), ("tcp_fastopen", "515"), ("tcp_syncookies", "2")],
    ids=["Fast Open off", "no cookies required", "always SYN cookies"],
)  # fmt: skip
def test_a_setting_changed_after_a_listener_without_fast_open_answered(
    hosts: Routed, trial: Trial, setting: str, value: str
) -> None:
    number = next(_numbers)
    source = source_address(number)
    listener = trial.enter_context(hosts.listen(hosts.first, service_address(number), trial.port, queue=None))
    known(hosts, trial, listener, source)
    old = hosts.first.run("sysctl", "-n", f"net.ipv4.{setting}").strip()
    for _ in range(4):
        # by this one the setting is seen as it was: what changes and changes back between two looks, nobody sees
        trial.at("server", answered_after(hosts, listener, source))
        try:
            port = answered_after(hosts, listener, source, lambda: settings(hosts.first, **{setting: value}))
            # the setting has nothing to do with it, and nobody can be certain that it has
            assert said(trial.at("server", port)) in (NO_QUEUE, (_BY_SETTING[setting], "likely"))
            assert trial.said("client", port) == trial.said("near", port) == [UNSUPPORTED]
        finally:
            settings(hosts.first, **{setting: old})


def test_fast_open_switched_on_after_it_was_off_for_a_syn(hosts: Routed, trial: Trial) -> None:
    number = next(_numbers)
    source = source_address(number)
    listener = trial.enter_context(hosts.listen(hosts.first, service_address(number), trial.port))
    trial.certain.add(("server", "server_disabled"))
    told = []
    for _ in range(4):
        try:
            settings(hosts.first, tcp_fastopen="1")
            # after this one it has been seen off; the look before it may have seen it on
            before = trial.at("server", answered_after(hosts, listener, source))
            assert before.tfo.cause == "server_disabled"
            port = answered_after(hosts, listener, source, lambda: settings(hosts.first, tcp_fastopen="3"))
            told.append(said(trial.at("server", port)))
            assert trial.said("client", port) == trial.said("near", port) == [UNSUPPORTED]
        finally:
            settings(hosts.first, tcp_fastopen="3")
    # a look that came right between SYN-ACK and switch saw it off, as it was
    assert set(told) <= {("server_disabled", "likely"), ("server_disabled", "certain")}
    assert ("server_disabled", "likely") in told


# --- sockets ---


def test_a_listener_that_gets_fast_open_after_it_answered(hosts: Routed, trial: Trial) -> None:
    number = next(_numbers)
    source = source_address(number)
    listener = trial.enter_context(hosts.listen(hosts.first, service_address(number), trial.port, queue=None))
    known(hosts, trial, listener, source)
    port = answered_after(hosts, listener, source, lambda: listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 64))
    # nobody answered before it: it was the listener, as it then was
    assert said(trial.at("server", port)) in (NO_QUEUE, PERHAPS_NO_QUEUE, NOTHING)
