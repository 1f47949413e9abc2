"""--prometheus with the real command, promtool and a real Prometheus server."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.hosts import WIRE, Hosts, Service
from tests.support.netbox import wait_until
from tests.support.patience import PATIENCE_S
from tests.support.tracing import CHECKOUT, Run, assert_balanced, tracing
from tests.support.tracing import run as run_to_end

pytestmark = pytest.mark.root

RULES = CHECKOUT / "docs/prometheus/tfotrace.rules.yml"
DASHBOARD = CHECKOUT / "docs/grafana/tfotrace.json"


def address(run: Run) -> str:
    def found() -> list[str]:
        return [line.rpartition(" ")[2] for line in list(run.said) if "metrics for Prometheus at" in line]

    wait_until(lambda: bool(found()), "the address of the metrics", PATIENCE_S)
    (one,) = found()
    return one


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        text: str = answer.read().decode()
    return text


def promtool(*words: str | Path, text: str = "") -> str:
    done = subprocess.run(
        ["promtool", *words], input=text, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def totals(text: str, name: str, label: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.value:
                found[sample.labels[label]] += int(sample.value)
    return found


def test_what_is_served_is_what_was_traced(hosts: Hosts, web: Service) -> None:
    words = (WIRE, "--json", "--prometheus", "0", "--prometheus-peers", "4", "--netns", hosts.client.name)
    with tracing(*words, "--user", "nobody") as run:
        hosts.client.run("ip", "tcp_metrics", "flush")
        ports = [web.exchange(fast_open=True), web.exchange(fast_open=True), web.exchange()]
        records = [run.wait_port(port) for port in ports]

        def emitted() -> bool:  # the balance comes with the next sweep
            return "tfotrace_emitted_total 3.0\n" in fetch(address(run))

        wait_until(emitted, "the balance sheet", PATIENCE_S)
        text = fetch(address(run))
        # not a word on what could be better
        assert promtool("check", "metrics", text=text) == ""
        assert totals(text, "tfotrace_handshakes_total", "result") == {"established": 3}
        assert totals(text, "tfotrace_handshakes_total", "interface") == {WIRE: 3}
        assert totals(text, "tfotrace_tfo_outcomes_total", "outcome") == Counter(
            str(one.tfo.outcome) for one in records
        )
        assert totals(text, "tfotrace_server_handshakes_total", "server") == {"{}:{}".format(*web.address): 3}
        assert totals(text, "tfotrace_first_response_seconds_count", "fast_open") == {
            "accepted": 1, "attempted": 1, "none": 1,
        }  # fmt: skip
        assert f'tfotrace_interface_traced{{hook="{records[0].hook}",interface="{WIRE}"}} 1.0' in text
        assert "TCPFastOpenActive" in text
        assert run.stop() == 0
        assert_balanced(run.end)
        url = address(run)
        with pytest.raises(OSError, match="refused"):
            fetch(url)


def test_a_taken_port_is_one_sentence(hosts: Hosts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        run = run_to_end(WIRE, "--json", "--netns", hosts.client.name, "--prometheus", port)
    assert (run.code, run.out) == (2, b"")
    assert run.said == [
        f"tfotrace: cannot listen on 127.0.0.1:{port} for --prometheus: Address already in use; "
        "use another port or address"
    ]


def test_it_goes_with_quiet_and_ipv6(hosts: Hosts, web: Service) -> None:
    with tracing(WIRE, "--quiet", "--prometheus", "[::1]:0", "--netns", hosts.client.name) as run:
        web.exchange()
        assert address(run).startswith("http://[::1]:")

        def counted() -> bool:
            return totals(fetch(address(run)), "tfotrace_handshakes_total", "result") == {"established": 1}

        wait_until(counted, "the handshake", PATIENCE_S)
        assert run.stop() == 0
        assert run.lines == []


def test_where_nobody_looks_at_handshakes_one_by_one_the_sums_are_the_same(hosts: Hosts, web: Service) -> None:
    where = ("--prometheus", "0", "--netns", hosts.server.name)
    with tracing(WIRE, "--json", *where) as shown, tracing(WIRE, "--quiet", *where) as summed:
        for fast_open in (True, True, False, True):
            shown.wait_port(web.exchange(fast_open=fast_open))
        runs = (shown, summed)
        for name, label in (
            ("handshakes", "result"), ("tfo_outcomes", "outcome"), ("tfo_requests", "request"),
            ("tfo_cookie_checks", "check"),
        ):  # fmt: skip
            series = f"tfotrace_{name}_total"

            def agree(series: str = series, label: str = label) -> bool:
                one, other = (totals(fetch(address(run)), series, label) for run in runs)
                return one == other and sum(one.values()) > 0

            wait_until(agree, f"the same {series}", PATIENCE_S)

        def counted() -> bool:
            return bool(re.search(r"^tfotrace_opened_total 4\.0$", fetch(address(summed)), re.MULTILINE))

        # the kernel's own counters come by another way than records
        wait_until(counted, "the counters of the last sweep", PATIENCE_S)
        # nobody would look into them: the kernel programs do not send them
        assert re.search(r"^tfotrace_payloads_total 0\.0$", fetch(address(summed)), re.MULTILINE)
        assert (shown.stop(), summed.stop()) == (0, 0)
        assert shown.end.counters["payloads"] > 0
        assert summed.lines == []
        assert "nothing lost" in summed.said[-1]


def test_promtool_accepts_the_rules_and_every_alert_fires_when_it_should() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)
    assert "SUCCESS" in promtool("test", "rules", CHECKOUT / "tests/support/rules_test.yml")
    tested = (CHECKOUT / "tests/support/rules_test.yml").read_text()
    for name in re.findall(r"(?:alert|record): (\S+)", RULES.read_text()):
        assert name in tested


class Server:
    """A Prometheus server of our own."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, what: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        return json.loads(fetch(f"{self.url}/api/v1/{what}?{query}"))["data"]

    def value(self, expression: str) -> float | None:
        found = self.ask("query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
    return port


@contextmanager
def prometheus(folder: Path, *targets: str) -> Iterator[Server]:
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "tfotrace", "static_configs": [{"targets": targets}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    url = f"127.0.0.1:{free_port()}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={url}", "--log.level=warn"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
    try:
        server = Server(f"http://{url}")

        def ready() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                return "Ready" in fetch(f"http://{url}/-/ready")
            except OSError:
                return False

        wait_until(ready, "the Prometheus server", PATIENCE_S)
        yield server
    finally:
        process.kill()
        process.wait()


CAUSES = ("tfotrace_tfo_causes_total", "tfotrace_handshake_causes_total")


def dashboard_expressions() -> list[str]:
    board = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [one.replace("$__rate_interval", "1m").replace("$instance", ".*") for one in found]


def test_a_real_server_scrapes_two_hosts_and_knows_every_name_of_rules_and_dashboard(
    hosts: Hosts, web: Service, tmp_path: Path
) -> None:
    with (
        tracing(WIRE, "--json", "--prometheus", "0", "--netns", hosts.client.name) as run,
        tracing(WIRE, "--quiet", "--prometheus", "0", "--prometheus-peers", "5", "--netns", hosts.server.name) as other,
    ):
        with prometheus(tmp_path, *(address(one).split("/")[2] for one in (run, other))) as server:

            def up() -> bool:
                return server.value('sum(up{job="tfotrace"})') == 2

            wait_until(up, "a scrape of both", PATIENCE_S)
            for _ in range(5):
                run.wait_port(web.exchange(fast_open=True))

            def counted() -> bool:
                return all(
                    server.value(f'sum(tfotrace_handshakes_total{{vantage="{vantage}"}})') == 5
                    for vantage in ("client", "server")
                )

            wait_until(counted, "the five handshakes", PATIENCE_S)
            for target in server.ask("targets")["activeTargets"]:
                assert (target["health"], target["lastError"]) == ("up", "")
            known = set(server.ask("label/__name__/values"))
            expressions = dashboard_expressions()
            assert len(expressions) > 15
            rules = [rule for group in server.ask("rules")["groups"] for rule in group["rules"]]
            assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
            assert not [rule for rule in rules if rule.get("lastError")]
            expressions += [rule["query"] for rule in rules]
            for expression in expressions:
                server.ask("query", query=expression)  # an error is no status 200
                for name in re.findall(r"(?<!:)\btfotrace_[a-z0-9_]+", expression):
                    # causes come from series that this traffic does not make
                    assert name in known or name in CAUSES, expression

            def shown() -> bool:
                web.exchange(fast_open=True)  # a rate wants one more than the first look showed
                return server.value("sum(rate(tfotrace_tfo_outcomes_total[1m]))") not in (None, 0)

            wait_until(shown, "a rate", PATIENCE_S)
        assert (run.stop(), other.stop()) == (0, 0)
        assert len(run.handshakes) > 5
        assert_balanced(run.end)


def test_slow_clients_keep_no_scrape_waiting(hosts: Hosts, web: Service) -> None:
    with tracing(WIRE, "--json", "--prometheus", "0", "--netns", hosts.client.name) as run, ExitStack() as stack:
        run.wait_port(web.exchange())
        host, _, port = address(run).removeprefix("http://").removesuffix("/metrics").rpartition(":")
        for number in range(60):
            client = stack.enter_context(socket.create_connection((host.strip("[]"), int(port))))
            client.sendall((b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\n\r\n")[number % 3])
        for _ in range(3):
            assert "tfotrace_build_info" in fetch(address(run))
        assert run.stop() == 0
        assert_balanced(run.end)
