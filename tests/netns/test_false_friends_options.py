"""Situations that resemble causes about options and data without a cookie: none may be told as what it is not.

Of cookie_not_required, cookie_required, option_malformed and answered_before_listener.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.support.hosts import REQUEST, TCP_FASTOPEN
from tests.support.patience import SHORT_S
from tests.support.play import OVERFLOW, Play, Seen, by_both_versions, come_to, moving, syn_proxy
from tests.support.stage import PORT
from tests.support.world import NONE, cause_of
from tracer.lab.packet import tfo_option
from tracer.lab.sockets import DROP_UNLESS_SYN, TCP_FASTOPEN_NO_COOKIE, attach, detach

pytestmark = [pytest.mark.root, pytest.mark.slow]

COOKIE = bytes.fromhex("0123456789abcdef")
TAKES_WITHOUT_COOKIE = 0x203
LISTENER_DISABLED = ("listener_disabled", "likely")


@pytest.fixture(autouse=True)
def as_before(play: Play, look: Callable[[], None]) -> Iterator[None]:
    """Each begins and ends with Fast Open on, and with a run that knows it."""
    with play.hosts.sysctl(play.hosts.first, tcp_fastopen="3"):
        look()
        yield


def set_fast_open(play: Play, value: int) -> None:
    play.hosts.first.run("sysctl", "-qw", f"net.ipv4.tcp_fastopen={value}")


def outcomes(seen: Seen) -> set[str | None]:
    return {one.tfo.outcome for one in seen}


def causes(seen: Seen) -> set[str | None]:
    return {one.tfo.cause for one in seen}


# --- cookie_not_required ---


def test_a_server_that_once_took_data_without_a_cookie(play: Play, look: Callable[[], None]) -> None:
    """Then it was switched over, and its program started anew without Fast Open."""
    set_fast_open(play, TAKES_WITHOUT_COOKIE)
    with play.hosts.listen(play.hosts.first, play.server_ip, PORT) as listener:
        assert outcomes(play.seen(play.exchange(listener, no_cookie=True))) == {"data_acked"}
    set_fast_open(play, 3)
    look()
    without = play.listen(queue=None)
    unknown = ("cookie_not_required", "possible")
    seen = come_to(lambda: play.seen(play.exchange(without)), LISTENER_DISABLED, unknown)
    assert outcomes(seen) == {"cookie_not_granted"}


def test_another_port_that_takes_data_without_a_cookie(play: Play) -> None:
    """A socket can be set so, whatever the sysctl says."""
    free = play.listen_at(PORT + 1)
    free.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
    assert outcomes(play.seen(play.exchange(free, no_cookie=True))) == {"data_acked"}
    without = play.listen(queue=None)
    seen = come_to(lambda: play.seen(play.exchange(without)), LISTENER_DISABLED)
    assert outcomes(seen) == {"cookie_not_granted"}
    assert "cookie_not_required" not in causes(seen)


def test_a_server_that_takes_data_without_a_cookie_and_grants_one(play: Play) -> None:
    """As other systems may: there is a cookie to be had."""
    server = play.raw_server()
    taken = play.by_hand(server, tfo_option(COOKIE), len(REQUEST), play.fast_open_without_cookie())
    assert outcomes(play.seen(taken)) == {"data_acked"}
    refused = play.seen(play.by_hand(server))
    assert outcomes(refused) == {"cookie_not_granted"}
    assert not {"cookie_not_required"} & {cause for cause, sure in map(cause_of, refused[:2]) if sure != "possible"}


# --- cookie_required ---


def test_a_full_queue_of_a_server_that_wants_no_cookie(play: Play, look: Callable[[], None]) -> None:
    set_fast_open(play, TAKES_WITHOUT_COOKIE)
    look()
    listener = play.listen(queue=1)
    assert outcomes(play.seen(play.exchange(listener, no_cookie=True))) == {"data_acked"}
    attach(listener, DROP_UNLESS_SYN)
    with play.hosts.open(listener, no_cookie=True), listener.accept()[0]:
        detach(listener)

        def step() -> Seen:
            with moving(play.hosts.first, TCPFastOpenListenOverflow=1):
                return play.seen(play.exchange(listener, no_cookie=True))

        seen = come_to(step, *OVERFLOW)
    assert outcomes(seen) == {"data_not_acked"}
    # elsewhere it is known that this server has taken such data
    assert "cookie_required" not in causes(seen)


@by_both_versions
def test_data_without_a_cookie_for_a_listener_without_fast_open(play: Play) -> None:
    """Bit 0x200 would not help: the kernel asks for the listener's own queue first."""
    listener = play.listen(queue=None)
    for tcp_fastopen in (3, TAKES_WITHOUT_COOKIE):
        set_fast_open(play, tcp_fastopen)
        with moving(play.hosts.first, TCPFastOpenPassive=0):
            seen = come_to(lambda: play.seen(play.exchange(listener, no_cookie=True)), LISTENER_DISABLED)
        assert outcomes(seen) == {"data_not_acked"}


def test_data_without_a_cookie_for_a_server_with_fast_open_off(play: Play, look: Callable[[], None]) -> None:
    listener = play.listen()
    set_fast_open(play, 0x201)  # takes data without a cookie, were the server's bit on
    look()
    step = partial(play.exchange, listener, no_cookie=True)
    seen = come_to(lambda: play.seen(step()), ("server_disabled", "certain"), ("server_disabled", "likely"))
    assert outcomes(seen) == {"data_not_acked"}


# --- option_malformed ---


@pytest.mark.parametrize(
    "option", [bytes((34, 5, 1, 2, 3)), bytes((34, 20)) + bytes(18), bytes((254, 5, 0xF9, 0x89, 1))]
)
def test_an_option_of_a_wrong_length(play: Play, option: bytes) -> None:
    """This is the cause itself."""
    listener = play.listen()
    port, _ = play.send_by_hand(listener, option)
    seen = play.seen(port)
    assert ({one.tfo.request for one in seen}, outcomes(seen)) == ({"malformed"}, {"data_not_acked"})
    assert {cause_of(one) for one in seen} == {("option_malformed", "certain")}


def test_an_answer_alone_with_a_wrong_length(play: Play) -> None:
    seen = play.seen(play.by_hand(play.raw_server(), bytes((34, 5, 1, 2, 3))))
    assert outcomes(seen) == {"cookie_not_granted"}
    assert "option_malformed" not in causes(seen)


@pytest.mark.parametrize(
    ("option", "outcome"),
    [
        (bytes((254, 7, 0xE2, 0xD4, 1, 2, 3)), "data_not_acked"),  # another experiment, of any length
        (bytes((254, 2)), "data_not_acked"),  # none at all
        (bytes((34, 2)), "data_not_acked_new_cookie"),  # a request
        (bytes((254, 4, 0xF9, 0x89)), "data_not_acked_new_cookie"),  # one of the experiment
        (bytes((34, 6, 1, 2, 3, 4)), "data_not_acked_new_cookie"),  # the shortest cookie
        (bytes((34, 18)) + bytes(16), "data_not_acked_new_cookie"),  # the longest one, of zeros
        (bytes((69, 5, 1, 2, 3)), "data_not_acked"),  # TCP-ENO
    ],
)
def test_options_that_are_well_formed_or_of_others(play: Play, option: bytes, outcome: str) -> None:
    listener = play.listen()
    port, _ = play.send_by_hand(listener, option)
    seen = play.seen(port)
    assert outcomes(seen) == {outcome}
    assert "malformed" not in {one.tfo.request for one in seen}
    assert "option_malformed" not in causes(seen)


# --- answered_before_listener ---


def test_a_syn_proxy_on_the_host(play: Play) -> None:
    """This is the cause itself."""
    listener = play.listen()
    with syn_proxy(play.hosts.first, "input", play.server_ip), moving(play.hosts.first, TCPFastOpenCookieReqd=0):
        seen = come_to(lambda: play.seen(play.exchange_with_proxy(listener)), ("answered_before_listener", "likely"))
    assert outcomes(seen) == {"cookie_not_granted"}
    assert cause_of(seen.client) == ("not_supported", "possible")


def test_a_syn_proxy_before_a_listener_without_fast_open(play: Play) -> None:
    """Without the proxy it would not be granted either."""
    listener = play.listen(queue=None)
    with syn_proxy(play.hosts.first, "input", play.server_ip):
        seen = play.seen(play.exchange_with_proxy(listener))
    assert outcomes(seen) == {"cookie_not_granted"}
    assert "answered_before_listener" not in causes(seen)


@pytest.mark.parametrize("by_route", [False, True], ids=["its own option", "the route"])
def test_a_listener_that_alone_wants_no_cookie(play: Play, by_route: bool) -> None:
    """It grants none, whatever the sysctl says; nobody else has answered."""
    listener = play.listen()
    route = ("route", "replace", "10.98.0.0/24", "via", "10.98.1.1")
    if by_route:
        play.hosts.first.run("ip", *route, "fastopen_no_cookie", "1")
        play.callback(play.hosts.first.run, "ip", "route", "del", "10.98.0.0/24")
    else:
        listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)

    def step() -> Seen:
        with moving(play.hosts.first, TCPFastOpenCookieReqd=1):
            return play.seen(play.exchange(listener))

    for _ in range(3):
        assert outcomes(come_to(step, NONE)) == {"cookie_not_granted"}
    assert outcomes(play.seen(play.exchange(listener, no_cookie=True))) == {"data_acked"}
    likely, possible = ("cookie_not_required", "likely"), ("cookie_not_required", "possible")
    come_to(lambda: play.seen(play.exchange(listener)), likely, possible)


def test_a_listener_that_is_given_fast_open_after_its_answer(play: Play) -> None:
    """Who asks only then cannot know, so nothing is certain."""
    listener = play.listen(queue=None)
    client = play.hosts.open(listener)
    child = play.accept(listener)
    listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 64)
    play.answer(child, client)
    seen = play.seen(client.getsockname()[1])
    client.close()
    assert outcomes(seen) == {"cookie_not_granted"}
    # the listener took notice of the request, which nobody else has answered then
    assert cause_of(seen.server)[1] in (None, "possible", "likely")


@by_both_versions
def test_a_listener_with_fast_open_while_the_server_has_it_off(play: Play, look: Callable[[], None]) -> None:
    listener = play.listen()
    set_fast_open(play, 1)
    look()
    sure, before = ("server_disabled", "certain"), ("server_disabled", "likely")
    seen = come_to(lambda: play.seen(play.exchange(listener)), sure, before)
    assert outcomes(seen) == {"cookie_not_granted"}


def sharing(play: Play, address: str, queue: int, device: str = "") -> socket.socket:
    """A listener that shares its port with others."""
    with play.hosts.first.inside():
        made = play.enter_context(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
    made.settimeout(SHORT_S)
    for share in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        made.setsockopt(socket.SOL_SOCKET, share, 1)
    if device:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    made.bind((address, PORT))
    made.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, queue)
    made.listen()
    return made


@pytest.mark.parametrize(("address", "device"), [("0.0.0.0", ""), ("::", ""), ("", "lo")])
def test_another_listener_of_the_port_with_fast_open(play: Play, address: str, device: str) -> None:
    """The kernel takes the one whose address and device fit best, and that one does without.

    Whether it asks one of another device, the socket table does not tell.
    """
    own = sharing(play, play.server_ip, 0)
    sharing(play, address or play.server_ip, 64, device)
    wanted = ("listener_disabled", "possible") if device else LISTENER_DISABLED
    seen = come_to(lambda: play.seen(play.exchange(own)), wanted)
    assert outcomes(seen) == {"cookie_not_granted"}


def test_a_port_that_the_host_redirects(play: Play) -> None:
    """The listener that the SYN is for never sees it; the one that does has no Fast Open."""
    play.listen()
    own = play.listen_at(PORT + 1, queue=None)
    rule = f"ip daddr {play.server_ip} tcp dport {PORT} dnat to {play.server_ip}:{PORT + 1}"
    box = play.hosts.first
    box.run("nft", f"table ip own-ports {{ chain c {{ type nat hook prerouting priority dstnat; {rule}; }}; }}")
    try:
        client = play.fast_open()
        seen = play.seen(play.hosts.serve(own, client))
    finally:
        box.run("nft", "delete", "table", "ip", "own-ports")
    assert outcomes(seen) == {"cookie_not_granted"}
    assert "answered_before_listener" not in causes(seen)
    assert "certain" not in {one.tfo.cause_confidence for one in seen}


def test_two_listeners_of_a_port_one_of_them_with_fast_open(play: Play) -> None:
    """The kernel takes either, by a hash; which one it was the socket table does not tell."""
    both = [sharing(play, play.server_ip, queue) for queue in (0, 64)]
    answered = []
    for _ in range(16):
        client = play.hosts.open(both[0])
        (ready, *_), _, _ = select.select(both, [], [], SHORT_S)
        answered.append((ready, play.seen(play.hosts.serve(ready, client))))
    without = [seen for listener, seen in answered if listener is both[0]]
    assert 0 < len(without) < 16
    assert {one.server.tfo.outcome for one in without} <= {"cookie_not_granted", "data_not_acked"}
    assert not {("answered_before_listener", "likely"), ("answered_before_listener", "certain")} & {
        cause_of(one.server) for one in without
    }
