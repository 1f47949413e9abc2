"""The table of scenarios: what each puts on the wire, in the words of the handshake records.

A server address belongs to one scenario (`tracer.lab.topology.scenario_address`), so the records of one round with
that server address, in the order of their first SYN, are exactly `Scenario.handshakes`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tracer.lab import kernel_scenarios as kernel
from tracer.lab import raw_scenarios as raw
from tracer.lab import topology
from tracer.lab.stage import Stage
from tracer.lab.topology import Place


@dataclass(frozen=True, slots=True)
class Expected:
    """One handshake as a tracer on the client's interface must judge it: `tfo.*` and `handshake.result`."""

    request: str
    outcome: str
    result: str = "established"
    kind: int | None = None  # of the SYN's Fast Open option; None = no well-formed one
    syn_count: int = 1


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named piece of traffic. `made_by`: kernel, raw_client, raw_server or raw_both."""

    name: str
    play: Callable[[Stage], None]
    handshakes: tuple[Expected, ...]
    made_by: str = "kernel"
    place: Place = Place.SERVER
    slow: bool = False  # takes about a second, so it runs beside the others
    versions: tuple[int, ...] = (4, 6)


_PLAIN = Expected("none", "not_attempted")
_ASKED = Expected("cookie_request", "cookie_granted", kind=34)
_NOT_GRANTED = Expected("cookie_request", "cookie_not_granted", kind=34)


def _used(outcome: str, result: str = "established", kind: int = 34, syn_count: int = 1) -> Expected:
    return Expected("cookie_and_data", outcome, result, kind, syn_count)


def _only(outcome: str) -> Expected:
    return Expected("cookie", outcome, kind=34)


_ACKED = _used("data_acked")
_NEW_COOKIE = _used("data_not_acked_new_cookie")
_MALFORMED = Expected("malformed", "not_attempted")

# Those that settle by a timeout come first: a short demo must see them settled too.
SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "syn_data_dropped", kernel.syn_data_dropped, (_ASKED, _used("syn_timeout_fallback", syn_count=2)), slow=True
    ),
    Scenario("no_answer", kernel.no_answer, (_ASKED, _used("no_answer", "no_reply"))),
    Scenario("plain_no_reply", kernel.plain_no_reply, (Expected("none", "not_attempted", "no_reply"),)),
    Scenario("half_open", raw.half_open, (Expected("none", "not_attempted", "half_open"),), "raw_client"),
    Scenario(
        "half_open_fast_open",
        raw.half_open_fast_open,
        (Expected("cookie_request", "cookie_granted", "half_open", 34),),
        "raw_client",
    ),
    Scenario("plain", kernel.plain, (_PLAIN,)),
    Scenario("cookie_asked", kernel.cookie_asked, (_ASKED,)),
    Scenario("tls_in_syn", kernel.tls_in_syn, (_ASKED, _ACKED)),
    Scenario("http_in_syn", kernel.http_in_syn, (_ASKED, _ACKED)),
    Scenario("dns_in_syn", kernel.dns_in_syn, (_ASKED, _ACKED)),
    Scenario("stale_cookie", kernel.stale_cookie, (_ASKED, _NEW_COOKIE, _ACKED)),
    Scenario("key_rotation", kernel.key_rotation, (_ASKED, _used("data_acked_new_cookie"), _ACKED)),
    Scenario(
        "pool_without_shared_key",
        kernel.pool_without_shared_key,
        (_ASKED, _NEW_COOKIE, _NEW_COOKIE, _NEW_COOKIE),
    ),
    Scenario(
        "host_without_fast_open",
        kernel.host_without_fast_open,
        (_NOT_GRANTED, Expected("cookie_request", "cookie_not_granted", kind=254)),
        place=Place.FAR,
    ),
    Scenario("listener_without_fast_open", kernel.listener_without_fast_open, (_ASKED, _used("data_not_acked"))),
    Scenario(
        "experimental_option",
        kernel.experimental_option,
        (_NOT_GRANTED, Expected("cookie_request", "cookie_granted", kind=254), _used("data_acked", kind=254)),
    ),
    Scenario("queue_overflow", kernel.queue_overflow, (_ASKED, _ACKED, _used("data_not_acked"))),
    Scenario("cookieless_accepted", kernel.cookieless_accepted, (Expected("data_only", "data_acked"),)),
    Scenario("cookieless_refused", kernel.cookieless_refused, (Expected("data_only", "data_not_acked"),)),
    Scenario("cookie_without_data", kernel.cookie_without_data, (_ASKED, _only("cookie_only"))),
    Scenario(
        "stale_cookie_without_data",
        kernel.stale_cookie_without_data,
        (_ASKED, _only("cookie_only_new_cookie")),
    ),
    Scenario(
        "path_mtu_fallback",
        kernel.path_mtu_fallback,
        (Expected("data_only", "syn_timeout_fallback", syn_count=2),),
        place=Place.FAR,
    ),
    Scenario("rejected", kernel.rejected, (_ASKED, _used("rejected", "rejected"))),
    Scenario("plain_rejected", kernel.plain_rejected, (Expected("none", "not_attempted", "rejected"),)),
    Scenario(
        "unreachable",
        kernel.unreachable,
        (Expected("cookie_request", "rejected", "unreachable", 34), Expected("data_only", "rejected", "unreachable")),
        place=Place.UNREACHABLE,
    ),
    Scenario(
        "plain_unreachable",
        kernel.plain_unreachable,
        (Expected("none", "not_attempted", "unreachable"),),
        place=Place.UNREACHABLE,
    ),
    Scenario("aborted", raw.aborted, (Expected("none", "not_attempted", "aborted"),), "raw_client"),
    Scenario(
        "aborted_fast_open",
        raw.aborted_fast_open,
        (Expected("cookie_request", "cookie_granted", "aborted", 34),),
        "raw_client",
    ),
    Scenario(
        "request_and_data",
        raw.request_and_data,
        (Expected("cookie_request_and_data", "data_not_acked_new_cookie", kind=34),),
        "raw_client",
    ),
    Scenario(
        "request_and_data_accepted",
        raw.request_and_data_accepted,
        (Expected("cookie_request_and_data", "data_acked", kind=34),),
        "raw_client",
    ),
    Scenario("malformed_length_3", raw.malformed_length_3, (_MALFORMED,), "raw_client"),
    Scenario("malformed_length_4", raw.malformed_length_4, (_MALFORMED,), "raw_client"),
    Scenario("malformed_length_19", raw.malformed_length_19, (_MALFORMED,), "raw_client"),
    Scenario(
        "syn_on_established",
        raw.syn_on_established,
        (_PLAIN, Expected("none", "not_attempted", "syn_on_established")),
        "raw_client",
    ),
    Scenario("long_cookie", raw.long_cookie, (_ASKED, _ACKED), "raw_server"),
    Scenario("short_cookie", raw.short_cookie, (_ASKED, _ACKED), "raw_server"),
    Scenario("data_partly_acked", raw.data_partly_acked, (_ASKED, _used("data_partly_acked")), "raw_server"),
    Scenario("same_cookie", raw.same_cookie, (_ASKED, _used("data_not_acked_same_cookie")), "raw_server"),
    Scenario(
        "same_cookie_without_data",
        raw.same_cookie_without_data,
        (_ASKED, _only("cookie_only_same_cookie")),
        "raw_server",
    ),
    Scenario("synack_with_data", raw.synack_with_data, (_ASKED, _ACKED), "raw_server"),
    Scenario(
        "simultaneous_open",
        raw.simultaneous_open,
        (Expected("none", "not_attempted", "simultaneous_open"),),
        "raw_server",
    ),
    Scenario("over_acked", raw.over_acked, (_used("over_acked", "aborted"),), "raw_both"),
)


def versions() -> tuple[int, ...]:
    """The IP versions this kernel can show."""
    return (4, 6) if topology.has_ipv6() else (4,)


def server_address(scenario: Scenario, version: int) -> str:
    """The server address that belongs to this scenario alone."""
    return topology.scenario_address(SCENARIOS.index(scenario), scenario.place, version)
