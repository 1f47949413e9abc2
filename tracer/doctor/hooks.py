"""Which hook would trace an interface, and which other programs are attached to it."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

from tracer.attach import clsact
from tracer.attach import others as survey
from tracer.attach import tcx as attach_tcx
from tracer.doctor.model import Finding, HookReport, Level, Topic, some
from tracer.linux import bpfsys, interfaces
from tracer.linux.interfaces import Interface
from tracer.vocabulary.own_command import tfotrace
from tracer.vocabulary.vocabulary import Hook

TCX_SINCE = (6, 6)
_LOOPBACK = "; on loopback at egress only, so that each packet is seen once"


def find(words: Iterable[str]) -> list[Interface]:
    """The named interfaces, with each member of a group (eth0+eth1); for `any` or no name, all that are up.

    Raises:
        UsageError: there is no interface of that name.
    """
    names = [name for name in words if name != "any"]
    if not names:
        return list(interfaces.all_up())
    found: dict[int, Interface] = {}
    for word in names:
        for link in interfaces.find_members(word):
            found[link.index] = link
    return list(found.values())


def _has_tcx(ifindex: int, kernel: tuple[int, int]) -> bool:
    """Ask the kernel if that is permitted, else go by its version."""
    try:
        bpfsys.tcx_query(ifindex, bpfsys.TCX_INGRESS)
    except OSError as error:
        if error.errno in attach_tcx.NOT_HERE:
            return False
        if error.errno in (errno.EPERM, errno.EACCES):
            return kernel >= TCX_SINCE
        raise
    return True


def look(link: Interface, kernel: tuple[int, int], prefix: str = "") -> tuple[HookReport, list[Finding]]:
    """Check one interface. `kernel` is the kernel's version, used if the kernel refuses an ordinary user's query.

    `prefix` goes in front of commands, for root and for another network namespace.
    """

    def finding(word: str, level: Level, text: str, command: str | None = None) -> Finding:
        prevents = level is Level.PROBLEM
        return Finding(Topic.TRACING, word, level, text, command, interface=link.name, prevents_tracing=prevents)

    if link.untraceable is not None:
        return HookReport(link.name, link.index, None, link.untraceable, ()), [
            finding("link_type", Level.PROBLEM, link.untraceable)
        ]
    found: list[Finding] = []
    if not link.up:
        text = f"{link.name} is down; tfotrace traces only interfaces that are up"
        found.append(finding("link_down", Level.PROBLEM, text, f"{prefix}ip link set {link.name} up"))
    tcx = _has_tcx(link.index, kernel)
    hook: Hook | None = Hook.TCX if tcx else Hook.CLSACT
    why = (
        "TCX links, ahead of other programs"
        if tcx
        else "clsact filters at priority 1, since this kernel has no TCX (Linux 6.6 has)"
    )
    why += _LOOPBACK if link.is_loopback else ""
    if not tcx and clsact.ingress_qdisc(link.index) == "ingress":
        hook = None
        why = f'{link.name} has an "ingress" qdisc in the place of clsact, and this kernel has no TCX links'
        command = f"{prefix}tc qdisc del dev {link.name} ingress  # if nothing uses it"
        found.append(finding("ingress_qdisc", Level.PROBLEM, why, command))
    occupants = survey.occupants(link.index)
    others = tuple(item.words for item in occupants)
    found += [_xdp_first(link, item, prefix) for item in others if _is_xdp(item)]
    behind = [item for item in others if not _is_xdp(item)]
    if behind:
        text = f"also on {link.name}: {some(behind)}; tfotrace runs before them and leaves them unchanged"
        found.append(finding("beside", Level.OK, text))
    return HookReport(link.name, link.index, hook.value if hook else None, why, others), found


def _is_xdp(words: str) -> bool:
    return words.startswith("XDP ")


def _xdp_first(link: Interface, words: str, prefix: str) -> Finding:
    text = (
        f"{words} on {link.name} runs before tc: packets that it drops, redirects or answers are not traced, "
        "and it leaves no room for --hook xdp"
    )
    command = f"{prefix}bpftool net show dev {link.name}  # shows whose it is"
    return Finding(Topic.TRACING, "xdp_first", Level.WARNING, text, command, interface=link.name)


def findings(
    links: list[Interface], kernel: tuple[int, int], root: bool, prefix: str
) -> tuple[list[HookReport], list[Finding]]:
    """Check every interface; one finding per hook names the interfaces that it would trace."""
    reports: list[HookReport] = []
    found: list[Finding] = []
    for link in links:
        report, its = look(link, kernel, prefix)
        reports.append(report)
        found += its
    if not links:
        text = "no interface that carries Ethernet or plain IP is up"
        found.append(
            Finding(Topic.TRACING, "no_interface", Level.PROBLEM, text, f"{prefix}ip link", prevents_tracing=True)
        )
    elif not root and kernel >= TCX_SINCE:
        text = "only root can see programs on TCX hooks: there may be more than shown here"
        found.append(Finding(Topic.TRACING, "programs_unseen", Level.UNKNOWN, text, tfotrace("doctor")))
    return reports, [*_by_hook(reports), *found]


def _by_hook(reports: list[HookReport]) -> Iterator[Finding]:
    same: dict[tuple[str, str], list[str]] = {}
    for report in reports:
        if report.hook is not None:
            same.setdefault((report.hook, report.why), []).append(report.name)
    for (hook, why), names in same.items():
        single = names[0] if len(names) == 1 else None
        yield Finding(Topic.TRACING, "hook", Level.OK, f"{hook} would trace {some(names)}: {why}", interface=single)
