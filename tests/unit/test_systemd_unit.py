"""The systemd unit and its companions against the program: they name what exists and allow what it needs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tracer.cli import arguments
from tracer.errors import ExitCode
from tracer.linux.run_dir import RUN_DIR
from tracer.sinks import targets

PACKAGING = Path(__file__).parents[2] / "packaging"
UNIT = (PACKAGING / "tfotrace@.service").read_text()
ACCOUNT, LOGS = "tfotrace", "/var/log/tfotrace"


def setting(name: str) -> str:
    """The one line that sets it."""
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    return str(value)


def test_the_command_line_is_one() -> None:
    (variable,) = shlex.split(setting("Environment"))
    name, _, options = variable.partition("=")
    line = setting("ExecStart").replace(f"${name}", options).replace("%I", "eth0").replace("%i", "eth0")
    program, *words = shlex.split(line)
    assert program == "/usr/bin/tfotrace"
    options_given = arguments.fitting(arguments.trace_parser().parse_args(words))
    assert options_given.more_interfaces == ["eth0"]
    assert options_given.user == ACCOUNT
    (target,) = targets.targets(options_given.write)
    assert str(target.path) == f"{LOGS}/eth0.jsonl"
    assert targets.rotation(options_given.rotate_size, options_given.rotate_time, options_given.rotate_keep)


def test_account_and_folders_are_made_and_may_be_written() -> None:
    assert f"u {ACCOUNT} " in (PACKAGING / "tfotrace.sysusers").read_text()
    assert f"d {LOGS} 0750 {ACCOUNT} {ACCOUNT}" in (PACKAGING / "tfotrace.tmpfiles").read_text()
    assert f"-o {ACCOUNT} -g {ACCOUNT} {LOGS}" in (PACKAGING / "deb" / "postinst").read_text()
    assert setting("ReadWritePaths") == f"-{LOGS}"
    assert f"/run/{setting('RuntimeDirectory')}" == str(RUN_DIR)
    assert setting("RuntimeDirectoryPreserve") == "yes"  # kept programs, and what a killed run left


def test_what_the_program_does_is_allowed() -> None:
    assert set(setting("CapabilityBoundingSet").split()) == {
        "CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN",  # load, attach
        "CAP_SETUID", "CAP_SETGID",  # leave root
        "CAP_SYS_RESOURCE",  # locked memory before 5.11
        "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH",  # whose socket
    }  # fmt: skip
    assert {"bpf", "perf_event_open", "pidfd_getfd"} <= set(setting("SystemCallFilter").split())
    assert {"AF_NETLINK", "AF_UNIX"} <= set(setting("RestrictAddressFamilies").split())


def test_wrong_usage_is_not_tried_again() -> None:
    assert setting("RestartPreventExitStatus") == str(int(ExitCode.USAGE))
