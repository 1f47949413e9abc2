"""`tfotrace`: from the command line to a running pipeline; every foreseeable failure ends in one sentence."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NoReturn

from tracer.cli import arguments
from tracer.cli.parser import Parser
from tracer.errors import CannotTraceError, ExitCode, TfotraceError, UsageError
from tracer.vocabulary import local_time
from tracer.vocabulary.near import did_you_mean
from tracer.vocabulary.own_command import tfotrace
from tracer.vocabulary.printable import printable

_NO_MEMORY = b"tfotrace: out of memory: everything is detached; free some memory or raise the limit, then start again\n"
# what the dynamic linker says
_NO_MEMORY_TO_IMPORT = ("failed to map segment", "cannot allocate memory", "Cannot allocate memory")
_ADDRESS_SPACE_MIN = 192 << 20


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (DESIGN.md section 2)."""
    _open_closed_streams()
    warnings.simplefilter("ignore")  # those of libraries are not for who runs this, and stderr has sentences only
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, signal.default_int_handler)  # until the pipeline takes over: a normal end
    words = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's library of linear algebra, which is not used here
    try:
        try:
            _require_address_space()
            return _run(words)
        finally:  # also for help, which raises SystemExit: flush while we can still report a failure
            _say()
    except TfotraceError as error:
        narrate(str(error), *error.shown)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.OK)
    except MemoryError:
        _end_without_memory()
    except ImportError as error:
        if not any(words in str(error) for words in _NO_MEMORY_TO_IMPORT):
            raise
        _end_without_memory()
    except _OutputError as error:
        _write_nothing_more(1)
        if error.cause.errno in (errno.EPIPE, errno.EBADF):
            return int(ExitCode.OK)  # the reader has gone: a normal end
        narrate(f"cannot write to standard output: {error.cause.strerror}")
        return int(ExitCode.ENDED_EARLY)
    except OSError as error:  # out of processes, descriptors ...
        if error.errno == errno.ENOMEM:
            _end_without_memory()
        narrate(f"a system call failed: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        return int(ExitCode.CANNOT_TRACE)


def _end_without_memory() -> NoReturn:
    # the root part has detached and exited; Python's own shutdown would need memory
    os.write(2, _NO_MEMORY)
    os._exit(int(ExitCode.ENDED_EARLY))


def _require_address_space() -> None:
    """OpenBLAS, which numpy loads, ends the process with words of its own where memory is short: say it before."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _ADDRESS_SPACE_MIN:
        mib, needed = limit >> 20, _ADDRESS_SPACE_MIN >> 20
        how = f"raise it (ulimit -v) to {needed} or more"
        raise CannotTraceError(f"out of memory: the limit of address space is {mib} MiB: {how}")


def _open_closed_streams() -> None:
    """Keep descriptors 0 to 2 from being reused; writing to a closed standard output still fails."""
    for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDWR)):
        try:
            os.fstat(number)
        except OSError:  # noqa: PERF203 - three times
            os.open(os.devnull, mode)  # takes the lowest free number: this one
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


class _OutputError(Exception):
    """Writing help, the schema or a report of doctor or detach failed; a run reports its own outputs."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _say(*lines: str) -> None:
    """Print and flush."""
    try:
        for line in lines:
            print(line)
        sys.stdout.flush()
    except OSError as error:
        raise _OutputError(error) from None


def _write_nothing_more(number: int) -> None:
    """Discard what is still buffered for a descriptor, so that Python's shutdown does not fail on it."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)


def _shown(*words: str) -> tuple[str, ...]:
    """A command line fit for a record: bytes that are not UTF-8 become escapes."""
    return tuple(word.encode("utf-8", "backslashreplace").decode() for word in words)


def narrate(text: str, *below: str) -> None:
    """Print one sentence for people on standard error. Text from command lines and names is made safe to print.

    The lines of `below` are indented.
    """
    try:
        lines = (f"tfotrace: {printable(text)}", *(f"  {printable(line)}" for line in below))
        print("\n".join(lines), file=sys.stderr, flush=True)
    except OSError as error:  # nobody listens; that is no reason to stop
        if error.errno in (errno.EPIPE, errno.EIO):  # the reader, or the terminal, has gone
            _write_nothing_more(2)
    except ValueError:
        return


def _run(words: list[str]) -> int:
    command = words[0] if words else ""
    if command in arguments.COMMANDS:
        return _COMMANDS[command](words[1:])
    return _trace(words)


def _fitting(parsed: Namespace) -> Namespace:
    options = arguments.fitting(parsed)
    if options.utc:
        local_time.use_utc()
    return options


def _trace(words: list[str], tell: Callable[..., None] = narrate) -> int:
    options = _fitting(arguments.trace_options(words))
    interfaces = [*options.interfaces, *options.more_interfaces]
    if not interfaces:
        from tracer.cli.meant import such_as

        demo, usage = tfotrace("demo"), tfotrace("--help", root=False)
        raise UsageError(f"give an interface to trace{such_as()}, or `any`, or try `{demo}` (see {usage})")
    _each_once(interfaces)
    if options.netns is None:
        from tracer.cli.meant import require_interfaces

        require_interfaces(interfaces)
    from tracer.run import live as run

    return run.trace(options, tuple(interfaces), _shown("tfotrace", *words), tell)


def _each_once(interfaces: list[str]) -> None:
    if len(set(interfaces)) < len(interfaces):
        twice = next(name for name in interfaces if interfaces.count(name) > 1)
        raise UsageError(f"{twice} is named twice: name each interface once")
    if "any" in interfaces and len(interfaces) > 1:
        raise UsageError("`any` means all interfaces: do not name others")


def _demo(words: list[str]) -> int:
    options = _fitting(arguments.demo_parser().parse_args(words))
    from tracer.linux import privileges
    from tracer.run import live as run

    privileges.require_root()
    from tracer.run.demo import Demo

    with ExitStack() as stack:
        demo = stack.enter_context(Demo())
        in_lab = Namespace(**{**vars(options), "netns": demo.netns})
        argv = _shown("tfotrace", "demo", *words)
        code = run.trace(in_lab, (demo.interface,), argv, narrate, on_ready=demo.begin)
        if code == ExitCode.OK:
            demo.explain(narrate)
        return code


# options for replaying a capture only: records were judged when they were written
_JUDGING = {"local": "--local", "table_size": "--table-size", "response_timeout": "--response-timeout"}


def _judging(options: Namespace, parser: Parser) -> list[str]:
    return [option for name, option in _JUDGING.items() if getattr(options, name) != parser.get_default(name)]


def _replay(words: list[str]) -> int:
    options = _fitting(arguments.replay_parser().parse_args(words))
    from tracer.replay.replay import replay

    return replay(options, _judging(options, arguments.replay_parser()), _shown("tfotrace", "replay", *words), narrate)


def _report(words: list[str]) -> int:
    options = _fitting(arguments.report_parser().parse_args(words))
    from tracer.replay.replay import replay

    return replay(options, _judging(options, arguments.report_parser()), _shown("tfotrace", "report", *words), narrate)


def _compare(words: list[str]) -> int:
    options = arguments.compare_parser().parse_args(words)
    from tracer.compare.command import compared
    from tracer.compare.lines import as_json
    from tracer.compare.text import lines

    found = compared(options, narrate)
    _say(*([as_json(found).decode()] if options.json else lines(found)))
    return int(ExitCode.OK)


def _probe(words: list[str]) -> int:
    options = arguments.probe_parser().parse_args(words)
    if options.interface is not None:
        from tracer.cli.meant import require_interfaces

        require_interfaces([options.interface])
    from tracer.probe.command import probe

    return probe(options, narrate, _say)


def _detach(words: list[str]) -> int:
    options = arguments.detach_parser().parse_args(words)
    from tracer.linux import privileges

    privileges.require_root()
    from tracer.attach.instances import remove_leftovers

    _say(*(remove_leftovers(options.interface) or ["nothing was left behind"]))
    return int(ExitCode.OK)


def _extcap(words: list[str]) -> int:
    from tempfile import TemporaryDirectory

    from tracer.cli import extcap

    options = arguments.extcap_parser().parse_args(words)
    lines = extcap.answer(options)
    if lines is not None:
        _say(*lines)
        return int(ExitCode.OK)
    with TemporaryDirectory(prefix="tfotrace-") as folder:
        # what is said on standard error Wireshark shows as errors
        return _trace([*extcap.capture_words(options, folder)], lambda *_: None)


def _schema(words: list[str]) -> int:
    arguments.schema_parser().parse_args(words)
    import msgspec

    from tracer.cli.schema import json_schema

    _say(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode())
    return int(ExitCode.OK)


def _help(words: list[str]) -> int:
    command = arguments.help_parser().parse_args(words).command
    if command not in arguments.PARSERS:
        near = did_you_mean(command, arguments.COMMANDS)
        raise UsageError(f'no command "{command}"{near or ": the commands are " + ", ".join(arguments.COMMANDS)}')
    _say(arguments.PARSERS[command]().format_help().rstrip())
    return int(ExitCode.OK)


def _version(words: list[str]) -> int:
    arguments.version_parser().parse_args(words)
    _say(arguments.VERSION)
    return int(ExitCode.OK)


def _doctor(words: list[str]) -> int:
    options = arguments.doctor_parser().parse_args(words)
    _each_once(options.interfaces)
    from tracer.doctor.examine import examine
    from tracer.linux import netns

    path = None
    if options.netns is not None:
        path = netns.path_from(options.netns)
        netns.enter_named(options.netns)
    report = examine(options.interfaces, path)
    if options.json:
        import msgspec

        _say(msgspec.json.encode(report).decode())
    else:
        from tracer.doctor.text import lines
        from tracer.sinks.text import wants_colour

        _say(*lines(report, wants_colour(sys.stdout.isatty())))
    return report.exit_code


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "compare": _compare,
    "demo": _demo,
    "detach": _detach,
    "doctor": _doctor,
    "extcap": _extcap,
    "probe": _probe,
    "replay": _replay,
    "report": _report,
    "schema": _schema,
    "help": _help,
    "version": _version,
}
