"""An MSS that is too large for the interface by which it leaves, between real kernels."""

from __future__ import annotations

import pytest

from tests.support.hosts import Service, service
from tests.support.netbox import wait_until
from tests.support.routed import TO_CLIENT, TO_FIRST, routed, service_address
from tests.support.tracing import Run, tracing

pytestmark = pytest.mark.root
TOO_LARGE = ("mss_above_mtu",)


def warned(run: Run, asked: Service) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is said at the interface to the client, and at that to the server."""
    port = asked.exchange()
    near, far = (run.wait_port(port, interface).warnings for interface in (TO_CLIENT, TO_FIRST))
    return near, far


@pytest.mark.parametrize("version", [4, 6])
def test_where_a_routers_mtu_is_smaller(version: int) -> None:
    with routed() as hosts, service(hosts.client, hosts.first, service_address(1, version)) as asked:
        router = hosts.router
        router.run("ip", "link", "set", TO_FIRST, "mtu", "1400")
        with tracing("--netns", router.name, "-i", TO_CLIENT, "-i", TO_FIRST, "--json") as run:
            # the server's answer arrives there, and leaves by the larger one
            assert warned(run, asked) == ((), TOO_LARGE)
            router.run("ip", "link", "set", TO_FIRST, "mtu", "1500")
            wait_until(lambda: warned(run, asked) == ((), ()), "the larger MTU is known")
            router.run("ip", "link", "set", TO_CLIENT, "mtu", "1300")
            wait_until(lambda: warned(run, asked) == (TOO_LARGE, ()), "the smaller one as well")
