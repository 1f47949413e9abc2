"""Scenarios with a hand-made end, because no Linux host sends such packets or stops at such a point.

Each function plays one scenario once on its stage; scenarios.py says what that puts on the wire.
"""

from __future__ import annotations

import os

from tracer.lab import sockets
from tracer.lab.packet import MSS_1460, Flag, Segment, tfo_cookie, tfo_option
from tracer.lab.payloads import HTTP_ANSWER, HTTP_REQUEST
from tracer.lab.stage import PORT, RawEnd, Stage, answer_syn, finish_by_hand, isn, talk_by_hand

# Hand-made clients --------------------------------------------------------------------------------------------------


def _syn(client: RawEnd, options: bytes = b"", payload: bytes = b"") -> Segment:
    """Send a SYN and return the SYN-ACK."""
    client.send(PORT, Flag.SYN, isn(), options=MSS_1460 + options, payload=payload)
    return client.receive(Flag.SYN | Flag.ACK)


def half_open(stage: Stage) -> None:
    """A client that never acknowledges the SYN-ACK. The listener closes, so it sends only one."""
    with stage.listen():
        _syn(stage.raw_client())


def half_open_fast_open(stage: Stage) -> None:
    """The same, having asked for a cookie."""
    with stage.listen():
        _syn(stage.raw_client(), tfo_option())


def aborted(stage: Stage) -> None:
    """A SYN scan: the client's kernel does not know the SYN and resets."""
    stage.listen()
    _syn(stage.raw_client(deaf=False))


def aborted_fast_open(stage: Stage) -> None:
    """The same, having asked for a cookie."""
    stage.listen()
    _syn(stage.raw_client(deaf=False), tfo_option())


def request_and_data(stage: Stage) -> None:
    """A cookie request and data in one SYN: the server grants a cookie and does not take the data."""
    listener = stage.listen()
    client = stage.raw_client()
    finish_by_hand(client, _syn(client, tfo_option(), HTTP_REQUEST), listener)


def request_and_data_accepted(stage: Stage) -> None:
    """The same to a server that needs no cookies: it takes the data."""
    listener = stage.listen(no_cookie=True)
    client = stage.raw_client()
    finish_by_hand(client, _syn(client, tfo_option(), HTTP_REQUEST), listener)


def _malformed(stage: Stage, cookie_len: int) -> None:
    listener = stage.listen()
    client = stage.raw_client()
    synack = _syn(client, tfo_option(os.urandom(cookie_len)))
    if tfo_cookie(synack.options) is not None:
        raise ConnectionError("the server answered a malformed option")
    finish_by_hand(client, synack, listener)


def malformed_length_3(stage: Stage) -> None:
    """An option with a cookie of one byte."""
    _malformed(stage, 1)


def malformed_length_4(stage: Stage) -> None:
    """An option with a cookie of two bytes."""
    _malformed(stage, 2)


def malformed_length_19(stage: Stage) -> None:
    """An option with a cookie of seventeen bytes."""
    _malformed(stage, 17)


def syn_on_established(stage: Stage) -> None:
    """A new SYN on an established connection; the server's kernel sends a challenge ACK (RFC 5961 section 4)."""
    listener = stage.listen()
    client = stage.connect()
    client.sendall(HTTP_REQUEST)
    child, _ = listener.accept()
    with child:
        child.recv(65536)
        child.sendall(HTTP_ANSWER)
        client.recv(65536)
        intruder = stage.raw_port(client.getsockname()[1])
        intruder.send(PORT, Flag.SYN, isn(), options=MSS_1460)
        intruder.receive(Flag.ACK)
        client.close()


def over_acked(stage: Stage) -> None:
    """A SYN-ACK that acknowledges more than was sent; the client resets, as Linux does."""
    server, client = stage.raw_server(), stage.raw_client()
    cookie = tfo_option(os.urandom(8))
    client.send(PORT, Flag.SYN, isn(), options=MSS_1460 + cookie, payload=HTTP_REQUEST)
    syn = server.receive(Flag.SYN)
    answer_syn(server, syn, len(HTTP_REQUEST) + 100)
    synack = client.receive(Flag.SYN | Flag.ACK)
    client.send(PORT, Flag.RST, synack.ack)
    server.receive(Flag.RST)


# Hand-made servers, real clients ------------------------------------------------------------------------------------


def _grant(stage: Stage, server: RawEnd, cookie: bytes) -> None:
    """The real client asks for a cookie and gets `cookie`."""
    client = stage.fast_open(wait=False)
    syn = server.receive(Flag.SYN)
    if tfo_cookie(syn.options) != b"":
        raise ConnectionError("the client did not ask for a cookie")
    synack = answer_syn(server, syn, 0, tfo_option(cookie))
    talk_by_hand(server, syn, synack, client)


def _use(
    stage: Stage, server: RawEnd, cookie: bytes, acked: int, options: bytes = b"", data: bytes = HTTP_REQUEST
) -> None:
    """The real client uses the cookie; the server acks `acked` bytes of its data and answers with `options`."""
    client = stage.fast_open(data=data, wait=False)
    syn = server.receive(Flag.SYN)
    if tfo_cookie(syn.options) != cookie or syn.payload != data:
        raise ConnectionError("the client did not use its cookie")
    talk_by_hand(server, syn, answer_syn(server, syn, acked, options), client)


def _grant_and_use(stage: Stage, acked: int, same_cookie: bool = False, length: int = 8) -> None:
    server, cookie = stage.raw_server(), os.urandom(length)
    _grant(stage, server, cookie)
    _use(stage, server, cookie, acked, tfo_option(cookie) if same_cookie else b"")


def long_cookie(stage: Stage) -> None:
    """A cookie of sixteen bytes, the longest; Linux servers give eight."""
    _grant_and_use(stage, len(HTTP_REQUEST), length=16)


def short_cookie(stage: Stage) -> None:
    """A cookie of four bytes, the shortest."""
    _grant_and_use(stage, len(HTTP_REQUEST), length=4)


def data_partly_acked(stage: Stage) -> None:
    """The server takes ten bytes of the SYN's data."""
    _grant_and_use(stage, 10)


def same_cookie(stage: Stage) -> None:
    """The server takes no data and repeats the cookie, as if it could not create the connection's socket at once."""
    _grant_and_use(stage, 0, same_cookie=True)


def same_cookie_without_data(stage: Stage) -> None:
    """A cookie in an otherwise empty SYN; the server repeats it."""
    server, cookie = stage.raw_server(), os.urandom(8)
    _grant(stage, server, cookie)
    _use(stage, server, cookie, 0, tfo_option(cookie), data=b"")


def synack_with_data(stage: Stage) -> None:
    """The server takes the data and answers in the SYN-ACK, which a Linux client accepts."""
    server, cookie = stage.raw_server(), os.urandom(8)
    _grant(stage, server, cookie)
    client = stage.fast_open(wait=False)
    syn = server.receive(Flag.SYN)
    synack = answer_syn(server, syn, len(HTTP_REQUEST), payload=HTTP_ANSWER)
    ack = server.receive(Flag.ACK)
    if ack.ack != synack.next_seq or client.recv(65536) != HTTP_ANSWER:
        raise ConnectionError("the client did not take the data of the SYN-ACK")
    sockets.reset(client)


def simultaneous_open(stage: Stage) -> None:
    """Both ends send a SYN, then a SYN-ACK (RFC 9293 figure 8)."""
    server = stage.raw_server()
    client = stage.connect(wait=False)
    syn = server.receive(Flag.SYN)
    number, remote = isn(), syn.source_port
    server.send(remote, Flag.SYN, number, options=MSS_1460)
    synack = server.receive(Flag.SYN | Flag.ACK)
    if synack.seq != syn.seq or synack.ack != (number + 1) & 0xFFFFFFFF:
        raise ConnectionError("the client did not answer the SYN by a SYN-ACK")
    server.send(remote, Flag.SYN | Flag.ACK, number, syn.seq + 1, MSS_1460)
    server.send(remote, Flag.ACK, number + 1, syn.seq + 1)  # before Linux 6.12 the SYN-ACK alone is not enough
    client.sendall(HTTP_REQUEST)
    request = server.receive(Flag.PSH)
    server.send(remote, Flag.PSH | Flag.ACK, number + 1, request.next_seq, payload=HTTP_ANSWER)
    client.recv(65536)
    sockets.reset(client)
