"""pyroute2 as this program uses it: a refusal is an OSError with the kernel's own sentence.

Only short-lived processes and the lab import this module. Importing pyroute2 takes 0.1 to 0.2 s and 14 MB, so the two
parts of a run do without it (netlink.py), which an import contract proves. Never use a socket on both sides of a fork.
Never give IPRoute its `netns` argument, which creates namespaces: enter the namespace first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyroute2.iproute import IPRoute
from pyroute2.netlink.exceptions import NetlinkError


@contextmanager
def refusals() -> Iterator[None]:
    """Turn pyroute2's NetlinkError into OSError: the subclass of its errno, with the kernel's sentence."""
    try:
        yield
    except NetlinkError as error:
        code, sentence = error.args
        raise OSError(code, sentence) from error


@contextmanager
def route_socket() -> Iterator[IPRoute]:
    """rtnetlink in the calling thread's network namespace. Refusals raise OSError."""
    with refusals(), IPRoute(ext_ack=True) as route:
        yield route
