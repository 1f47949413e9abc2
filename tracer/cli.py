"""`tfotrace`: from the command line to a running pipeline, and every foreseeable failure as one sentence."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from tracer import arguments
from tracer.errors import ExitCode, TfotraceError, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (DESIGN.md section 2)."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    except TfotraceError as error:
        narrate(str(error))
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.OK)
    except BrokenPipeError:
        # the reader of help or schema has gone: an end as asked, and nothing more to flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return int(ExitCode.OK)


def narrate(text: str) -> None:
    """One sentence for people, on standard error."""
    try:
        print(f"tfotrace: {text}", file=sys.stderr, flush=True)
    except (BrokenPipeError, ValueError, OSError):
        return  # nobody listens; that is no reason to end


def _run(words: list[str]) -> int:
    command = words[0] if words else ""
    if command in arguments.LATER:
        raise UsageError(f'"{command}" is not in this version; for an interface of that name: tfotrace -i {command}')
    if command in arguments.COMMANDS:
        return _COMMANDS[command](words[1:])
    return _trace(words)


def _trace(words: list[str]) -> int:
    options = arguments.trace_parser().parse_args(words)
    interfaces = [*options.interfaces, *options.more_interfaces]
    if not interfaces:
        raise UsageError("name an interface to trace, or `any`, or try `tfotrace demo` (see tfotrace --help)")
    if len(set(interfaces)) < len(interfaces):
        twice = next(name for name in interfaces if interfaces.count(name) > 1)
        raise UsageError(f"{twice} is named twice: name each interface once")
    if "any" in interfaces and len(interfaces) > 1:
        raise UsageError("`any` stands for every interface: name it alone")
    from tracer import run

    return run.trace(options, tuple(interfaces), ("tfotrace", *words), narrate)


def _demo(words: list[str]) -> int:
    options = arguments.demo_parser().parse_args(words)
    from tracer import privileges, run

    privileges.require_root()
    from tracer.demo import Demo

    with ExitStack() as stack:
        demo = stack.enter_context(Demo())
        in_lab = Namespace(**{**vars(options), "netns": demo.netns})
        argv = ("tfotrace", "demo", *words)
        return run.trace(in_lab, (demo.interface,), argv, narrate, on_ready=demo.begin)


def _detach(words: list[str]) -> int:
    options = arguments.detach_parser().parse_args(words)
    from tracer import privileges

    privileges.require_root()
    from tracer.instances import remove_leftovers

    for line in remove_leftovers(options.interface) or ["nothing was left behind"]:
        print(line)
    return int(ExitCode.OK)


def _schema(words: list[str]) -> int:
    arguments.schema_parser().parse_args(words)
    import msgspec

    from tracer.records import json_schema

    print(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode(), flush=True)
    return int(ExitCode.OK)


_COMMANDS: dict[str, Callable[[list[str]], int]] = {"demo": _demo, "detach": _detach, "schema": _schema}
