"""One run as two processes: fork the root part, wait until it is ready, become the user, trace."""

from __future__ import annotations

import gc
import os
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.errors import UsageError
from tracer.ipc.messages import Channel
from tracer.linux import own_tree, privileges
from tracer.linux.allocator import give_back_early
from tracer.loader.load import Loader, LoadOptions, default_transport
from tracer.root.request import RootRequest
from tracer.run import dashboard
from tracer.run.fork import await_ready, root_child
from tracer.sinks import targets
from tracer.vocabulary.vocabulary import HookChoice, Transport

if TYPE_CHECKING:
    from tracer.ipc.traced import TracedInterface
    from tracer.run.fanout import Narrate

_NAMED = 20  # interfaces, each on a line of its own


def trace(
    options: Namespace,
    interfaces: tuple[str, ...],
    argv: tuple[str, ...],
    narrate: Narrate,
    on_ready: Callable[[], None] | None = None,
) -> int:
    """Trace `interfaces` as the command line says; returns the exit status.

    `on_ready` is called when every program is attached and this process is no longer root.

    Raises:
        TfotraceError: it cannot begin.
    """
    targets.targets(options.write)  # report a wrong name at once
    targets.rotation(options.rotate_size, options.rotate_time, options.rotate_keep)
    privileges.require_root()
    unsafe = own_tree.warning()
    if unsafe is not None:
        narrate(unsafe)
    give_back_early()
    user = privileges.target_user(options.user)
    request = _request(options, interfaces)
    with root_child(lambda channel: _as_root(request, channel), reopens=_reopens(options)) as channel:
        return _as_user(channel, options, argv, user, narrate, on_ready)


def _request(options: Namespace, interfaces: tuple[str, ...]) -> RootRequest:
    transport = options.transport or default_transport()
    hook: HookChoice = options.hook
    load = LoadOptions(
        table_size=options.table_size,
        transport=transport,
        xdp=hook in (HookChoice.XDP, HookChoice.XDP_NATIVE, HookChoice.XDP_GENERIC),
        # every CPU has a perf buffer, and locked memory is scarce
        event_ring_bytes=(8 << 20) if transport is Transport.RING else (1 << 20),
        payload_ring_bytes=(4 << 20) if transport is Transport.RING else (1 << 20),
        filter=options.filter,
        packets=any(one.form is targets.Form.PCAPNG for one in targets.targets(options.write)),
        packet_ring_bytes=(8 << 20) if transport is Transport.RING else (1 << 20),
        details=_shows_handshakes(options),
        kernel_reasons=options.kernel_reasons,
    )
    return RootRequest(interfaces, hook, load, options.response_timeout, options.netns)


def _shows_handshakes(options: Namespace) -> bool:
    """Does anybody read single handshakes? If not, their processes and payloads are not needed."""
    return not options.quiet or bool(options.write or options.report) or options.filter_record is not None


def _reopens(options: Namespace) -> bool:
    """Does SIGHUP close and reopen files? With the dashboard it means that the terminal has gone."""
    return bool(options.write) and not dashboard.is_wanted(options)


def _as_root(request: RootRequest, channel: Channel) -> int:
    loader = Loader(request.load)  # starts to compile in a child
    from tracer.root import part

    return part.run(request, channel, loader)


def _as_user(
    channel: Channel,
    options: Namespace,
    argv: tuple[str, ...],
    user: privileges.User | None,
    narrate: Narrate,
    on_ready: Callable[[], None] | None,
) -> int:
    gc.disable()  # until all is imported: see collect_seldom(), in tracer/linux/collector.py and in tui/app.py
    # while the root part compiles: importing numpy and the rest takes a tenth of a second
    from tracer.encode.composer import Composer
    from tracer.run.assembly import Assembly
    from tracer.run.pipeline import Pipeline, RunOptions

    assembly = Assembly(options, narrate, reopens=_reopens(options))
    first = await_ready(channel, assembly.stop)
    if first is None:
        return 0
    ready, sources = first
    if on_ready is not None:
        on_ready()
    assembly.become(user, live=True)
    composer = Composer({}, show_cookies=options.show_cookies)
    fanout = assembly.open(composer)
    details = _shows_handshakes(options)
    check_cookies = details or assembly.metrics is not None
    run_options = RunOptions(
        argv, options.duration, details=details, check_cookies=check_cookies, unsent=options.filter is None
    )
    pipeline = Pipeline(channel, ready, sources, composer, fanout, run_options, assembly.stop)
    if options.ready_file is not None:
        _create(options.ready_file)
    # only now, after all checks of the command line
    assembly.warn_of_root()
    if assembly.metrics is not None:
        assembly.narrate(f"metrics for Prometheus at http://{assembly.metrics.address}/metrics")
    for text in traced(ready.interfaces):
        assembly.narrate(text)
    for one in ready.without:
        assembly.narrate(one.text)
    return assembly.run(pipeline, leave_when_ended=bool(options.duration or options.count))


def traced(interfaces: Sequence[TracedInterface]) -> Iterator[str]:
    """What is traced by which hook and why, one line for each interface unless there are many."""
    ways: dict[tuple[str, str], list[str]] = {}
    for one in interfaces:
        ways.setdefault((one.hook, one.why), []).append(one.name)
    for (hook, why), names in ways.items():
        for name in names if len(names) <= _NAMED else [f"{len(names):,} interfaces ({names[0]} to {names[-1]})"]:
            yield f"tracing {name} by {hook}: {why}"
    warnings = [text for one in interfaces for text in one.warnings]
    yield from warnings[:_NAMED]
    if len(warnings) > _NAMED:
        yield f"{len(warnings) - _NAMED:,} more warnings of this kind are in the start record (--json)"


def _create(path: Path) -> None:
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        raise UsageError(f"cannot create {path}: {error.strerror}") from None
