"""Metrics agree with the records, have a bounded number of labels, and a format that parsers accept."""

from __future__ import annotations

import math
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.support.rows import INTERFACES, golden, golden_parts, random_events, worked
from tracer.aggregate.metrics import BOUNDS_US, INTERFACES_MAX, Durations, Metrics
from tracer.encode.composer import Composer
from tracer.errors import UsageError
from tracer.handshake.batch import Batch, decode
from tracer.handshake.syn_payloads import NO_PAYLOADS
from tracer.handshake.vantage import LocalSet
from tracer.ipc.traced import TracedInterface
from tracer.records.cost import Cost, ProgramCost
from tracer.records.record import SCHEMA, Handshake
from tracer.records.run import Balance, NoticeRecord
from tracer.sinks import prometheus_server
from tracer.sinks.address import Address, parse_address
from tracer.sinks.prometheus import Prometheus
from tracer.sinks.prometheus_server import MetricsServer
from tracer.vocabulary.vocabulary import Cause, Confidence, CookieCheck, HandshakeCause, SettleReason

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def batches() -> list[Batch]:
    """The recorded lab, and made-up handshakes of all kinds with causes."""
    rng = np.random.default_rng(7)
    found = [decode(events, LocalSet(), NO_PAYLOADS) for events in golden_parts()]
    for _ in range(3):
        events = random_events(rng, 500, lives=True)
        # no kernel sends these
        events["request_acked"][events["one_way"] != 0] = 0
        events["reason"][(events["reason"] == SettleReason.BY_RESPONSE) & (events["response_ns"] == 0)] = (
            SettleReason.AT_END
        )
        batch = decode(events, LocalSet(), NO_PAYLOADS)
        batch.causes.cause[:] = rng.integers(0, len(Cause), len(batch))
        batch.causes.confidence[:] = np.where(batch.causes.cause, rng.integers(1, len(Confidence), len(batch)), 0)
        batch.causes.handshake_cause[:] = rng.integers(0, len(HandshakeCause), len(batch))
        batch.causes.handshake_confidence[:] = np.where(
            batch.causes.handshake_cause, rng.integers(1, len(Confidence), len(batch)), 0
        )
        batch.causes.cookie_check[:] = rng.integers(0, len(CookieCheck), len(batch))
        found.append(batch)
    return found


@contextmanager
def served(servers: int = 0, host: str = "127.0.0.1") -> Iterator[Prometheus]:
    sink = Prometheus(MetricsServer(Address(host, 0)), servers)
    sink.set_interfaces(INTERFACES.values())
    sink.start(golden().start)
    try:
        yield sink
    finally:
        sink.close(None)


def scrape(sink: Prometheus, accept: str = "text/plain") -> str:
    request = urllib.request.Request(f"http://{sink.address}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def series(text: str) -> Series:
    found: Series = {}
    for family in parse_text(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, "a series twice"
            found[key] = sample.value
    return found


def of(found: Series, name: str, *labels: str) -> Counter[tuple[str, ...]]:
    """Values of one metric that are not 0, by these labels."""
    sums: Counter[tuple[str, ...]] = Counter()
    for (metric, pairs), value in found.items():
        if metric == name and value:
            sums[tuple(dict(pairs)[label] for label in labels)] += int(value)
    return sums


def test_every_number_is_that_of_the_records() -> None:
    composer = Composer(INTERFACES)
    records: list[Handshake] = []
    with served() as sink:
        for batch in batches():
            sink.write(batch)
            records += composer.compose(batch)
        found = series(scrape(sink))
    assert len(records) > 1500
    labels = ("interface", "vantage", "result")
    assert of(found, "tfotrace_handshakes_total", *labels) == Counter(
        (one.interface, one.vantage, one.handshake.result) for one in records
    )
    labels = ("interface", "vantage", "outcome", "group")
    assert of(found, "tfotrace_tfo_outcomes_total", *labels) == Counter(
        (one.interface, one.vantage, one.tfo.outcome or "unknown", one.tfo.group or "n/a") for one in records
    )
    assert {("data_acked", "ok"), ("data_acked", "failed")} <= {
        (outcome, group) for _, _, outcome, group in of(found, "tfotrace_tfo_outcomes_total", *labels)
    }
    assert of(found, "tfotrace_tfo_lived_total", "interface", "vantage") == Counter(
        (one.interface, one.vantage) for one in records if worked(one)
    )
    assert of(found, "tfotrace_established_total", "interface", "vantage", "after") == Counter(
        (one.interface, one.vantage, one.handshake.after) for one in records if one.handshake.after is not None
    )
    assert of(found, "tfotrace_tfo_requests_total", "request") == Counter((one.tfo.request,) for one in records)
    assert of(found, "tfotrace_tfo_causes_total", "cause", "confidence") == Counter(
        (one.tfo.cause, one.tfo.cause_confidence) for one in records if one.tfo.cause is not None
    )
    assert of(found, "tfotrace_handshake_causes_total", "cause", "confidence") == Counter(
        (one.handshake.cause, one.handshake.cause_confidence) for one in records if one.handshake.cause is not None
    )
    assert of(found, "tfotrace_tfo_cookie_checks_total", "check") == Counter(
        (one.tfo.cookie_check,) for one in records if one.tfo.cookie_check is not None
    )
    rtts = [(one.vantage, one.handshake.rtt_us) for one in records if one.handshake.rtt_us is not None]
    assert of(found, "tfotrace_handshake_rtt_seconds_count", "vantage") == Counter((vantage,) for vantage, _ in rtts)
    for bound in BOUNDS_US.tolist():
        buckets = [
            value for (name, labels), value in found.items()
            if name == "tfotrace_handshake_rtt_seconds_bucket" and float(dict(labels)["le"]) == bound / 1e6
        ]  # fmt: skip
        assert sum(buckets) == sum(rtt <= bound for _, rtt in rtts)
    sums = [value for (name, _), value in found.items() if name == "tfotrace_handshake_rtt_seconds_sum"]
    assert math.isclose(sum(sums), sum(rtt for _, rtt in rtts) / 1e6, rel_tol=1e-6)
    responses = Counter(
        (
            one.vantage,
            "accepted"
            if worked(one)
            else "none" if one.tfo.outcome == "not_attempted" else "attempted",
        )
        for one in records
        if one.handshake.first_response_us is not None
    )  # fmt: skip
    assert of(found, "tfotrace_first_response_seconds_count", "vantage", "fast_open") == responses
    assert found["tfotrace_syn_data_bytes_total", ()] == sum(one.syn.payload_len for one in records)
    assert found["tfotrace_syn_data_acked_bytes_total", ()] == sum(
        one.synack.acked_payload_len for one in records if one.synack is not None
    )
    saved = sum(one.tfo.rtt_saved_us or 0 for one in records) / 1e6
    assert math.isclose(found["tfotrace_tfo_saved_seconds_total", ()], saved, rel_tol=1e-6)


def test_what_goes_on_beside_handshakes() -> None:
    with served() as sink:
        counters = {"opened": 9, "lost": 1, "evicted_half_open": 2, "malformed_option_cut": 3, "brand_new": 4}
        sink.set_balance(Balance(9, 5, 1, 2, 0, 1, 5, 1), counters)
        sink.set_host({"TCPFastOpenActive": 7}, {"tcp_fastopen": "1027", "odd": "1 2"})
        sink.set_ring_fill(0.25)
        sink.set_drain_lag(20_000)
        for _ in range(2):
            sink.notice(NoticeRecord(SCHEMA, "", "losses", "", None))
        found = series(scrape(sink))
    expected: Series = {
        ("tfotrace_opened_total", ()): 9,
        ("tfotrace_lost_total", ()): 1,
        ("tfotrace_evicted_total", (("state", "half_open"),)): 2,
        ("tfotrace_malformed_total", (("reason", "option_cut"),)): 3,
        ("tfotrace_brand_new_total", ()): 4,
        ("tfotrace_still_open", ()): 1,
        ("tfotrace_dropped_total", ()): 1,
        ("tfotrace_host_tcpext_total", (("counter", "TCPFastOpenActive"),)): 7,
        ("tfotrace_host_sysctl", (("sysctl", "tcp_fastopen"),)): 1027,
        ("tfotrace_ring_fill_ratio", ()): 0.25,
        ("tfotrace_drain_lag_seconds", ()): 0.02,
        ("tfotrace_notices_total", (("kind", "losses"),)): 2,
        ("tfotrace_interface_traced", (("hook", "tcx"), ("interface", "eth0"))): 1,
    }
    assert {key: found[key] for key in expected} == expected
    assert not any("odd" in dict(labels).values() for _, labels in found)


@pytest.mark.parametrize("measured", [False, True])
def test_what_tracing_costs(measured: bool) -> None:
    with served() as sink:
        programs = {"tc_ingress": ProgramCost(20, 500_000.0)} if measured else None
        sink.set_cost(Cost(2e6, 5e5, 3e6, programs), 0)
        found = series(scrape(sink))
    spent = {
        dict(labels)["part"]: value for (name, labels), value in found.items() if name == "tfotrace_cpu_seconds_total"
    }
    assert spent == {"user": 2.0, "root": 0.5, "loading": 3.0}
    assert found["tfotrace_bpf_stats_enabled", ()] == measured
    of_programs = {name: value for (name, _), value in found.items() if name.startswith("tfotrace_program_")}
    expected = {"tfotrace_program_runs_total": 20.0, "tfotrace_program_run_seconds_total": 0.5}
    assert of_programs == (expected if measured else {})


def test_openmetrics_is_valid_too() -> None:
    with served(servers=2) as sink:
        for batch in batches():
            sink.write(batch)
        text = scrape(sink, "application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in parse_openmetrics(text)}
    assert families["tfotrace_handshake_rtt_seconds"].type == "histogram"
    assert families["tfotrace_handshakes"].type == "counter"


def test_a_bound_belongs_to_its_bucket() -> None:
    table = Durations(1)
    table.add(np.array([50.0, 50.1, 1e7, 1e9, np.nan]), np.zeros(5, np.uint8))
    ((_, counts, total),) = table.items()
    assert counts[:2] == [1, 2]
    assert counts[-2:] == [3, 4]
    assert total == pytest.approx(50 + 50.1 + 1e7 + 1e9)


def test_series_are_bounded_however_many_interfaces_and_servers_come() -> None:
    rng = np.random.default_rng(3)
    metrics = Metrics(servers=5)
    total = 0
    for begin in range(0, 1000, 100):
        metrics.set_interfaces(TracedInterface(index, f"veth{index}", "tcx", "") for index in range(begin, begin + 100))
        events = random_events(rng, 300, peers=100)
        events["ifindex"] = rng.integers(begin, begin + 100, 300)
        metrics.add(decode(events, LocalSet(), NO_PAYLOADS))
        total += 300
    assert len(list(metrics.interfaces)) == INTERFACES_MAX
    assert len(list(metrics.servers or ())) == 5
    for counts in (metrics.results, metrics.server_groups, metrics.server_results):
        rows = Counter[int]()
        for place, count in counts.items():
            rows[place[0]] += count
        assert rows.total() == total
        assert rows[0] > 0  # "other"


def test_labels_of_servers_only_when_asked() -> None:
    with served(servers=3) as sink:
        for batch in batches():
            sink.write(batch)
        shown = series(scrape(sink))
        found = of(shown, "tfotrace_server_handshakes_total", "server")
        results = of(shown, "tfotrace_server_results_total", "server", "result")
    assert len(found) == 4
    assert found.total() == results.total() == sum(map(len, batches()))
    assert {server for server, _ in results} == {server for (server,) in found}
    assert {"established", "rejected", "no_reply", "half_open"} <= {result for _, result in results}
    assert all(name == "other" or name.rpartition(":")[2].isdigit() for (name,) in found)
    with served() as sink:
        assert "tfotrace_server_" not in scrape(sink)


def test_names_of_interfaces_cannot_break_the_format() -> None:
    odd = 'a"b\\c'
    with served() as sink:
        sink.set_interfaces([TracedInterface(2, odd, "tcx", "")])
        sink.write(batches()[-1])
        found = of(series(scrape(sink)), "tfotrace_handshakes_total", "interface")
    assert (odd,) in found


def test_what_was_in_tunnels_belongs_to_its_interface() -> None:
    names = [TracedInterface(2, "eth0", "replay", ""), TracedInterface(3, "eth0", "replay", "", through=("vxlan",))]
    batch = batches()[-1]
    batch.events["ifindex"][:] = 2
    batch.events["ifindex"][::2] = 3
    with served() as sink:
        sink.set_interfaces(names)
        sink.write(batch)
        text = scrape(sink)
    assert of(series(text), "tfotrace_handshakes_total", "interface") == {("eth0",): len(batch)}
    assert text.count("tfotrace_interface_traced{") == 1


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("9435", "127.0.0.1", 9435, "127.0.0.1:9435"),
        ("0.0.0.0:80", "0.0.0.0", 80, "0.0.0.0:80"),
        ("[::1]:9435", "::1", 9435, "[::1]:9435"),
        ("localhost:0", "localhost", 0, "localhost:0"),
    ],
)
def test_addresses(text: str, host: str, port: int, shown: str) -> None:
    address = parse_address(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == shown


@pytest.mark.parametrize(
    "text", ["", ":", ":9435", "::1:9435", "host", "host:", "1.2.3.4:65536", "9435x", "[]:1", "-1"]
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r"9435|port|0\.0\.0\.0|brackets"):
        parse_address(text)


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"127\.0\.0\.1:{port}.*Address already in use; use another"):
            MetricsServer(Address("127.0.0.1", port))
    MetricsServer(Address("127.0.0.1", port)).close()
    with pytest.raises(UsageError, match=r"cannot resolve not\.a\.name\.invalid"):
        MetricsServer(Address("not.a.name.invalid", 0))


def test_ipv6_is_served() -> None:
    with served(host="::1") as sink:
        assert str(sink.address).startswith("[::1]:")
        assert "tfotrace_build_info" in scrape(sink)


def connection(sink: Prometheus, says: bytes = b"") -> socket.socket:
    """A client that sends this and then is slow; it takes little at a time."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    made.connect((sink.address.host, sink.address.port))
    made.sendall(says)
    return made


@pytest.mark.parametrize(
    "says", [b"", b"GET /met", b"GET /metrics HTTP/1.1\r\n\r\n"], ids=["mute", "slow", "reads_not"]
)
def test_any_number_of_slow_clients_keep_nobody_waiting(says: bytes) -> None:
    with served() as sink, ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connection(sink, says))
        for _ in range(3):
            assert "tfotrace_build_info" in scrape(sink)
        working = [one for one in threading.enumerate() if "process_request_thread" in one.name]
        assert len(working) <= 64


def test_a_request_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_server, "REQUEST_S", 0.5)
    with served() as sink, connection(sink, b"GET /metrics HTTP/1.1\r\n") as trickling:
        with pytest.raises(ConnectionError):  # noqa: PT012 - a header every now and then, for ever
            while True:
                trickling.sendall(b"X: y\r\n")
                time.sleep(0.05)
        assert "tfotrace_build_info" in scrape(sink)


def test_scrapes_are_answered_once_there_are_threads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of processes (RLIMIT_NPROC, pids.max) refuses threads, too: no place is lost to that for ever."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with served() as sink:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            for _ in range(70):
                with connection(sink, b"") as refused:
                    assert refused.recv(1) == b""
        assert "tfotrace_build_info" in scrape(sink)


def test_clients_that_say_nothing_keep_nobody_waiting() -> None:
    with served() as sink:
        silent = [socket.create_connection((sink.address.host, sink.address.port)) for _ in range(10)]
        assert "tfotrace_build_info" in scrape(sink)
        for one in silent:
            one.close()


def test_only_reading_is_answered() -> None:
    with served() as sink:
        request = urllib.request.Request(f"http://{sink.address}/metrics", b"x", method="POST")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        assert refused.value.code == 405
        refused.value.close()
