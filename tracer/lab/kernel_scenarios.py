"""Scenarios where both ends are real kernels: the wire shows what Linux does, not what we think it does.

Each function plays one scenario once on its stage; scenarios.py says what that puts on the wire.
"""

from __future__ import annotations

from collections.abc import Callable

from tracer.lab import sockets, topology
from tracer.lab.background import exchange_tls
from tracer.lab.packet import Flag
from tracer.lab.payloads import HTTP_REQUEST, dns_query
from tracer.lab.stage import PLAIN_PORT, Stage, cookie_key
from tracer.lab.topology import SERVICE_DNS, SERVICE_HTTP, SERVICE_TLS

_CLOSED_PORT = 9
_LARGE_REQUEST = HTTP_REQUEST.replace(b"\r\n\r\n", b"\r\nX-Padding: " + b"x" * 2000 + b"\r\n\r\n")


def plain(stage: Stage) -> None:
    """An ordinary handshake."""
    listener = stage.listen()
    client = stage.connect()
    client.sendall(HTTP_REQUEST)
    stage.serve(listener, client)


def cookie_asked(stage: Stage) -> None:
    """The client asks for a cookie and gets one."""
    stage.prime(stage.listen())


def tls_in_syn(stage: Stage) -> None:
    """A ClientHello in the SYN to a real TLS server."""
    for _ in range(2):
        exchange_tls(stage.server_ip, SERVICE_TLS, "www.demo.example", fast_open=True)


def http_in_syn(stage: Stage) -> None:
    """An HTTP request in the SYN."""
    for _ in range(2):
        stage.finish(stage.fast_open(SERVICE_HTTP))


def dns_in_syn(stage: Stage) -> None:
    """A DNS query over TCP in the SYN."""
    for _ in range(2):
        stage.finish(stage.fast_open(SERVICE_DNS, dns_query()))


def stale_cookie(stage: Stage) -> None:
    """The server changed its key without a backup; the client gets a new cookie, and its data is taken again."""
    listener = stage.listen(key=cookie_key())
    stage.prime(listener)
    sockets.set_key(listener, cookie_key())
    for _ in range(2):
        stage.serve(listener, stage.fast_open())


def key_rotation(stage: Stage) -> None:
    """The server changed its key and kept the old one as backup."""
    old = cookie_key()
    listener = stage.listen(key=old)
    stage.prime(listener)
    sockets.set_key(listener, cookie_key(), backup=old)
    for _ in range(2):
        stage.serve(listener, stage.fast_open())


def pool_without_shared_key(stage: Stage) -> None:
    """Several servers behind one address, each with its own key."""
    listener = stage.listen(key=cookie_key())
    stage.prime(listener)
    for _ in range(3):
        sockets.set_key(listener, cookie_key())
        stage.serve(listener, stage.fast_open())


def host_without_fast_open(stage: Stage) -> None:
    """The sysctl of the server turns Fast Open off; Linux clients then ask once with the experimental option."""
    listener = stage.listen()
    for _ in range(2):
        stage.serve(listener, stage.fast_open())


def listener_without_fast_open(stage: Stage) -> None:
    """The host has a listener with Fast Open and one without TCP_FASTOPEN, which ignores cookie and data."""
    stage.prime(stage.listen())
    listener = stage.listen(PLAIN_PORT, queue=None)
    stage.serve(listener, stage.fast_open(PLAIN_PORT))


def experimental_option(stage: Stage) -> None:
    """The client gets no cookie for kind 34, asks with kind 254, gets one and uses it."""
    plain_listener = stage.listen(PLAIN_PORT, queue=None)
    stage.serve(plain_listener, stage.fast_open(PLAIN_PORT))
    listener = stage.listen()
    for _ in range(2):
        stage.serve(listener, stage.fast_open())


def queue_overflow(stage: Stage) -> None:
    """A Fast Open queue of one, full with a connection whose ACK has not arrived."""
    listener = stage.listen(queue=1)
    stage.prime(listener)
    sockets.attach(listener, sockets.DROP_UNLESS_SYN)
    first = stage.fast_open()
    child, _ = listener.accept()  # it inherited the filter, so it stays in SYN_RECV and in the queue
    with child:
        sockets.detach(listener)
        stage.serve(listener, stage.fast_open())
        child.sendall(b"late answer\n")
        first.recv(65536)
        sockets.reset(child)


def cookieless_accepted(stage: Stage) -> None:
    """Data without a cookie to a server that needs none (by a socket option; sysctl bit 0x200 does it for a host)."""
    stage.serve(stage.listen(no_cookie=True), stage.fast_open(no_cookie=True))


def cookieless_refused(stage: Stage) -> None:
    """Data without a cookie to a server that needs one."""
    stage.serve(stage.listen(), stage.fast_open(no_cookie=True))


def cookie_without_data(stage: Stage) -> None:
    """A cookie in an otherwise empty SYN."""
    listener = stage.listen()
    stage.prime(listener)
    client = stage.fast_open(data=b"")
    client.sendall(HTTP_REQUEST)
    stage.serve(listener, client)


def stale_cookie_without_data(stage: Stage) -> None:
    """An outdated cookie in an otherwise empty SYN."""
    listener = stage.listen(key=cookie_key())
    stage.prime(listener)
    sockets.set_key(listener, cookie_key())
    client = stage.fast_open(data=b"")
    client.sendall(HTTP_REQUEST)
    stage.serve(listener, client)


def syn_data_dropped(stage: Stage) -> None:
    """The path drops SYNs with data; after a second, the client's kernel sends a bare SYN."""
    listener = stage.listen()
    stage.prime(listener)
    sockets.attach(listener, sockets.DROP_SYN_WITH_DATA)
    stage.serve(listener, stage.fast_open())


def path_mtu_fallback(stage: Stage) -> None:
    """The SYN's data is too large for the path: ICMP says so, and the client's kernel sends a bare SYN at once.

    Before 5.11, Linux waited for a second here, too.
    """
    topology.forget_path_mtu()
    listener = stage.listen()
    client = stage.fast_open(data=_LARGE_REQUEST, no_cookie=True)
    stage.serve(listener, client, _LARGE_REQUEST)


def _refused(attempt: Callable[[], object]) -> None:
    try:
        attempt()
    except OSError as error:
        if isinstance(error, BlockingIOError):  # a timeout: no answer came
            raise
        return
    raise ConnectionError("a connection that must fail did not")


def rejected(stage: Stage) -> None:
    """Cookie and data to a closed port."""
    stage.prime(stage.listen())

    def attempt() -> None:
        stage.fast_open(_CLOSED_PORT).recv(1)

    _refused(attempt)


def plain_rejected(stage: Stage) -> None:
    """A closed port."""
    _refused(lambda: stage.connect(_CLOSED_PORT))


def unreachable(stage: Stage) -> None:
    """A router answers a cookie request, and then data without a cookie, by ICMP.

    On so short a path, the error arrives while connect() still works on the socket. Linux then takes it only as a hint
    and repeats its SYN after a second. So this does not wait.
    """
    stage.fast_open(wait=False).close()
    stage.fast_open(wait=False, no_cookie=True).close()


def plain_unreachable(stage: Stage) -> None:
    """A router answers by ICMP."""
    stage.connect(wait=False).close()


def no_answer(stage: Stage) -> None:
    """Cookie and data, without an answer. The client gives up before it repeats its SYN."""
    stage.prime(stage.listen())
    server = stage.raw_server(PLAIN_PORT)
    stage.fast_open(PLAIN_PORT, wait=False).close()
    server.receive(Flag.SYN)


def plain_no_reply(stage: Stage) -> None:
    """No answer."""
    server = stage.raw_server()
    stage.connect(wait=False).close()
    server.receive(Flag.SYN)
