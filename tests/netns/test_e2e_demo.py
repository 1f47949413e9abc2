"""`tfotrace demo` as users start it: every outcome, every result, nothing lost and nothing left behind."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hooks import TCX_HERE
from tests.support.netbox import wait_until
from tests.support.patience import FACTOR, LONG_S, PATIENCE_S
from tests.support.schema import assert_valid
from tests.support.tracing import (
    CHECKOUT,
    KEPT_PROGRAMS,
    Record,
    Run,
    assert_balanced,
    decode,
    members,
    tracing,
    with_run_dir,
)
from tests.support.vocabulary import OUTCOMES, RESULTS
from tracer.lab import sites
from tracer.lab.scenarios import SCENARIOS, Expected, Scenario, server_address
from tracer.records.record import Handshake
from tracer.records.run import End, NoticeRecord, Start
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.vocabulary import HandshakeResult, Outcome, word

pytestmark = [pytest.mark.root, pytest.mark.slow]

COMMAND = [str(CHECKOUT / "tfotrace")]
OK = {"cookie_granted", "data_acked", "data_acked_new_cookie"}
FAILED = {"syn_timeout_fallback", "over_acked", "no_answer", "rejected"}
NOT_APPLICABLE = {"not_attempted", "cookie_only"}
NO = {None}
STALE, POOL = {"cookie_stale possible"}, {"key_not_shared likely"}
# the causes of a scenario's handshakes; rounds that follow know more, so there may be two. Elsewhere there is none.
CAUSES: dict[str, tuple[set[str | None], ...]] = {
    "syn_data_dropped": (NO, {"packet_loss possible", "path_drops_syn_data likely"}),
    "stale_cookie": (NO, STALE, NO),
    "key_rotation": (NO, {"key_rotation likely"}, NO),
    "pool_without_shared_key": (NO, STALE | POOL, POOL, POOL),
    "host_without_fast_open": ({"not_supported possible"}, {"not_supported possible"}),
    "listener_without_fast_open": (NO, {"not_supported possible"}),
    "experimental_option": ({"not_supported possible"}, NO, NO),
    "cookieless_refused": ({"cookie_required possible"},),
    "stale_cookie_without_data": (NO, STALE),
    "request_and_data": ({"cookie_required likely"},),
    **{f"malformed_length_{length}": ({"option_malformed certain"},) for length in (3, 4, 19)},
    "same_cookie": (NO, {"child_failed likely"}),
    "same_cookie_without_data": (NO, {"child_failed likely"}),
}
if tuple(map(int, os.uname().release.split(".")[:2])) < (5, 11):
    # told of the path's MTU, the client's kernel sent data again at once, but not yet a SYN with data: after its second
    # that looks like a lost packet
    CAUSES["path_mtu_fallback"] = ({"packet_loss possible", "path_drops_syn_data likely"},)
CASES = [(scenario, version) for scenario in SCENARIOS for version in (4, 6)]


def namespaces(pids: list[int]) -> set[int]:
    found = set()
    for pid in pids:
        try:
            found.add(os.stat(f"/proc/{pid}/ns/net").st_ino)
        except OSError:  # noqa: PERF203 - it has just ended
            continue
    return found


def lab_namespaces(run: Run) -> set[int]:
    return namespaces(members(run.user_part)) - {os.stat("/proc/self/ns/net").st_ino}


def assert_nothing_left(run: Run, spaces: set[int], run_dir: Path) -> None:
    assert spaces, "the lab's namespaces were found"
    wait_until(lambda: not members(run.user_part), "every process to end", PATIENCE_S)
    everybody = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    assert not namespaces(everybody) & spaces
    assert {path.name for path in run_dir.iterdir()} <= {KEPT_PROGRAMS}


class Demo:
    """What one demo left on paper."""

    def __init__(self, run: Run, code: int) -> None:
        self.lines = run.lines
        self.said = run.said
        self.code = code
        self.records: list[Record] = run.records
        by_server = defaultdict(list)
        for record in self.records:
            if isinstance(record, Handshake):
                by_server[record.server.ip].append(record)
        self.by_server = {ip: sorted(records, key=lambda one: one.ts) for ip, records in by_server.items()}

    @property
    def handshakes(self) -> list[Handshake]:
        return [record for record in self.records if isinstance(record, Handshake)]

    @property
    def end(self) -> End:
        last = self.records[-1]
        assert isinstance(last, End)
        return last


# long enough for every scenario
DURATION = "15" if FACTOR == 1 else "90"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    run_dir = tmp_path_factory.mktemp("demo") / "run"
    links = set(os.listdir("/sys/class/net"))
    with tracing("demo", "--json", "--duration", DURATION, prefix=with_run_dir(run_dir), command=COMMAND) as run:
        spaces = lab_namespaces(run)
        code = run.wait_end(LONG_S)
        assert_nothing_left(run, spaces, run_dir)
        yield Demo(run, code)
    assert {name for name in os.listdir("/sys/class/net") if name.startswith("demo-")} <= links


def test_the_vocabulary_is_that_of_the_document() -> None:
    assert {word(one) for one in Outcome if one is not Outcome.UNKNOWN} == OUTCOMES
    assert {word(one) for one in HandshakeResult if one is not HandshakeResult.NONE} == RESULTS


def test_it_ends_as_asked_and_says_so(demo: Demo) -> None:
    assert (demo.code, demo.end.exit_code, demo.end.reason) == (0, 0, "duration")
    assert all(line.startswith("tfotrace: ") for line in demo.said)
    assert any(re.match(rf"tfotrace: {len(demo.handshakes):,} handshakes in [0-9.]+ s: ", line) for line in demo.said)


def test_every_outcome_and_every_result_is_there(demo: Demo) -> None:
    assert {record.tfo.outcome for record in demo.handshakes} == OUTCOMES
    assert {record.handshake.result for record in demo.handshakes} == RESULTS


def test_every_line_is_a_record_and_the_order_is_start_handshakes_end(demo: Demo) -> None:
    assert isinstance(demo.records[0], Start)
    assert isinstance(demo.records[-1], End)
    assert not any(isinstance(record, (Start, End)) for record in demo.records[1:-1])
    assert {record.schema for record in demo.records} == {1}
    assert all(line.endswith(b"\n") for line in demo.lines)
    assert not [record for record in demo.records if isinstance(record, NoticeRecord)]


def test_every_line_fits_the_json_schema(demo: Demo) -> None:
    for line in demo.lines:
        assert_valid(json.loads(line))
    assert {"start", "handshake", "stats", "end"} == {json.loads(line)["event"] for line in demo.lines}


def test_the_balance_is_exact_and_nothing_is_lost(demo: Demo) -> None:
    assert_balanced(demo.end)
    sheet, totals = demo.end.balance, demo.end.totals
    assert (sheet.lost, sheet.evicted, sheet.suppressed, sheet.dropped) == (0, 0, 0, 0)
    assert sheet.emitted == totals.handshakes == len(demo.handshakes)
    assert sum(totals.outcomes.values()) == sum(totals.results.values()) == totals.handshakes
    # the totals are those of the lines
    for outcome in OUTCOMES:
        assert totals.outcomes[outcome] == sum(record.tfo.outcome == outcome for record in demo.handshakes)
    saved = sum(record.tfo.rtt_saved_us or 0 for record in demo.handshakes)
    assert totals.rtt_saved_us == pytest.approx(saved, abs=0.01)


@pytest.mark.parametrize(("scenario", "version"), CASES, ids=lambda case: getattr(case, "name", case))
def test_a_scenario_is_judged_as_the_table_says(demo: Demo, scenario: Scenario, version: int) -> None:
    expected = list(scenario.handshakes)
    seen = []
    for record in demo.by_server[server_address(scenario, version)]:
        if record.handshake.settled_by == "at_end":  # the demo's end cut the last round
            break
        tfo, timing = record.tfo, record.handshake
        seen.append(Expected(tfo.request, tfo.outcome or "", timing.result, tfo.kind, timing.syn_count))
    rounds = len(seen) // len(expected)
    assert rounds >= 1
    assert seen == (expected * (rounds + 1))[: len(seen)]


@pytest.mark.parametrize(("scenario", "version"), CASES, ids=lambda case: getattr(case, "name", case))
def test_a_scenario_has_its_causes(demo: Demo, scenario: Scenario, version: int) -> None:
    steps = len(scenario.handshakes)
    expected = CAUSES.get(scenario.name, (NO,) * steps)
    seen: list[set[str | None]] = [set() for _ in range(steps)]
    for number, record in enumerate(demo.by_server[server_address(scenario, version)]):
        tfo = record.tfo
        seen[number % steps].add(f"{tfo.cause} {tfo.cause_confidence}" if tfo.cause else None)
    for found, allowed in zip(seen, expected, strict=True):
        assert found
        assert found <= allowed


def test_only_scenarios_and_sick_sites_have_causes(demo: Demo) -> None:
    scenarios = {server_address(scenario, version) for scenario, version in CASES}
    scenarios |= {sites.TWO_KEYS.address, sites.FIREWALL.address}
    others = [record for ip, records in demo.by_server.items() if ip not in scenarios for record in records]
    assert len(others) > 50
    assert {record.tfo.cause for record in others} == NO
    named = [record.tfo.cause for record in demo.handshakes if record.tfo.cause]
    assert demo.end.totals.causes == {cause: named.count(cause) for cause in set(named)}


def test_groups_follow_outcomes(demo: Demo) -> None:
    for record in demo.handshakes:
        outcome = record.tfo.outcome
        group = "ok" if outcome in OK else "failed" if outcome in FAILED else "degraded"
        assert record.tfo.group == ("n/a" if outcome in NOT_APPLICABLE else group)


def test_every_record_is_seen_from_the_client_and_belongs_to_one_connection(demo: Demo) -> None:
    assert {(record.vantage, record.interface) for record in demo.handshakes} == {("client", "demo-client")}
    assert len({record.id for record in demo.handshakes}) == len(demo.handshakes)


def test_what_is_in_the_syn_is_read(demo: Demo) -> None:
    accepted = [record for record in demo.handshakes if record.tfo.outcome == "data_acked"]
    assert {record.payload.protocol for record in accepted if record.payload} >= {"tls", "http", "dns"}
    assert any(record.tls is not None and record.tls.sni and record.tls.alpn for record in accepted)
    assert any(record.http is not None and record.http.host for record in accepted)
    assert any(record.dns is not None and record.dns.name for record in accepted)
    for record in demo.handshakes:
        assert (record.payload is None) == (record.syn.payload_len == 0)


def test_text_is_one_line_a_handshake(tmp_path: Path) -> None:
    words = ("demo", "--text", "-w", "{folder}/too.jsonl", "--count", "150")
    with tracing(*words, prefix=with_run_dir(tmp_path / "run"), command=COMMAND) as run:
        assert run.wait_end() == 0
        day, head, *lines = [line.decode("utf-8").rstrip("\n") for line in run.lines]
        records = [decode(line) for line in (run.folder / "too.jsonl").read_bytes().splitlines(keepends=True)]
    written = [record for record in records if isinstance(record, Handshake)]
    assert day == f"{written[0].ts[:10]}, times in UTC"
    assert head.split("  ")[0] == "TIME"
    assert len(lines) == len(written) == 150
    for line, record in zip(lines, written, strict=True):
        for end in (record.client, record.server):
            assert (f"[{end.ip}]:{end.port}" if ":" in end.ip else f"{end.ip}:{end.port}") in line.split()
        assert line.startswith(f"{record.ts[11:23]} ")
        failed = {"rejected": "refused", "aborted": "reset"}.get(
            record.handshake.result, in_words(record.handshake.result)
        )
        assert record.handshake.result == "established" or f" {failed} " in line
        assert line.isprintable()


def named(pids: list[int]) -> dict[str, int]:
    """By the names of their processes."""
    return {Path(f"/proc/{pid}/comm").read_text().strip(): pid for pid in pids}


@pytest.mark.parametrize("who", ["demo-server", "demo-client", "demo-relay", "demo-visitors"])
def test_a_demo_whose_part_was_killed_ends_as_asked(tmp_path: Path, who: str) -> None:
    run_dir = tmp_path / "run"
    with tracing("demo", "--json", prefix=with_run_dir(run_dir), command=COMMAND) as run:
        run.wait_handshake()
        spaces = lab_namespaces(run)
        processes = named(members(run.user_part))
        if who == "demo-relay" and who not in processes:
            pytest.skip("this kernel has netem")
        os.kill(processes[who], 9)
        assert run.stop() == 0
        assert_nothing_left(run, spaces, run_dir)


def test_a_demo_whose_lab_was_killed_ends(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with tracing("demo", "--json", prefix=with_run_dir(run_dir), command=COMMAND) as run:
        run.wait_handshake()
        spaces = lab_namespaces(run)
        server = named(members(run.user_part))["demo-server"]
        lab = int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[1])
        assert lab != run.user_part
        os.kill(lab, 9)
        assert run.wait_end() == 4  # its interface has gone
        assert_nothing_left(run, spaces, run_dir)


@pytest.mark.parametrize("who", ["everybody", "user part"])
def test_a_killed_demo_leaves_nothing(tmp_path: Path, who: str) -> None:
    run_dir = tmp_path / "run"
    with tracing("demo", "--json", prefix=with_run_dir(run_dir), command=COMMAND) as run:
        run.wait_handshake()
        spaces = lab_namespaces(run)
        for pid in members(run.user_part) if who == "everybody" else [run.user_part]:
            os.kill(pid, 9)
        wait_until(lambda: not members(run.user_part), "every process to end", PATIENCE_S)
        # a killed root part cannot take its file away: it lists nothing, or filters that went with their namespaces
        for path in run_dir.glob("*.json"):
            assert who == "everybody"
            assert not TCX_HERE or json.loads(path.read_bytes())["attachments"] == []
            path.unlink()
        assert_nothing_left(run, spaces, run_dir)
