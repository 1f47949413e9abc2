"""What a run may do without, by the capabilities of systemd's unit and of containers: it says so, everywhere the same.

Every run starts from an empty run directory, so that it compiles under the same restrictions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from tests.support.hosts import WIRE, Hosts, service, two_hosts
from tests.support.kernel_reasons import SAYS_WHY_IT_RESETS
from tests.support.patience import LONG_S
from tests.support.refusing import refusing
from tests.support.tracing import CHECKOUT, one_sentence, run, tracing, with_run_dir
from tracer.doctor.model import Level, Report
from tracer.linux import bpfsys

pytestmark = [pytest.mark.root, pytest.mark.skipif(not SAYS_WHY_IT_RESETS, reason="this kernel gives fewer reasons")]

PIDFD_GETFD = 438
NO_PIDS = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
# podman's defaults, as far as they matter here
CONTAINER = frozenset({"dac_override", "setuid", "setgid", "bpf", "net_admin", "perfmon", "sys_ptrace", "syslog"})
UNIT = frozenset(
    name.removeprefix("CAP_").lower()
    for name in re.findall(
        r"^CapabilityBoundingSet=(.*)$", (CHECKOUT / "packaging" / "tfotrace@.service").read_text(), re.MULTILINE
    )[0].split()
)
EXCHANGES = 5
DESCRIPTORS = ("socket_owners", "listener_options")


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with two_hosts() as hosts:
        yield hosts


def confined(hosts: Hosts, folder: Path, capabilities: frozenset[str] | None, *words: str) -> list[str]:
    """Prefix of a command on the server, with these capabilities only (None: all), behind `words`."""
    sets = "+all" if capabilities is None else ",".join(["-all", *(f"+{name}" for name in sorted(capabilities))])
    return [
        "nsenter", f"--net=/run/netns/{hosts.server.name}", *with_run_dir(folder / "run"), *words,
        "setpriv", f"--bounding-set={sets}", "--no-new-privs",
    ]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """`lacks`: what a run does without, and the capabilities that would give it."""

    capabilities: frozenset[str] | None
    lacks: dict[str, tuple[str, ...]]
    named: bool = True  # the listener, a process of root with all capabilities
    words: tuple[str, ...] = ()


CASES = {
    "all": Case(None, {}),
    "unit": Case(UNIT, {"places": ("CAP_SYSLOG",)}),
    "unit without sys_ptrace": Case(
        UNIT - {"sys_ptrace"},
        {"places": ("CAP_SYSLOG",), **dict.fromkeys(DESCRIPTORS, ("CAP_SYS_PTRACE",))},
        named=False,
    ),
    "unit without dac_read_search": Case(
        UNIT - {"dac_read_search"}, {"places": ("CAP_SYSLOG",), **dict.fromkeys(DESCRIPTORS, ("CAP_DAC_READ_SEARCH",))}
    ),
    "container": Case(CONTAINER, {}),
    "container without syslog": Case(CONTAINER - {"syslog"}, {"places": ("CAP_SYSLOG",)}),
    "container with pids of its own": Case(CONTAINER, {"socket_owners": ()}, named=False, words=NO_PIDS),
    "least": Case(
        frozenset({"bpf", "perfmon", "net_admin"}),
        {
            "places": ("CAP_SYSLOG",),
            **dict.fromkeys(DESCRIPTORS, ("CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH")),
        },
        named=False,
    ),
    "seccomp without pidfd_getfd": Case(
        CONTAINER, {"listener_options": ()}, words=tuple(refusing(PIDFD_GETFD))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_lacking_is_said_in_start_on_stderr_and_by_doctor(hosts: Hosts, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    prefix = confined(hosts, tmp_path, case.capabilities, *case.words)
    words = (WIRE, "--json", "--count", str(EXCHANGES))
    with service(hosts.client, hosts.server) as web, tracing(*words, prefix=prefix) as traced:
        found = [traced.wait_port(web.exchange()) for _ in range(EXCHANGES)]
        assert traced.wait_end() == 0
    lacking = traced.start.without
    assert lacking is not None
    assert {item.what: item.capabilities for item in lacking} == case.lacks
    for item in lacking:
        assert [line for line in traced.said if item.text in line] == [f"tfotrace: {item.text}"]
    said = [line for line in traced.said if any(word in line for word in ("CAP_", "not named", "may go unnamed"))]
    assert len(said) == sum("CAP_" in item.text for item in lacking)
    # a busy machine may not find out in time, but hardly five times
    assert any(one.server.process is not None for one in found) == case.named

    done = run("doctor", "--json", prefix=prefix, patience_s=LONG_S)
    report = msgspec.json.decode(done.out, type=Report, strict=True)
    told = {(finding.id, finding.text) for finding in report.findings if finding.level is not Level.OK}
    assert {(item.what, item.text) for item in lacking} <= told
    fine = {finding.id for finding in report.findings if finding.level is Level.OK}
    assert fine & {"socket_owners", *DESCRIPTORS, "drop_reasons", "reset_reasons", "places"} == (
        {*DESCRIPTORS, "drop_reasons", "reset_reasons", "places"} - set(case.lacks)
    )


def test_clients_are_named_under_the_units_capabilities(hosts: Hosts, tmp_path: Path) -> None:
    prefix = confined(hosts, tmp_path, UNIT)
    prefix[1] = f"--net=/run/netns/{hosts.client.name}"
    with (
        service(hosts.client, hosts.server) as web,
        tracing(WIRE, "--json", "--user", "nobody", prefix=prefix) as traced,
    ):
        port = web.exchange(fast_open=True)
        assert traced.wait_port(port).client.process is not None
        assert traced.stop() == 0


@pytest.mark.parametrize("missing", ["bpf", "perfmon", "net_admin"])
def test_a_capability_without_which_nothing_works_is_named(hosts: Hosts, tmp_path: Path, missing: str) -> None:
    prefix = confined(hosts, tmp_path, UNIT - {missing})
    one_sentence(run(WIRE, "--json", prefix=prefix), 3, f"root here lacks CAP_{missing.upper()}:")
    done = run("doctor", prefix=prefix)
    assert done.code == 3
    assert f"root here lacks CAP_{missing.upper()}:" in " ".join(done.out.decode().split())


def test_the_capability_to_attach_is_named_where_sys_admin_loads(hosts: Hosts, tmp_path: Path) -> None:
    prefix = confined(hosts, tmp_path, frozenset({"sys_admin"}))
    words = (WIRE, "--json", "--hook", "clsact")  # it attaches TCX links
    one_sentence(run(*words, prefix=prefix, patience_s=LONG_S), 3, "lacks CAP_NET_ADMIN:")


def test_the_capabilities_to_leave_root_are_named(hosts: Hosts, tmp_path: Path) -> None:
    prefix = confined(hosts, tmp_path, UNIT - {"setuid", "setgid"})
    done = run(WIRE, "--json", "--user", "nobody", prefix=prefix, patience_s=LONG_S)
    one_sentence(done, 3, "nobody", "lacks CAP_SETUID, CAP_SETGID")


@pytest.mark.parametrize("kill", [False, True], ids=["refuses", "kills"])
def test_a_filter_that_refuses_bpf_is_told_from_a_capability(hosts: Hosts, tmp_path: Path, kill: bool) -> None:
    prefix = confined(hosts, tmp_path, CONTAINER, *refusing(bpfsys.syscall_number(), kill=kill))
    one_sentence(run(WIRE, "--json", prefix=prefix), 3, "a seccomp filter refuses bpf(2)")
    done = run("doctor", prefix=prefix)
    assert done.code == 3
    assert "a seccomp filter refuses bpf(2)" in " ".join(done.out.decode().split())


def test_root_of_a_user_namespace_is_told_so(hosts: Hosts, tmp_path: Path) -> None:
    prefix = confined(hosts, tmp_path, None, "unshare", "--user", "--map-root-user")
    one_sentence(run(WIRE, "--json", prefix=prefix), 3, "user namespace")
