"""The benefit of Fast Open with a TLS server 40 ms away, as reported by tfotrace."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.hosts import ADDRESSES, MSG_FASTOPEN, Hosts
from tests.support.nginx import NAME, nginx
from tests.support.slowpath import DELAY_S, DEVICE, first_in_line, slow_hosts
from tests.support.tracing import assert_balanced, tracing
from tracer.lab.payloads import ClientHello, client_tls
from tracer.records.run import Benefit

pytestmark = pytest.mark.root

ATTEMPTS = 3  # a busy machine can shift the medians of one run; a wrong benefit is wrong in every run
CONNECTIONS = 30  # handshakes of each kind, alternately, so that a busy moment of the machine affects both
SERVER = (ADDRESSES[4][1], 443)


def hello(hosts: Hosts, fast_open: bool) -> None:
    """The first round of a TLS handshake, ClientHello and the server's first bytes, in a separate thread."""
    with ThreadPoolExecutor(1, initializer=first_in_line) as pool:
        pool.submit(_hello, hosts, fast_open).result(30)


def _hello(hosts: Hosts, fast_open: bool) -> None:
    first_flight = ClientHello(client_tls(), NAME).first_flight
    with hosts.client.inside():
        client = socket.socket()
    with client:
        if fast_open:
            client.sendto(first_flight, MSG_FASTOPEN, SERVER)
        else:
            client.connect(SERVER)
            client.sendall(first_flight)
        assert client.recv(1)


def measured(folder: Path) -> list[Benefit]:
    """The benefit with the server, as traced at the client and at the server."""
    folder.mkdir()
    found = []
    with (
        slow_hosts() as hosts,
        nginx(hosts.server, folder) as server,
        tracing(DEVICE, "--json", "--netns", hosts.client.name) as at_client,
        tracing(DEVICE, "--json", "--netns", hosts.server.name) as at_server,
    ):
        first_in_line(server)
        hello(hosts, True)  # asks for the cookie
        for _ in range(CONNECTIONS):
            hello(hosts, True)
            hello(hosts, False)
        handshakes = 2 * CONNECTIONS + 1
        for run in (at_client, at_server):
            run.wait_for(lambda _, run=run: len(run.handshakes) >= handshakes, "every handshake")  # type: ignore[misc]
            assert run.stop() == 0
            assert_balanced(run.end)
            assert run.end.totals.outcomes["data_acked"] == CONNECTIONS
            (one,) = run.end.benefits
            assert any(f"first response of {SERVER[0]}:443 with Fast Open: " in line for line in run.said)
            found.append(one)
    return found


def test_with_a_tls_server_it_is_one_round_trip(tmp_path: Path) -> None:
    for attempt in range(ATTEMPTS):
        found = measured(tmp_path / str(attempt))
        for one in found:
            assert (one.ip, one.port) == SERVER
            # the one that asked for the cookie had no data in its SYN
            assert (one.tfo_samples, one.normal_samples) == (CONNECTIONS, CONNECTIONS + 1)
            assert one.rtt_median_us is not None
            assert one.rtt_median_us >= 2 * DELAY_S * 1e6
            assert one.sooner_us == pytest.approx(one.normal_median_us - one.tfo_median_us, abs=0.01)
            assert one.tfo_median_us <= one.tfo_p90_us
            assert one.normal_median_us <= one.normal_p90_us
        if all(one.sooner_rtts == pytest.approx(1, abs=0.05) for one in found):
            break
    else:
        pytest.fail(f"{ATTEMPTS} times not one round trip: {found}")
