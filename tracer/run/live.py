"""One run as two processes: fork the root part, wait until it is ready, become the user, trace."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.errors import UsageError
from tracer.ipc.messages import Channel
from tracer.linux import privileges
from tracer.linux.allocator import give_back_early
from tracer.linux.collector import collect_seldom
from tracer.loader.load import Loader, LoadOptions, default_transport
from tracer.root.request import RootRequest
from tracer.run import dashboard
from tracer.run.fork import await_ready, root_child
from tracer.sinks import targets
from tracer.vocabulary.vocabulary import HookChoice, Transport

if TYPE_CHECKING:
    from tracer.encode.composer import Composer
    from tracer.sinks.base import Sink
    from tracer.sinks.prometheus import Prometheus
    from tracer.sinks.stream import Stream

Narrate = Callable[[str], None]


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
    targets.targets(options.write)  # a wrong name is told at once
    targets.rotation(options.rotate_size, options.rotate_time, options.rotate_keep)
    privileges.require_root()
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
        # the perf buffer is a CPU's own, and locked memory is scarce
        event_ring_bytes=(8 << 20) if transport is Transport.RING else (1 << 20),
        payload_ring_bytes=(4 << 20) if transport is Transport.RING else (1 << 20),
        filter=options.filter,
        packets=any(one.form is targets.Form.PCAPNG for one in targets.targets(options.write)),
        packet_ring_bytes=(8 << 20) if transport is Transport.RING else (1 << 20),
        details=_shows_handshakes(options),
    )
    return RootRequest(interfaces, hook, load, options.response_timeout, options.netns)


def _shows_handshakes(options: Namespace) -> bool:
    """Does anybody look at handshakes one by one? If not, nobody asks whose they are and what was in their SYNs."""
    return not options.quiet or bool(options.write) or options.filter_record is not None


def _reopens(options: Namespace) -> bool:
    """Is SIGHUP to close and reopen files? With the dashboard it is how a terminal says that it has gone."""
    return bool(options.write) and not dashboard.is_wanted(options)


def _as_root(request: RootRequest, channel: Channel) -> int:
    loader = Loader(request.load)  # compiles while this goes on
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
    # while the root part compiles: numpy and the rest take a tenth of a second
    from tracer.encode.composer import Composer
    from tracer.run.fanout import Fanout
    from tracer.run.pipeline import Pipeline, RunOptions
    from tracer.run.stop import Quota, StopRequest
    from tracer.sinks.base import TakesPackets
    from tracer.sinks.stream import Stream

    stop = StopRequest(reopens=_reopens(options))
    stop.install()
    metrics = open_metrics(options)
    app = dashboard.load() if dashboard.is_wanted(options) else None
    first = await_ready(channel, stop)
    if first is None:
        return 0
    ready, sources = first
    if on_ready is not None:
        on_ready()
    stdout = Stream.stdout(live=True)  # opens the pipe again, which may be somebody else's
    privileges.drop(user)
    tell: Narrate = dashboard.Narration() if app is not None else narrate
    composer = Composer({}, show_cookies=options.show_cookies)
    sinks = open_sinks(options, composer, stdout if app is None else None)
    # before a filter stands between: it knows records only
    packet_takers: list[TakesPackets] = [sink for sink in sinks if isinstance(sink, TakesPackets)]
    chooser = None
    if options.filter_record is not None:
        from tracer.sinks.filtered import Filtered, RecordFilter

        chooser = RecordFilter(options.filter_record, composer)
        sinks = [Filtered(sink, chooser) for sink in sinks]
    fanout = Fanout(sinks, tell, Quota(options.count, chooser), packet_takers)
    if metrics is not None:
        fanout.observe(metrics)
    details = _shows_handshakes(options)
    check_cookies = details or metrics is not None
    run_options = RunOptions(argv, options.duration, details=details, check_cookies=check_cookies)
    pipeline = Pipeline(channel, ready, sources, composer, fanout, run_options, stop)
    if options.ready_file is not None:
        _create(options.ready_file)
    # only now, when nothing on the command line can be wrong any more
    if user is None:
        tell("running as root throughout: there is no user behind sudo and no --user")
    if metrics is not None:
        tell(f"metrics for Prometheus at http://{metrics.address}/metrics")
    for interface in ready.interfaces:
        tell(f"tracing {interface.name} by {interface.hook}: {interface.why}")
        for text in interface.warnings:
            tell(text)
    if app is None:
        collect_seldom()
        return pipeline.run()
    from tracer.store.store import Store

    store = Store(options.keep, composer=composer)
    fanout.observe(store)
    try:
        return dashboard.run(
            app, pipeline, store, stop, leave_when_ended=bool(options.duration or options.count),
            filter_text=options.filter_record.text if options.filter_record is not None else "",
        )  # fmt: skip
    finally:
        for line in getattr(tell, "lines", []):
            narrate(line)


def open_metrics(options: Namespace) -> Prometheus | None:
    """--prometheus: bound before anything else takes its time. Raises UsageError."""
    if options.prometheus is None:
        return None
    from tracer.sinks.prometheus import Prometheus
    from tracer.sinks.prometheus_server import Listener

    return Prometheus(Listener(options.prometheus), options.prometheus_peers)


def open_sinks(options: Namespace, composer: Composer, stdout: Stream | None) -> list[Sink]:
    """Standard output in the form asked for (None: the dashboard has it) and every -w."""
    from tracer.sinks.files import OutputFile
    from tracer.sinks.jsonl import JsonLines
    from tracer.sinks.pcapng import Pcapng
    from tracer.sinks.text import Text, wants_colour

    sinks: list[Sink] = []
    if stdout is not None and options.json:
        sinks.append(JsonLines(stdout, composer))
    elif stdout is not None and not options.quiet:
        sinks.append(Text(stdout, composer, wants_colour(sys.stdout.isatty())))
    rotation = targets.rotation(options.rotate_size, options.rotate_time, options.rotate_keep)
    for one in targets.targets(options.write):
        form = Pcapng if one.form is targets.Form.PCAPNG else JsonLines
        sinks.append(form(OutputFile(one, rotation), composer))
    return sinks


def _create(path: Path) -> None:
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        raise UsageError(f"cannot create {path}: {error.strerror}") from None
