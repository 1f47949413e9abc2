"""Run all checks, in the caller's network namespace."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from tracer.doctor import cookies, counters, hooks, host, listeners, namespaces, settings
from tracer.doctor.model import Report, exit_code
from tracer.linux import capabilities
from tracer.linux.clock import wall_now
from tracer.linux.hoststate import read_counters, read_sysctls
from tracer.loader.load import kernel_version
from tracer.records.record import SCHEMA
from tracer.version import __version__
from tracer.vocabulary.own_command import sudo, tfotrace


def examine(words: Sequence[str], netns_path: str | None) -> Report:
    """Check the named interfaces and the host; `netns_path` leads to the namespace if the user named one.

    Raises:
        UsageError: there is no such interface.
    """
    root = os.geteuid() == 0
    kernel = kernel_version(os.uname().release)
    links = hooks.find(words)  # first, to report a typo at once
    prefix = sudo() + (f"nsenter --net={shlex.quote(netns_path)} " if netns_path is not None else "")
    named = ("--netns", netns_path) if netns_path is not None else ()
    # host.findings() says why where asking is deadly
    deadly = capabilities.bpf_kills()
    reports, on_hooks = ([], []) if deadly else hooks.findings(links, kernel, root, prefix)
    sysctls, counted = read_sysctls(), read_counters()
    bits = settings.bits(sysctls)
    sockets = listeners.look()
    others = namespaces.findings(namespaces.look()) if netns_path is None else ()  # who named one knows of them
    cached = cookies.look()
    found = [
        *host.findings(root),
        *on_hooks,
        *settings.findings(sysctls, prefix),
        *listeners.findings(sockets, bits, prefix),
        *others,
        *cookies.findings(cached, bits, prefix),
        *counters.findings(counted, sysctls, bits, prefix, tfotrace("any", *named)),
    ]
    return Report(
        schema=SCHEMA,
        ts=wall_now(),
        version=__version__,
        kernel=os.uname().release,
        root=root,
        netns=netns_path,
        findings=tuple(found),
        interfaces=tuple(reports),
        listeners=tuple(sockets),
        cached_servers=tuple(cached or ()),
        sysctls=sysctls,
        counters=counted,
        exit_code=int(exit_code(found)),
    )
