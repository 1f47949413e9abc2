"""SYN floods from random sources with real handshakes: memory and CPU are bounded, all real ones reported, sums exact.

TFOTRACE_FLOOD_S sets the seconds; `make test-reliability` takes 60.
"""

from __future__ import annotations

import json
import time

import pytest

from bench.common import cpu_seconds, memory_of, process_tree
from tests.support.cpus import two_cpus
from tests.support.flood import NOBODY, flooding
from tests.support.load import SERVER, Wire, traced, wire
from tests.support.longer import either, number
from tests.support.patience import FACTOR

SECONDS = number("TFOTRACE_FLOOD_S", 5, 60)
pytestmark = [pytest.mark.root, pytest.mark.timeout(300 + 10 * SECONDS)]

REAL = 1000
BATCH = 20
SHOWN = 0.99
SENDERS = either(1, 2)  # one for each CPU of a small machine: what is left over is the real clients'
GROWTH = 1.02 if SECONDS >= 60 else 1.25  # a short run is still filling its caches
# As fast as it can. But 10,000 records a second, the limit of unanswered ones, are too many for Python in an
# emulated machine: it would lose some, and count them.
RATE = 0 if FACTOR == 1 else 2000
PORTS = range(7000, 7064)  # of bench/handshakes.c


def mac_of_server(hosts: Wire) -> str:
    found: str = json.loads(hosts.server.run("ip", "-j", "link", "show", "eth0"))[0]["address"]
    return found


@pytest.mark.parametrize("answered", [False, True], ids=["nobody's", "answered"])
def test_real_handshakes_are_seen_in_a_flood(answered: bool) -> None:
    """ "answered": the flood is for a port of the server's, which refuses each SYN as fast as it can."""
    with two_cpus(), wire() as hosts, traced(hosts.server) as run:
        hosts.handshakes(1000)
        pids = process_tree(run.process.pid)
        made, failed, after_a_third = 1000, 0, 0
        cpu, began = cpu_seconds(pids), time.monotonic()
        mac = mac_of_server(hosts) if answered else NOBODY
        with flooding(hosts.client, RATE, mac, senders=SENDERS) as flood:
            for turn in range(REAL // BATCH):
                time.sleep(max(0.0, began + (1 + turn) * SECONDS / (REAL // BATCH) - time.monotonic()))
                done = hosts.handshakes(BATCH)
                made, failed = made + done["answered"], failed + done["failed"]
                if turn == REAL // BATCH // 3:
                    after_a_third = memory_of(pids).private
            flood.stop()
        at_end = memory_of(pids).private
        share = (cpu_seconds(pids) - cpu) / (time.monotonic() - began)
        records = run.stop()
    sheet, counters = records.end["balance"], records.end["counters"]
    real = sum(
        record["server"]["ip"] == SERVER[4]
        and record["server"]["port"] in PORTS
        and record["handshake"]["result"] == "established"
        for record in records.handshakes
    )
    print(
        f"{flood.rate:,.0f} SYNs a second for {flood.seconds:.0f} s ({'refused' if answered else 'not answered'}); "
        f"{real - 1000} of {made - 1000} real handshakes in it reported, "
        f"{failed} did not come about; evicted {sheet['evicted']:,}, suppressed {sheet['suppressed']:,}, "
        f"lost {sheet['lost']:,} of {sheet['opened']:,}; "
        f"private memory {after_a_third / 1e6:.1f} MB after a third, {at_end / 1e6:.1f} MB at the end; "
        f"CPU {100 * share:.0f} % of a core"
    )
    assert records.exit_code == 0, records.narration
    assert sheet["opened"] == sum(sheet[name] for name in ("emitted", "lost", "evicted", "suppressed", "still_open"))
    assert (sheet["still_open"], sheet["dropped"]) == (0, 0)
    assert sheet["received"] == sheet["emitted"] == len(records.handshakes)
    # every SYN of the flood opened one, but for the few that met themselves again
    assert flood.sent * 0.98 <= sheet["opened"] <= flood.sent + made + failed
    assert counters["syns"] >= flood.sent
    assert made > 1000 + REAL * 0.9
    assert made - real <= (1 - SHOWN) * REAL
    assert at_end <= after_a_third * GROWTH
