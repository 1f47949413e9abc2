"""The capabilities in packaging/tfotrace@.service suffice, with every hook, and also after a kill."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import WIRE, Hosts, service, two_hosts
from tests.support.netbox import wait_until
from tests.support.patience import PATIENCE_S
from tests.support.tracing import CHECKOUT, KEPT_PROGRAMS, assert_balanced, kill_at_once, members, tracing, with_run_dir

pytestmark = pytest.mark.root


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with two_hosts() as hosts:
        yield hosts


def as_the_unit(hosts: Hosts, run_dir: Path) -> list[str]:
    """Prefix of a command on the client, with the unit's capabilities."""
    unit = (CHECKOUT / "packaging" / "tfotrace@.service").read_text()
    (names,) = re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    capabilities = [f"+{name.removeprefix('CAP_').lower()}" for name in names.split()]
    return [
        "nsenter", f"--net=/run/netns/{hosts.client.name}", *with_run_dir(run_dir),
        "setpriv", f"--bounding-set=-all,{','.join(capabilities)}", "--no-new-privs",
    ]  # fmt: skip


@pytest.mark.parametrize("hook", ["auto", "clsact", "xdp-native"])
def test_it_attaches_traces_and_detaches(hosts: Hosts, tmp_path: Path, hook: str) -> None:
    """Nothing is kept yet, so it compiles with them as well."""
    prefix = as_the_unit(hosts, tmp_path / "run")
    with (
        service(hosts.client, hosts.server) as web,
        tracing(WIRE, "--json", "--hook", hook, "--user", "nobody", prefix=prefix) as run,
    ):
        (interface,) = run.start.interfaces
        assert interface.hook == hook or hook == "auto"
        run.wait_port(web.exchange(fast_open=True))
        assert run.stop(signal.SIGTERM) == 0
        assert_balanced(run.end)
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {KEPT_PROGRAMS}


def test_it_starts_again_after_a_kill_and_removes_the_filters(hosts: Hosts, tmp_path: Path) -> None:
    prefix = as_the_unit(hosts, tmp_path / "run")
    words = (WIRE, "--json", "--hook", "clsact", "--user", "nobody")
    with tracing(*words, prefix=prefix) as victim:
        kill_at_once(members(victim.user_part))
        wait_until(lambda: not members(victim.user_part), "the processes to end", PATIENCE_S)
    with tracing(*words, prefix=prefix) as after:
        assert after.stop(signal.SIGTERM) == 0
        assert_balanced(after.end)
    removed = [notice.text for notice in after.notices if notice.kind == "leftover_removed"]
    assert [text.partition(" that process ")[0] for text in removed] == [
        f"removed the tc {side} filter" for side in ("ingress", "egress")
    ]
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {KEPT_PROGRAMS}
