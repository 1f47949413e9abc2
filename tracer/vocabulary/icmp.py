"""What ICMP errors say (RFC 792, RFC 1122 3.2.2.1, RFC 1812 5.2.7.1; RFC 4443 section 3)."""

from __future__ import annotations

_V4 = {
    (3, 0): "network unreachable", (3, 1): "host unreachable", (3, 2): "protocol unreachable",
    (3, 3): "port unreachable", (3, 4): "fragmentation needed", (3, 5): "source route failed",
    (3, 6): "network unknown", (3, 7): "host unknown", (3, 8): "source host isolated",
    (3, 9): "network administratively prohibited", (3, 10): "host administratively prohibited",
    (3, 11): "network unreachable for this type of service", (3, 12): "host unreachable for this type of service",
    (3, 13): "administratively prohibited", (3, 14): "host precedence violation", (3, 15): "precedence cutoff",
    (11, 0): "TTL exceeded on the way", (11, 1): "fragments not reassembled in time",
}  # fmt: skip
_V4_TYPES = {3: "destination unreachable", 4: "source quench", 5: "redirect", 11: "time exceeded",
             12: "parameter problem"}  # fmt: skip
_V6 = {
    (1, 0): "no route", (1, 1): "administratively prohibited", (1, 2): "beyond the scope of the source address",
    (1, 3): "address unreachable", (1, 4): "port unreachable", (1, 5): "source address not allowed",
    (1, 6): "route rejects it", (1, 7): "error in the source routing header",
    (3, 0): "hop limit exceeded on the way", (3, 1): "fragments not reassembled in time",
}  # fmt: skip
_V6_TYPES = {1: "destination unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem"}


def icmp_meaning(kind: int, code: int, *, v6: bool) -> str:
    """A type and its code in words; a code that is not known is told as a number."""
    codes, types = (_V6, _V6_TYPES) if v6 else (_V4, _V4_TYPES)
    found = codes.get((kind, code))
    if found is not None:
        return found
    return f"{types[kind]}, code {code}" if kind in types else f"type {kind} code {code}"
