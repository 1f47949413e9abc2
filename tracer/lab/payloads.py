"""What the lab's clients put into a SYN (TLS, HTTP and DNS over TCP), and the answers."""

from __future__ import annotations

import os
import ssl
import struct

from tracer.lab.certificate import DEMO_CERTIFICATE, DEMO_KEY


def http_request(host: str) -> bytes:
    """A request for a page."""
    return f"GET /index.html HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("ascii")


HTTP_REQUEST = http_request("demo.example")
HTTP_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n"


def dns_query(name: str = "demo.example") -> bytes:
    """An A query after its two-byte TCP length (RFC 1035 sections 4.1 and 4.2.2)."""
    labels = b"".join(bytes((len(label),)) + label.encode("ascii") for label in name.split("."))
    message = struct.pack("!6H", 0x7413, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)
    return struct.pack("!H", len(message)) + message


def dns_answer(query: bytes) -> bytes:
    """The answer to `dns_query`: one A record, 192.0.2.1."""
    question = query[14:]
    record = struct.pack("!HHHIH4B", 0xC00C, 1, 1, 60, 4, 192, 0, 2, 1)
    message = query[2:4] + struct.pack("!5H", 0x8180, 1, 1, 0, 0) + question + record
    return struct.pack("!H", len(message)) + message


def server_tls() -> ssl.SSLContext:
    """TLS with the public demo certificate. The files that OpenSSL needs are only in memory."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # nobody resumes, and unread tickets would end connections by RST
    context.set_alpn_protocols(["h2", "http/1.1"])
    certificate, key = _memory_file("certificate", DEMO_CERTIFICATE), _memory_file("key", DEMO_KEY)
    try:
        context.load_cert_chain(f"/proc/self/fd/{certificate}", f"/proc/self/fd/{key}")
    finally:
        os.close(certificate)
        os.close(key)
    return context


def client_tls() -> ssl.SSLContext:
    """TLS that trusts everybody: the demo server's key is public, so checking it would prove nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    # a key of post-quantum cryptography, which OpenSSL 3.5 offers, makes the ClientHello too long for a SYN
    context.set_ecdh_curve("prime256v1")
    return context


class ClientHello:
    """A TLS client whose first flight exists before the connection, so that it can be in the SYN."""

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._step()
        self.first_flight = self._outgoing.read()

    def receive(self, data: bytes) -> bytes | None:
        """Take bytes from the server; returns what to send back, or None if it needs more bytes."""
        self._incoming.write(data)
        if not self._step():
            return None
        self._tls.write(HTTP_REQUEST)
        return self._outgoing.read()

    def _step(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True


def _memory_file(name: str, text: str) -> int:
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    os.write(descriptor, text.encode("ascii"))
    return descriptor
