"""--prometheus: the aggregates of tracer/aggregate/metrics.py as metric families, made at each scrape.

Units are base units (seconds, bytes), counters end in _total; docs/FLEET.md describes names and labels.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tracer.aggregate.metrics import BOUNDS_US, FAST_OPEN, OTHER, Counts, Durations, Metrics, server_text
from tracer.handshake.batch import Batch
from tracer.ipc.traced import TracedInterface
from tracer.records.cost import Cost
from tracer.records.run import Balance, End, NoticeRecord, Start, Stats
from tracer.sinks.prometheus_server import MetricsServer
from tracer.vocabulary.vocabulary import (
    AFTER_WORDS,
    GROUP_OF,
    Cause,
    Confidence,
    CookieCheck,
    Group,
    HandshakeCause,
    HandshakeResult,
    Outcome,
    Request,
    Vantage,
    word,
    words_or_null,
)

_US_PER_S = 1e6
_LE = [f"{bound / _US_PER_S:g}" for bound in BOUNDS_US.tolist()] + ["+Inf"]
_VANTAGE = [word(one) for one in Vantage]
_OUTCOME = [word(one) for one in Outcome]

# Help of counters exported as tfotrace_<name>_total; other names get theirs from the name.
_COUNTED = {
    "packets": "Packets seen by the programs",
    "syns": "SYN segments",
    "synacks": "SYN-ACK segments",
    "late_syns": "SYNs that arrived after their record was settled",
    "seen_again": "Segments seen again at another interface of a group",
    "synack_unmatched": "SYN-ACKs whose SYN was not seen",
    "payloads": "SYN payloads captured",
    "payloads_lost": "SYN payloads lost because their ring was full",
    "drops": "Words of the kernel on dropped segments and resets",
    "drops_lost": "Words of the kernel lost because their ring was full",
    "drops_skipped": "Freed packets and resets not looked at, since there were too many at once",
    "fragments": "IP fragments other than the first",
    "not_tcp": "Packets of other kinds: no TCP segment and none of the frames that are not read",
}
_BALANCE = {
    "opened": "Handshakes opened by a first SYN",
    "emitted": "Handshake records sent to user space",
    "lost": "Handshake records lost because the ring was full",
    "suppressed": "Unanswered handshakes above 10,000 per second: counted but not reported",
}


class Prometheus:
    """A sink and an observer; other threads answer scrapes."""

    def __init__(self, listener: MetricsServer, servers: int = 0) -> None:
        self._listener = listener
        self.address = listener.address
        self._lock = threading.Lock()
        self._metrics = Metrics(servers)
        self._start: Start | None = None
        self._began_s = time.time()
        self._balance: Balance | None = None
        self._counters: Mapping[str, int] = {}
        self._interfaces: list[TracedInterface] = []
        self._host: Mapping[str, int] = {}
        self._sysctls: Mapping[str, str] = {}
        self._notices: dict[str, int] = {}
        self._cost: Cost | None = None
        self._ring_fill = 0.0
        self._drain_lag_us: float | None = None

    # --- sink ---

    def start(self, record: Start) -> None:
        """Start to serve."""
        self._start = record
        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        registry.register(_Families(self))
        self._listener.serve(make_wsgi_app(registry))

    def write(self, batch: Batch) -> None:
        """Count the handshakes."""
        with self._lock:
            self._metrics.add(batch)

    def notice(self, record: NoticeRecord) -> None:
        """Count the notice."""
        self._notices[record.kind] = self._notices.get(record.kind, 0) + 1

    def stats(self, record: Stats) -> None:
        """Do nothing: the observer gets newer figures."""

    def tick(self) -> None:
        """Do nothing: nothing is buffered."""

    def close(self, record: End | None) -> None:  # noqa: ARG002 - the closed port says it
        """Release the port."""
        self._listener.close()

    # --- observer ---

    def set_balance(self, balance: Balance, counters: Mapping[str, int]) -> None:
        """Keep the newest balance and counters."""
        self._balance, self._counters = balance, counters

    def set_interfaces(self, interfaces: Iterable[TracedInterface]) -> None:
        """Keep the interfaces traced now."""
        self._interfaces = list(interfaces)
        with self._lock:
            self._metrics.set_interfaces(self._interfaces)

    def set_host(self, counters: Mapping[str, int], sysctls: Mapping[str, str]) -> None:
        """Keep the counters and sysctls of the traced namespace."""
        self._host, self._sysctls = counters, sysctls

    def set_cost(self, cost: Cost, taken_ns: int) -> None:  # noqa: ARG002 - counters have no time of their own
        """Keep the newest cost."""
        self._cost = cost

    def set_ring_fill(self, share: float) -> None:
        """Keep the ring's fill, 0 to 1."""
        self._ring_fill = share

    def set_drain_lag(self, lag_us: float | None) -> None:
        """Keep the time from settling to reading."""
        self._drain_lag_us = lag_us

    # --- families ---

    def families(self) -> list[Metric]:
        """All metric families with their current values."""
        with self._lock:
            found = list(self._handshakes())
        return [*found, *self._about_the_run(), *self._spent(), *self._sheet(), *self._namespace()]

    def _handshakes(self) -> Iterator[Metric]:
        metrics = self._metrics
        names = [OTHER, *(name for name, _ in metrics.interfaces)]
        yield _counted(
            "tfotrace_handshakes", "Handshakes settled", ("interface", "vantage", "result"), metrics.results,
            names, _VANTAGE, words_or_null(HandshakeResult),
        )  # fmt: skip
        outcomes = CounterMetricFamily(
            "tfotrace_tfo_outcomes", "Handshakes by outcome of Fast Open",
            labels=("interface", "vantage", "outcome", "group"),
        )  # fmt: skip
        for (interface, vantage, number), count in metrics.outcomes.items():
            died, outcome = divmod(number, len(Outcome))
            group = GROUP_OF[Outcome(outcome)]
            if died and group not in (Group.OK, Group.DEGRADED):
                continue
            told = Group.FAILED if died else group
            outcomes.add_metric((names[interface], _VANTAGE[vantage], _OUTCOME[outcome], told.word), count)
        yield outcomes
        yield _counted(
            "tfotrace_tfo_lived", "SYN data acked whole, and the connection lived", ("interface", "vantage"),
            metrics.lived, names, _VANTAGE,
        )  # fmt: skip
        yield _counted(
            "tfotrace_established", "Established connections by what settled them", ("interface", "vantage", "after"),
            metrics.after, names, _VANTAGE, AFTER_WORDS,
        )  # fmt: skip
        yield _counted(
            "tfotrace_tfo_requests", "Handshakes by what the SYN asked for", ("request",), metrics.requests,
            [word(one) for one in Request],
        )  # fmt: skip
        yield from self._inferred()
        yield _histogram("tfotrace_handshake_rtt_seconds", "Round trip", ("vantage",), metrics.rtt, _VANTAGE)
        yield _histogram(
            "tfotrace_first_response_seconds", "From the first SYN to the first byte of the server's answer",
            ("vantage", "fast_open"), metrics.first_response, _VANTAGE, FAST_OPEN,
        )  # fmt: skip
        yield _counter("tfotrace_syn_data_bytes", "Bytes carried by first SYNs", metrics.syn_data_bytes)
        yield _counter("tfotrace_syn_data_acked_bytes", "Bytes of first SYNs acked by SYN-ACKs", metrics.acked_bytes)
        yield _counter("tfotrace_tfo_saved_seconds", "Round trips saved by Fast Open", metrics.saved_us / _US_PER_S)
        yield _counter(
            "tfotrace_tfo_delay_seconds", "Time lost in SYN timeouts of Fast Open attempts",
            metrics.delay_us / _US_PER_S,
        )  # fmt: skip
        if metrics.servers is not None:
            servers = [OTHER, *(server_text(key) for key, _ in metrics.servers)]
            yield _counted(
                "tfotrace_server_handshakes", "Handshakes by server (--prometheus-peers)", ("server", "group"),
                metrics.server_groups, servers, [one.word for one in Group],
            )  # fmt: skip
            yield _counted(
                "tfotrace_server_results", "Handshakes by server and result (--prometheus-peers)", ("server", "result"),
                metrics.server_results, servers, words_or_null(HandshakeResult),
            )  # fmt: skip

    def _inferred(self) -> Iterator[Metric]:
        yield _counted(
            "tfotrace_tfo_causes", "Handshakes by inferred cause", ("cause", "confidence"),
            self._metrics.causes, words_or_null(Cause), words_or_null(Confidence),
        )  # fmt: skip
        yield _counted(
            "tfotrace_handshake_causes", "Handshakes by why they failed or took so long", ("cause", "confidence"),
            self._metrics.handshake_causes, words_or_null(HandshakeCause), words_or_null(Confidence),
        )  # fmt: skip
        yield _counted(
            "tfotrace_tfo_cookie_checks", "Arriving cookies checked with this host's keys", ("check",),
            self._metrics.cookie_checks, words_or_null(CookieCheck),
        )  # fmt: skip

    def _about_the_run(self) -> Iterator[Metric]:
        start = self._start
        if start is not None:
            build = {"version": start.version, "kernel": start.kernel, "transport": start.transport}
            yield InfoMetricFamily("tfotrace_build", "The running tfotrace and kernel", build)
            lacking = GaugeMetricFamily("tfotrace_without", "What this run does without", labels=("what",))
            for what in sorted({one.what for one in start.without or ()}):
                lacking.add_metric((what,), 1)
            yield lacking
            yield _gauge("tfotrace_table_entries", "Handshakes that can be pending at once", start.table_size)
        yield _gauge("tfotrace_start_time_seconds", "When this run started, since the epoch", self._began_s)
        traced = GaugeMetricFamily("tfotrace_interface_traced", "Interfaces traced now", labels=("interface", "hook"))
        for one in self._interfaces:
            if one.through:
                continue
            traced.add_metric((one.name, one.hook), 1)
        yield traced
        yield _counters("tfotrace_notices", "Notices by kind", "kind", dict(sorted(self._notices.copy().items())))
        yield _gauge("tfotrace_ring_fill_ratio", "How full the ring was at the last poll", self._ring_fill)
        if self._drain_lag_us is not None:
            yield _gauge(
                "tfotrace_drain_lag_seconds", "From settling to reading, at the last poll",
                self._drain_lag_us / _US_PER_S,
            )  # fmt: skip

    def _spent(self) -> Iterator[Metric]:
        cost = self._cost
        if cost is None:
            return
        cpu = CounterMetricFamily("tfotrace_cpu_seconds", "CPU time of the parts of tfotrace", labels=("part",))
        for part, spent_us in (
            ("user", cost.user_part_cpu_us), ("root", cost.root_part_cpu_us), ("loading", cost.loading_cpu_us),
        ):  # fmt: skip
            cpu.add_metric((part,), spent_us / _US_PER_S)
        yield cpu
        yield _gauge(
            "tfotrace_bpf_stats_enabled", "Does the kernel measure programs (kernel.bpf_stats_enabled)?",
            cost.programs is not None,
        )  # fmt: skip
        if cost.programs is not None:
            ran = {name: one.runs for name, one in cost.programs.items()}
            yield _counters("tfotrace_program_runs", "Runs of the kernel programs while measured", "program", ran)
            took = CounterMetricFamily(
                "tfotrace_program_run_seconds", "Run time of the kernel programs while measured", labels=("program",)
            )
            for name, one in cost.programs.items():
                took.add_metric((name,), one.run_time_us / _US_PER_S)
            yield took

    def _sheet(self) -> Iterator[Metric]:
        """The counters of DESIGN.md section 5 and others."""
        counters, balance = self._counters, self._balance
        malformed, carried, evicted = {}, {}, {}
        for name, value in counters.items():
            if name.startswith("malformed_"):
                malformed[name.removeprefix("malformed_")] = value
            elif name.startswith("not_read_"):
                carried[name.removeprefix("not_read_")] = value
            elif name.startswith("evicted_"):
                evicted[name.removeprefix("evicted_")] = value
            elif name in _BALANCE:
                yield _counter(f"tfotrace_{name}", _BALANCE[name], value)
            else:
                text = _COUNTED.get(name, name.replace("_", " ").capitalize())
                yield _counter(f"tfotrace_{name}", text, value)
        yield _counters("tfotrace_malformed", "Packets rejected as malformed", "reason", malformed)
        yield _counters("tfotrace_not_read", "Frames that may hold handshakes which are not read", "kind", carried)
        yield _counters("tfotrace_evicted", "Handshakes evicted because the table was full", "state", evicted)
        if balance is not None:
            yield _gauge("tfotrace_still_open", "Handshakes not settled yet, at the last sweep", balance.still_open)
            yield _counter("tfotrace_received", "Handshake records read by user space", balance.received)
            yield _counter("tfotrace_dropped", "Records that not every output wrote", balance.dropped)

    def _namespace(self) -> Iterator[Metric]:
        yield _counters(
            "tfotrace_host_tcpext", "TcpExt counters of the traced network namespace", "counter", self._host
        )
        sysctls = GaugeMetricFamily(
            "tfotrace_host_sysctl", "Sysctls net.ipv4.* of the traced network namespace", labels=("sysctl",)
        )
        for name, text in self._sysctls.items():
            if text.isascii() and text.isdigit():
                sysctls.add_metric((name,), int(text))
        yield sysctls


class _Families(Collector):
    def __init__(self, source: Prometheus) -> None:
        self._source = source

    def collect(self) -> list[Metric]:
        return self._source.families()


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value)


def _counters(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _counted(name: str, text: str, labels: tuple[str, ...], counts: Counts, *words: Sequence[str | None]) -> Metric:
    """One series per place; skip places with a None among their words."""
    family = CounterMetricFamily(name, text, labels=labels)
    for place, count in counts.items():
        texts = [words[i][number] for i, number in enumerate(place)]
        known = [one for one in texts if one is not None]
        if len(known) == len(texts):
            family.add_metric(known, count)
    return family


def _histogram(name: str, text: str, labels: tuple[str, ...], durations: Durations, *words: Sequence[str]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for place, counts, sum_us in durations.items():
        texts = [words[i][number] for i, number in enumerate(place)]
        family.add_metric(texts, list(zip(_LE, counts, strict=True)), sum_us / _US_PER_S)
    return family
