"""Compiles the C programs to an artifact (artifact.py). Only for the loading child, since bcc brings LLVM.

bcc compiles one text, and knows only the maps in it, so the C files are concatenated. The two stages of the programs
share nothing but maps. With two CPUs, each is compiled in a process of its own, and the artifacts are joined.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from tracer.ipc.event_header import BPF_DIR
from tracer.loader import artifact
from tracer.loader.artifact import Artifact

_MAPS, _READ, _FOLLOW, _DROPS = ("maps",), ("read",), ("record", "pair", "sweep"), ("drops",)
_OF_FOLLOW = ("_pair", "_payload", "sweep")  # how the names of the programs in _FOLLOW end


class PartFailedError(Exception):
    """The other process failed to compile its part."""


def source(parts: Sequence[str] = (*_MAPS, *_READ, *_FOLLOW)) -> str:
    """The text for bcc: these of tracer/bpf/*.bpf.c, by default all."""
    return "\n".join((BPF_DIR / f"{part}.bpf.c").read_text(encoding="utf-8") for part in parts)


def make(flags: Sequence[str], programs: Sequence[str], hash_key: int) -> Artifact:
    """Compile these programs; `flags` contain the hash key.

    Raises:
        ImportError: bcc is missing.
        artifact.NotKeepableError, PartFailedError: the result is not as expected.
        Exception: the compiler refuses (bcc has no class for it).
    """
    _bcc()  # import it before the fork, for both processes
    following = [name for name in programs if name.endswith(_OF_FOLLOW)]
    reading = [name for name in programs if name not in following]
    if len(os.sched_getaffinity(0)) < 2:
        return _compile(source(), flags, programs, hash_key)
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.closerange(3, into)  # copies would hide our parent's end from others; LLVM has no file open
        _in_the_other_process(into, source((*_MAPS, *_FOLLOW)), flags, following, hash_key)
    os.close(into)
    try:
        first = _compile(source((*_MAPS, *_READ)), flags, reading, hash_key)
        with open(out, "rb", closefd=False) as file:
            answer = file.read()
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(out)
        os.waitpid(pid, 0)
    try:
        second = msgspec.msgpack.decode(answer, type=Artifact)
    except msgspec.DecodeError as error:
        raise PartFailedError("the process that compiles the second stage died") from error
    return artifact.joined(first, second, programs)


def make_words(flags: Sequence[str], programs: Sequence[str], maps: Sequence[str], hash_key: int) -> Artifact:
    """Compile the programs that hear the kernel's reasons (kernel_words.py), with those maps only that they use.

    Raises as make() does.
    """
    return _compile(source((*_MAPS, *_DROPS)), flags, programs, hash_key, maps)


def _in_the_other_process(into: int, text: str, flags: Sequence[str], programs: Sequence[str], hash_key: int) -> None:
    """Never returns. The compiler writes to standard error, which is the child's log."""
    try:
        made = msgspec.msgpack.encode(_compile(text, flags, programs, hash_key))
        with open(into, "wb") as file:
            file.write(made)
    except Exception as error:  # it sends no answer; the log says why  # noqa: BLE001
        print(f"error: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(0)


_loaded_by_bcc: list[Any] = []  # when these objects go, bcc closes what it loaded


def load_by_bcc(
    flags: Sequence[str], programs: Sequence[str], maps: Sequence[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """Descriptors of programs and maps, which bcc still owns.

    Raises Exception; the verifier writes to standard error.
    """
    bpf = _bcc().BPF(text=source(), cflags=list(flags))
    _loaded_by_bcc.append(bpf)
    loaded = {name: bpf.load_func(name, kind).fd for name, kind in _types(programs).items()}
    return loaded, {name: bpf[name].map_fd for name in maps}


def _compile(
    text: str, flags: Sequence[str], programs: Sequence[str], hash_key: int, only: Sequence[str] = ()
) -> Artifact:
    """`only`: the names of those maps that the programs use; by default all of the text."""
    bcc = _bcc()
    bpf: Any = bcc.BPF(text=text, cflags=list(flags))
    code = {name: (kind, bpf.dump_func(name)) for name, kind in _types(programs).items()}
    maps = {name: bpf[name].map_fd for name in only or _map_names(bpf)}
    hashes = any(not name.endswith(_OF_FOLLOW) for name in programs)
    made = artifact.take(code, maps, hash_key, keyed=hashes, typed=not only)
    bpf.cleanup()
    return made


def _map_names(bpf: Any) -> list[str]:
    """Ask bcc's C library, since its Python module does not offer this."""
    count, name_of = _bcc().lib.bpf_num_tables, _bcc().lib.bpf_table_name
    count.argtypes, count.restype = [ctypes.c_void_p], ctypes.c_size_t
    name_of.argtypes, name_of.restype = [ctypes.c_void_p, ctypes.c_size_t], ctypes.c_char_p
    return [name_of(bpf.module, number).decode() for number in range(count(bpf.module))]


def _types(programs: Sequence[str]) -> dict[str, int]:
    bpf = _bcc().BPF
    kinds = {"xdp": bpf.XDP, "freed": bpf.RAW_TRACEPOINT, "sent": bpf.RAW_TRACEPOINT}
    return {name: kinds.get(name.split("_", 1)[0], bpf.SCHED_CLS) for name in programs}


def _bcc() -> Any:
    os.environ["BCC_KERNEL_SOURCE"] = str(BPF_DIR)
    import bcc  # type: ignore[import-untyped,unused-ignore]

    return bcc
