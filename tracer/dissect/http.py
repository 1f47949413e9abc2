"""An HTTP request in the data of a SYN: method and Host.

Sources: RFC 9112 2.1 and 3 (message, request line), RFC 9110 5.5 and 7.2 (field values, Host), RFC 9113 3.4
(the HTTP/2 preface, which counts as `http` with method PRI: a client that speaks HTTP/2 in the clear).
"""

from __future__ import annotations

import re

import msgspec

from tracer.dissect.text import name_text

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# A cut request line must at least begin like one; `\Z` lets it end anywhere in that beginning.
_CUT_LINE = re.compile(
    rb"(GET|HEAD|POST|PUT|DELETE|OPTIONS|TRACE|PATCH|PROPFIND) (?:[/*]|http|\Z)|(CONNECT) (?:[!-~]|\Z)"
)
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}\Z")  # a token (RFC 9110 5.6.2) of sane length


class Http(msgspec.Struct, frozen=True, gc=False):
    """`host` is the first Host field as sent (with its port); None if there is none or its line is cut."""

    method: str
    host: str | None


def parse_http(data: bytes) -> tuple[Http, bool] | None:
    """Method and host if `data` begins with an HTTP/1 request or HTTP/2's preface, and whether it is cut; else None.

    A request is complete with the empty line after its fields and with the body that Content-Length or chunked coding
    announces. Never raises; makes a constant number of passes over `data`.
    """
    line_end = data.find(b"\n")
    if line_end < 0:
        match = _CUT_LINE.match(data)
        if match is None:
            return (Http("PRI", None), True) if data.startswith(b"PRI * HTTP/2") else None
        return Http((match[1] or match[2]).decode("ascii"), None), True
    line = data[:line_end].rstrip(b"\r")
    if line == b"PRI * HTTP/2.0":
        return Http("PRI", None), not data.startswith(HTTP2_PREFACE)
    if line[-9:-1] != b" HTTP/1.":
        return None
    method = line[: line.find(b" ")]
    if _METHOD.match(method) is None or len(line) < len(method) + 11:  # " ", a target, " HTTP/1.1"
        return None
    body = _body_start(data)
    # start at the "\n" of the request line, so that every field name follows a "\n"
    head = data[line_end : body if body is not None else len(data)]
    lower = head.lower()
    host = _field(head, lower, b"\nhost:")
    cut = body is None or _body_cut(head, lower, data, body)
    return Http(method.decode("ascii"), name_text(host) if host else None), cut


def _body_start(data: bytes) -> int | None:
    """Offset after the empty line; a bare LF ends a line too (RFC 9112 2.2)."""
    crlf = data.find(b"\n\r\n")
    lf = data.find(b"\n\n", 0, crlf if crlf >= 0 else len(data))
    if lf >= 0:
        return lf + 2
    return crlf + 3 if crlf >= 0 else None


def _field(head: bytes, lower: bytes, name: bytes) -> bytes | None:
    """Value of the first field called `name` ("\\n", lower case, ":"); None unless its line is complete."""
    start = lower.find(name)
    if start < 0:
        return None
    start += len(name)
    end = head.find(b"\n", start)
    return None if end < 0 else head[start:end].strip(b" \t\r")


def _body_cut(head: bytes, lower: bytes, data: bytes, body: int) -> bool:
    coding = _field(lower, lower, b"\ntransfer-encoding:")
    if coding is not None:
        return coding.endswith(b"chunked") and not data.endswith(b"0\r\n\r\n")
    length = _field(head, lower, b"\ncontent-length:")
    if length is None or not length.isdigit():
        return False
    # nine digits are far above any SYN; int() of a long string is slow, and limited to 4300 digits
    return len(length) > 9 or int(length) > len(data) - body
