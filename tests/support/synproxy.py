"""The kernel's own SYN proxy (nf_synproxy): it answers with SYN cookies, and goes on to the listener after the ACK."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from tests.support.netbox import NetBox

_OPTIONS = "mss 1460 wscale 7 timestamp sack-perm"
_tables = count()


@contextmanager
def syn_proxy(box: NetBox, match: str, hook: str = "forward") -> Iterator[None]:
    """Answer SYNs that match an nft expression, at a hook (input, forward). Skips the test on kernels without."""
    if "sysctl" in (loose := box.run("sh", "-c", "sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0 2>&1 || true")):
        pytest.skip(f"this kernel has no conntrack: {loose}")  # with loose=1 the ACK is no stranger to conntrack
    table = f"proxy-{next(_tables)}"
    box.run(
        "nft",
        f"table inet {table} {{"
        f" chain raw {{ type filter hook prerouting priority raw; {match} tcp flags & (syn|ack) == syn notrack; }};"
        f" chain c {{ type filter hook {hook} priority 0;"
        f" {match} ct state invalid,untracked synproxy {_OPTIONS}; }}; }}",
    )
    try:
        yield
    finally:
        box.run("nft", "delete", "table", "inet", table)
