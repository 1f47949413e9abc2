"""Load the kernel programs, after compiling them if necessary, in a short-lived child that sends its descriptors.

bcc brings LLVM, about 120 MB. The child that needs it ends as soon as the programs are in the kernel, so that no
long-running process maps it. bpf/include replaces the kernel headers. cache.py keeps what was compiled, and the next
start does without bcc.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from tracer.errors import CannotTraceError
from tracer.ipc.event_header import BPF_DIR, constant
from tracer.linux import bpfsys, capabilities
from tracer.loader import artifact, cache, compiler, kernel_words, process_offsets
from tracer.loader.artifact import Artifact, random_hash_key
from tracer.loader.kernel_words import Words
from tracer.vocabulary.vocabulary import Transport

if TYPE_CHECKING:
    from tracer.loader.packet_filter import PacketFilter

PAGE_SIZE = 4096
WAYS = 8  # entries of a set: table.h
NEAR_INTERFACES = 16384  # slots for interfaces that the programs find without hashing
FAR_INTERFACES = 8192  # more interfaces, whose slots others have

TC_PROGRAMS = ("tc_ingress", "tc_egress", "tc_uncommon", "tc_icmp", "tc_pair", "tc_payload", "sweep")
XDP_PROGRAMS = ("xdp_ingress", "xdp_uncommon", "xdp_icmp", "xdp_pair", "xdp_payload")
MAPS = (
    "config",
    "interfaces_near",
    "interfaces_far",
    "flows",
    "tags",
    "heads",
    "cpus",
    "sweep_states",
    "tc_stages",
    "xdp_stages",
    "events",
    "payloads",
)
STAGES = ("pair", "icmp", "payload", "uncommon")  # programs of a hook that its others call, enum stage in state.h


class _Said(msgspec.Struct, frozen=True):
    """The child's message with the descriptors; without any, its message is the error."""

    words: Words | None
    names_processes: bool


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What is fixed when the programs are compiled. Sizes are in entries and bytes."""

    table_size: int = 65536
    event_ring_bytes: int = 8 << 20
    payload_ring_bytes: int = 4 << 20
    transport: Transport = Transport.RING
    xdp: bool = False
    replay: bool = False
    filter: PacketFilter | None = None
    packets: bool = False  # also send the handshakes' packets, in a ring of their own
    packet_ring_bytes: int = 8 << 20
    kernel_reasons: bool = False  # also hear why the kernel drops segments and sends resets
    drop_ring_bytes: int = 512 << 10
    details: bool = True  # somebody looks at single handshakes, and wants processes and SYN payloads

    @property
    def sets(self) -> int:
        """Sets of the pending table: a power of two that holds at least table_size entries."""
        return 1 << max(0, (self.table_size - 1) // WAYS).bit_length()

    def flags(self, hash_key: int | None = None) -> list[str]:
        """Compiler flags for clang inside bcc; without `hash_key`, those that are the same in every run."""
        flags = [
            "-fno-strict-aliasing",  # like the kernel itself: we read bytes as words of any size
            f"-I{BPF_DIR}",
            f"-DSETS={self.sets}",
            f"-DNEAR_INTERFACES={NEAR_INTERFACES}",
            f"-DFAR_INTERFACES={FAR_INTERFACES}",
            f"-DEVENT_RING_PAGES={self.event_ring_bytes // PAGE_SIZE}",
            f"-DPAYLOAD_RING_PAGES={self.payload_ring_bytes // PAGE_SIZE}",
        ]
        variants = {
            "TRANSPORT_PERF": self.transport is Transport.PERF,
            "WITH_XDP": self.xdp,
            "REPLAY": self.replay,
            "FILTER": self.filter is not None,
            "NO_DETAILS": not self.details,
            "PACKETS": self.packets,
        }
        flags += [f"-D{macro}" for macro, wanted in variants.items() if wanted]
        flags += process_offsets.variant_flags()
        if self.packets:
            flags.append(f"-DPACKET_RING_PAGES={self.packet_ring_bytes // PAGE_SIZE}")
        if hash_key is not None:
            flags.append(f"-DHASH_KEY={hash_key:#x}ULL")
        return flags

    @property
    def hears_reasons(self) -> bool:
        """Are the programs that hear the kernel's reasons loaded? There is no perf buffer for them."""
        return self.kernel_reasons and self.transport is Transport.RING

    @property
    def programs(self) -> tuple[str, ...]:
        """Names of the programs that these options load."""
        return TC_PROGRAMS + (XDP_PROGRAMS if self.xdp else ())

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps that user space uses."""
        of_filter = ("filter_states",) if self.filter is not None else ()
        return MAPS + of_filter + (("packets",) if self.packets else ())


@dataclass(frozen=True, slots=True)
class Loaded:
    """Descriptors of programs and maps by name. The caller owns them.

    With `words` of programs that hear the kernel's reasons, `programs` and `maps` have these programs and their ring.
    """

    programs: dict[str, int]
    maps: dict[str, int]
    options: LoadOptions
    words: Words | None = None  # None: they were not asked for
    names_processes: bool = False

    def close(self) -> None:
        """Close every descriptor; attached links keep their programs."""
        for fd in (*self.programs.values(), *self.maps.values()):
            os.close(fd)


class Loader:
    """The child at work: start it, do something else meanwhile, then call `result()`."""

    def __init__(self, options: LoadOptions, keep: bool = True) -> None:
        """`keep`: keep what had to be compiled for the next start."""
        self.options = options
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log = os.memfd_create("tfotrace-compile-log")
        self.pid = os.fork()
        if self.pid == 0:
            self._socket.close()
            os._exit(_child(theirs, options, self._log, keep))
        theirs.close()

    def fileno(self) -> int:
        """Readable when the child has answered or died."""
        return self._socket.fileno()

    def result(self) -> Loaded:
        """Wait for the child.

        Raises:
            CannotTraceError: bcc is missing, or the kernel refuses the programs.
        """
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, 1 << 18, 64)
        finally:
            _, status = os.waitpid(self.pid, 0)
            self._socket.close()
            words = self._last_words()
            os.close(self._log)
        if not data:
            if os.WIFSIGNALED(status):
                words = f"{signal.Signals(os.WTERMSIG(status)).name}{words and ': '}{words}"
            raise CannotTraceError(f"the process that compiles the kernel programs died ({words})")
        if not fds:
            raise CannotTraceError(data.decode() + (f" ({words})" if words else ""))
        for fd in fds:
            os.set_inheritable(fd, False)
        programs = dict(zip(self.options.programs, fds, strict=False))
        maps = dict(zip(self.options.maps, fds[len(programs) :], strict=False))
        said = msgspec.msgpack.decode(data, type=_Said)
        heard = said.words
        if heard is not None and heard.programs:
            *more, maps[kernel_words.RING] = fds[len(programs) + len(maps) :]
            programs |= zip(heard.programs, more, strict=True)
        return Loaded(programs, maps, self.options, heard, said.names_processes)

    def kill(self) -> None:
        """End the child: nobody wants the result."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._socket.close()
        os.close(self._log)

    def _last_words(self) -> str:
        lines = [line.strip() for line in os.pread(self._log, 1 << 20, 0).decode("utf-8", "replace").splitlines()]
        telling = [line for line in lines if "error" in line.lower() or "invalid" in line.lower()]
        return (telling or [line for line in lines if line] or [""])[-1][:300]


def _child(sock: socket.socket, options: LoadOptions, log_fd: int, keep: bool) -> int:
    """Body of the child. Its standard error becomes the log, since clang and the verifier write there."""
    os.dup2(log_fd, 2)
    # before 5.11, maps count against this limit; without CAP_SYS_RESOURCE, loading will report it
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    why_not = capabilities.why_no_bpf()
    if why_not is not None:
        socket.send_fds(sock, [why_not.encode()], [])
        return 0
    key, hash_key = _cache_key(options), random_hash_key()
    kept, fds = _load_kept(key, options, hash_key)
    if kept is not None:
        _send(sock, options, hash_key, fds, keep=keep, names_processes=kept.names_processes)
        return 0
    made: Artifact | None = None
    names_processes = False
    answer = b""
    try:
        made, fds, names_processes = _compiled(options, hash_key)
    except ImportError:
        answer = b"the bcc Python module is missing: apt-get install python3-bpfcc"
    except CannotTraceError as error:
        answer = str(error).encode("utf-8", "replace")
    except Exception as error:  # bcc raises bare Exception for everything  # noqa: BLE001
        answer = f"the kernel refuses the tracing programs: {error}".encode("utf-8", "replace")
    if fds:
        _send(sock, options, hash_key, fds, keep=keep, names_processes=names_processes)
    else:
        socket.send_fds(sock, [answer], [])
    if keep and made is not None and key is not None:
        with contextlib.suppress(Exception):
            if _cache_key(options) == key:  # nobody changed the sources meanwhile
                cache.store(key, made, cache.DIRECTORY)
    return 0


def _send(
    sock: socket.socket, options: LoadOptions, hash_key: int, fds: list[int], *, keep: bool, names_processes: bool
) -> None:
    """Send what was loaded, and beside it the programs that hear the kernel's reasons, where there are any."""
    words: Words | None = None
    more: list[int] = []
    if options.hears_reasons:
        maps = dict(zip(options.maps, fds[len(options.programs) :], strict=True))
        words, more = kernel_words.load(options.flags(), options.drop_ring_bytes, hash_key, maps, keep=keep)
    socket.send_fds(sock, [msgspec.msgpack.encode(_Said(words, names_processes))], [*fds, *more])


def _fill_stages(options: LoadOptions, programs: Mapping[str, int], maps: Mapping[str, int]) -> None:
    for hook in ("tc", "xdp") if options.xdp else ("tc",):
        for stage in STAGES:
            slot, fd = constant(f"STAGE_{stage.upper()}"), programs[f"{hook}_{stage}"]
            bpfsys.map_update_elem(maps[f"{hook}_stages"], struct.pack("=I", slot), struct.pack("=I", fd))
        if options.filter is not None:
            _fill_filter(options.filter, hook, options.replay, maps)


def _fill_filter(wanted: PacketFilter, hook: str, replay: bool, maps: Mapping[str, int]) -> None:
    """Made from the expression each time and never kept, since that needs no compiler."""
    from tracer.loader import filter_program  # 1 MB that few runs need

    for slot, fd in filter_program.load(wanted, hook, replay=replay, maps=maps).items():
        bpfsys.map_update_elem(maps[f"{hook}_stages"], struct.pack("=I", slot), struct.pack("=I", fd))
        os.close(fd)  # the stage map keeps it


# --- compiled ---


def _compiled(options: LoadOptions, hash_key: int) -> tuple[Artifact | None, list[int], bool]:
    """Compile and load; the last value: the programs name processes.

    Returns no artifact if the kernel does not allow to take one.

    Raises:
        ImportError: bcc is missing.
        Exception: the compiler or the kernel refuses.
    """
    offsets = process_offsets.offset_flags() if options.details else []
    if offsets:
        # a locked-down kernel may refuse to let programs read its memory
        with contextlib.suppress(Exception):
            return *_compiled_with(options, hash_key, offsets), True
    return *_compiled_with(options, hash_key, []), False


def _compiled_with(options: LoadOptions, hash_key: int, more_flags: list[str]) -> tuple[Artifact | None, list[int]]:
    made: Artifact | None = None
    if bpfsys.may_read_btf():
        made = _compile(options, more_flags)
        with contextlib.suppress(OSError):
            return made, _filled(options, *artifact.load(made, hash_key))
    # bcc loads one by one, without an artifact, and prints the verifier's reason
    flags = options.flags(hash_key) + more_flags
    return made, _filled(options, *compiler.load_by_bcc(flags, options.programs, options.maps))


def _compile(options: LoadOptions, more_flags: list[str]) -> Artifact:
    hash_key = random_hash_key()  # a blank, not the key of the run
    made = compiler.make(options.flags(hash_key) + more_flags, options.programs, hash_key)
    return msgspec.structs.replace(made, names_processes=bool(more_flags))


def _filled(options: LoadOptions, programs: Mapping[str, int], maps: Mapping[str, int]) -> list[int]:
    """Fill the stage maps; returns every descriptor in the order of the options."""
    _fill_stages(options, programs, maps)
    return [programs[name] for name in options.programs] + [maps[name] for name in options.maps]


# --- kept: if anything goes wrong here, the programs are compiled ---


def _cache_key(options: LoadOptions) -> str | None:
    with contextlib.suppress(Exception):
        return cache.key(BPF_DIR, options.flags(), (*options.programs, *options.maps))
    return None


def _load_kept(key: str | None, options: LoadOptions, hash_key: int) -> tuple[Artifact | None, list[int]]:
    with contextlib.suppress(Exception):
        kept = cache.fetch(key, cache.DIRECTORY) if key is not None else None
        if kept is not None:
            return kept, _filled(options, *artifact.load(kept, hash_key))
    return None, []


RING_BUFFER_SINCE = (5, 8)


def kernel_version(release: str) -> tuple[int, int]:
    """(6, 18) for "6.18.44-something"; (0, 0) if it does not start like that."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def default_transport(release: str | None = None) -> Transport:
    """The ring buffer if the kernel has it (5.8)."""
    version = kernel_version(os.uname().release if release is None else release)
    return Transport.PERF if (0, 0) < version < RING_BUFFER_SINCE else Transport.RING
