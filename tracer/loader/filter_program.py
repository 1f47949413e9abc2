"""Translates libpcap's classic BPF to the programs that decide whether a first SYN is wanted (bpf/filter.h).

The classic machine has an accumulator A, an index X and 16 words of memory. Its rules are those of libpcap's
bpf_filter.c: a load beyond the packet or a division by zero rejects the packet. Instructions are struct bpf_insn
(include/uapi/linux/bpf.h). The verdict goes into struct filter_state, then the second stage takes over.

At tc, a VLAN tag may be in the skb instead of the packet. Expressions see packets as on the wire, so the program copies
the first 20 bytes with the tag in its place, and reads what follows four bytes earlier.

For the verifier, a number from memory can have any value. Offsets go through memory, so that it follows each
instruction once and not once for each value that it could prove.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from tracer.errors import CannotTraceError
from tracer.ipc.event_header import constant
from tracer.ipc.event_header import struct as struct_of
from tracer.linux import bpfsys
from tracer.loader.packet_filter import Code, Instruction, PacketFilter

# the verdict, a word to pass offsets through, the head of the packet
STATE_UNWANTED, STATE_OFFSET, STATE_HEAD = (
    struct_of("filter_state").field(name).offset for name in ("unwanted", "offset", "head")
)
HEAD = 20  # bytes: Ethernet header, tag, and what a load at the tag's last byte reaches
_TAG_AT = 12
_IN_HEAD = 16  # loads from below this offset use the head

SCHED_CLS, XDP = 3, 6
TC_GO_ON, XDP_GO_ON = -1, 2  # maps.bpf.c
STAGE_PAIR, STAGE_FILTER, STAGE_FILTER_NO_LINK = map(constant, ("STAGE_PAIR", "STAGE_FILTER", "STAGE_FILTER_NO_LINK"))

# struct __sk_buff and struct xdp_md
_SKB_LEN, _SKB_VLAN_PRESENT, _SKB_VLAN_TCI, _SKB_VLAN_PROTO, _SKB_WIRE_LEN = 0, 20, 24, 28, 160
_XDP_DATA, _XDP_END = 0, 4

_LOOKUP, _TAIL_CALL, _SKB_LOAD_BYTES = 1, 12, 26
_R0, _R1, _R2, _R3, _R4, _CTX, _A, _X, _TAG, _FP = 0, 1, 2, 3, 4, 6, 7, 8, 9, 10
_KEY_AT, _STATE_AT, _LOADED_AT, _MEMORY_AT = -4, -16, -24, -96
_WORD, _HALF, _BYTE = 0x61, 0x69, 0x71  # loads
_LOADS = {1: _BYTE, 2: _HALF, 4: _WORD}
_MOV64, _MOV64_IMM, _MOV32, _MOV32_IMM = 0xBF, 0xB7, 0xBC, 0xB4
_ADD64, _ADD64_IMM, _SUB64, _AND32_IMM = 0x0F, 0x07, 0x1F, 0x54
_STORE, _STORE_HALF, _STORE_IMM, _STORE64 = 0x63, 0x6B, 0x62, 0x7B
_JA, _JEQ_IMM, _JNE_IMM, _JGT_IMM, _JGT = 0x05, 0x15, 0x55, 0x25, 0x2D
_JMP32, _JEQ32_IMM, _JGE32_IMM = 0x06, 0x16, 0x36
_TO_BE = 0xDC
_MEMORY_WORDS = 16
_XDP_MAX, _TC_MAX = 0x7FF0, 0xFFF0  # largest offsets

# classic BPF: pcap/bpf.h
_C_CLASS, _C_OP, _C_SOURCE_X, _C_MODE, _C_SIZE = 0x07, 0xF0, 0x08, 0xE0, 0x18
_C_LD, _C_LDX, _C_ST, _C_STX, _C_ALU, _C_JMP, _C_RET, _C_MISC = range(8)
_C_IMM, _C_ABS, _C_IND, _C_MEM, _C_LEN, _C_MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
_C_SIZES = {0x00: 4, 0x08: 2, 0x10: 1}
_C_DIV, _C_LSH, _C_RSH, _C_NEG, _C_MOD = 0x30, 0x60, 0x70, 0x80, 0x90
_C_JA, _C_JSET = 0x00, 0x40
_INVERTED = {0x10: 0x50, 0x20: 0xB0, 0x30: 0xA0}  # == > >= to != <= <
_C_RET_A = 0x10
_C_TXA = 0x80

_WANTED, _REJECT, _OUT = "wanted", "reject", "out"  # labels beside the numbers of classic instructions
_Label = str | int


class UntranslatableError(Exception):
    """libpcap makes no such code."""


class _Assembler:
    """Collects instructions; jumps go to labels."""

    def __init__(self) -> None:
        self.code: list[list[int]] = []
        self._places: dict[_Label, int] = {}
        self._jumps: list[tuple[int, _Label]] = []

    def put(self, code: int, to: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> None:
        self.code.append([code, source << 4 | to, offset, immediate])

    def jump(self, code: int, target: _Label, to: int = 0, source: int = 0, immediate: int = 0) -> None:
        self._jumps.append((len(self.code), target))
        self.put(code, to, source, 0, immediate)

    def map(self, to: int, fd: int) -> None:
        self.put(0x18, to, 1, 0, fd)
        self.put(0)

    def call(self, helper: int) -> None:
        self.put(0x85, immediate=helper)

    def label(self, name: _Label) -> None:
        self._places[name] = len(self.code)

    def is_target(self, name: _Label) -> bool:
        return any(target == name for _, target in self._jumps)

    def bytes(self) -> bytes:
        for at, target in self._jumps:
            if target not in self._places:
                raise UntranslatableError("a jump to nowhere")
            distance = self._places[target] - at - 1
            if not 0 <= distance < 1 << 15:
                raise UntranslatableError(f"a jump over {distance} instructions")
            self.code[at][2] = distance
        return b"".join(
            struct.pack("=BBhI", code, registers, offset, immediate & 0xFFFFFFFF)
            for code, registers, offset, immediate in self.code
        )


class _Translation:
    """One program for one hook and link type."""

    def __init__(self, code: Code, *, xdp: bool, head: bool, replay: bool, state_fd: int, stages_fd: int) -> None:
        self._code = code
        self._xdp = xdp
        self._head = head  # the tag may not be in the packet
        self._replay = replay
        self._state_fd = state_fd
        self._stages_fd = stages_fd
        self._asm = _Assembler()
        self._labels = 0

    def bytes(self) -> bytes:
        self._begin()
        reached = {0}
        for number, one in enumerate(self._code):
            if number not in reached:
                continue  # the verifier refuses unreachable code
            self._asm.label(number)
            reached.update(self._instruction(number, one))
        self._end()
        return self._asm.bytes()

    def _new_label(self) -> str:
        self._labels += 1
        return f"label {self._labels}"

    # --- around ---

    def _begin(self) -> None:
        asm = self._asm
        asm.put(_MOV64, _CTX, _R1)
        asm.put(_STORE_IMM, _FP, offset=_KEY_AT)
        asm.put(_MOV64, _R2, _FP)
        asm.put(_ADD64_IMM, _R2, immediate=_KEY_AT)
        asm.map(_R1, self._state_fd)
        asm.call(_LOOKUP)
        asm.jump(_JEQ_IMM, _OUT, _R0)
        asm.put(_STORE64, _FP, _R0, _STATE_AT)
        asm.put(_MOV32_IMM, _A)
        asm.put(_MOV32_IMM, _X)
        for word in sorted({one.k for one in self._code if self._uses_memory(one)}):
            if word >= _MEMORY_WORDS:
                raise UntranslatableError(f"memory word {word}")
            asm.put(_STORE_IMM, _FP, offset=_MEMORY_AT + 4 * word)
        if self._head:
            self._copy_head()

    @staticmethod
    def _uses_memory(one: Instruction) -> bool:
        kind = one.code & _C_CLASS
        return kind in (_C_ST, _C_STX) or (kind in (_C_LD, _C_LDX) and one.code & _C_MODE == _C_MEM)

    def _copy_head(self) -> None:
        asm, plain, done = self._asm, self._new_label(), self._new_label()
        asm.put(_WORD, _TAG, _CTX, _SKB_VLAN_PRESENT)
        asm.jump(_JEQ_IMM, plain, _TAG)
        asm.put(_MOV64_IMM, _TAG, immediate=4)
        self._copy(0, STATE_HEAD, _TAG_AT)
        self._copy(_TAG_AT, STATE_HEAD + _IN_HEAD, HEAD - _IN_HEAD)
        asm.put(0x79, _R3, _FP, _STATE_AT)
        asm.put(_WORD, _R1, _CTX, _SKB_VLAN_PROTO)  # in network order
        asm.put(_STORE_HALF, _R3, _R1, STATE_HEAD + _TAG_AT)
        asm.put(_WORD, _R1, _CTX, _SKB_VLAN_TCI)
        asm.put(_TO_BE, _R1, immediate=16)
        asm.put(_STORE_HALF, _R3, _R1, STATE_HEAD + _TAG_AT + 2)
        asm.jump(_JA, done)
        asm.label(plain)
        self._copy(0, STATE_HEAD, HEAD)
        asm.label(done)

    def _copy(self, offset: int, to: int, size: int) -> None:
        asm = self._asm
        asm.put(_MOV64, _R1, _CTX)
        asm.put(_MOV64_IMM, _R2, immediate=offset)
        asm.put(0x79, _R3, _FP, _STATE_AT)
        asm.put(_ADD64_IMM, _R3, immediate=to)
        asm.put(_MOV64_IMM, _R4, immediate=size)
        asm.call(_SKB_LOAD_BYTES)
        asm.jump(_JNE_IMM, _REJECT, _R0)

    def _end(self) -> None:
        asm, go_on = self._asm, self._new_label()
        for verdict, unwanted in ((_WANTED, 0), (_REJECT, 1)):
            if asm.is_target(verdict):
                asm.label(verdict)
                asm.put(0x79, _R1, _FP, _STATE_AT)
                asm.put(_STORE_IMM, _R1, offset=STATE_UNWANTED, immediate=unwanted)
                asm.jump(_JA, go_on)
        asm.label(go_on)
        asm.put(_MOV64, _R1, _CTX)
        asm.map(_R2, self._stages_fd)
        asm.put(_MOV64_IMM, _R3, immediate=STAGE_PAIR)
        asm.call(_TAIL_CALL)
        asm.label(_OUT)
        asm.put(_MOV64_IMM, _R0, immediate=XDP_GO_ON if self._xdp else TC_GO_ON)
        asm.put(0x95)

    # --- one instruction; returns the numbers of its possible successors ---

    def _instruction(self, number: int, one: Instruction) -> Sequence[int]:
        kind = one.code & _C_CLASS
        if kind == _C_RET:
            self._return(one)
            return ()
        if kind == _C_JMP:
            return self._jump(number, one)
        if kind == _C_LD:
            self._load(one, _A)
        elif kind == _C_LDX:
            self._load(one, _X)
        elif kind == _C_ALU:
            self._compute(one)
        elif kind == _C_MISC:
            to, source = (_A, _X) if one.code & 0xF8 == _C_TXA else (_X, _A)
            self._asm.put(_MOV32, to, source)
        else:
            self._asm.put(_STORE, _FP, _A if kind == _C_ST else _X, _MEMORY_AT + 4 * one.k)
        if number + 1 >= len(self._code):
            raise UntranslatableError("no end")
        return (number + 1,)

    def _return(self, one: Instruction) -> None:
        if one.code & 0x18 == _C_RET_A:
            self._asm.jump(_JNE_IMM, _WANTED, _A)
            self._asm.jump(_JA, _REJECT)
        else:
            self._asm.jump(_JA, _WANTED if one.k else _REJECT)

    def _jump(self, number: int, one: Instruction) -> Sequence[int]:
        operation = one.code & _C_OP
        if operation == _C_JA:
            target = number + 1 + one.k
            self._asm.jump(_JA, target)
            return (target,)
        yes, no = number + 1 + one.jt, number + 1 + one.jf
        source = _X if one.code & _C_SOURCE_X else 0
        code = _JMP32 | (one.code & _C_SOURCE_X)
        immediate = 0 if source else one.k
        if yes == no:
            self._asm.jump(_JA, yes)
        elif one.jt == 0 and operation in _INVERTED:
            self._asm.jump(code | _INVERTED[operation], no, _A, source, immediate)
        else:
            self._asm.jump(code | operation, yes, _A, source, immediate)
            if one.jf:
                self._asm.jump(_JA, no)
        return (yes, no)

    def _compute(self, one: Instruction) -> None:
        operation = one.code & _C_OP
        asm = self._asm
        if operation == _C_NEG:
            asm.put(_C_ALU | _C_NEG, _A)
            return
        if not one.code & _C_SOURCE_X:
            if operation in (_C_DIV, _C_MOD) and not one.k:
                asm.jump(_JA, _REJECT)
            elif operation in (_C_LSH, _C_RSH) and one.k > 31:
                asm.put(_MOV32_IMM, _A)
            else:
                asm.put(_C_ALU | operation, _A, immediate=one.k)
            return
        done = self._new_label()
        if operation in (_C_DIV, _C_MOD):
            asm.jump(_JEQ32_IMM, _REJECT, _X)
        elif operation in (_C_LSH, _C_RSH):
            near = self._new_label()
            asm.jump(_JMP32 | 0xA0, near, _X, immediate=32)
            asm.put(_MOV32_IMM, _A)
            asm.jump(_JA, done)
            asm.label(near)
        asm.put(_C_ALU | operation | _C_SOURCE_X, _A, _X)
        asm.label(done)

    # --- loads ---

    def _load(self, one: Instruction, to: int) -> None:
        asm, mode = self._asm, one.code & _C_MODE
        size = _C_SIZES.get(one.code & _C_SIZE, 0)
        if mode == _C_IMM:
            asm.put(_MOV32_IMM, to, immediate=one.k)
        elif mode == _C_MEM:
            asm.put(_WORD, to, _FP, _MEMORY_AT + 4 * one.k)
        elif mode == _C_LEN:
            self._length(to)
        elif mode == _C_MSH and to == _X:
            self._at(one.k, 1, _X)
            asm.put(_AND32_IMM, _X, immediate=0xF)
            asm.put(_C_ALU | _C_LSH, _X, immediate=2)
        elif mode == _C_ABS and size:
            self._at(one.k, size, to)
        elif mode == _C_IND and size:
            self._behind_x(one.k, size, to)
        else:
            raise UntranslatableError(f"instruction {one.code:#x}")

    def _length(self, to: int) -> None:
        asm = self._asm
        if self._xdp:
            asm.put(_WORD, to, _CTX, _XDP_END)
            asm.put(_WORD, _R1, _CTX, _XDP_DATA)
            asm.put(_SUB64, to, _R1)
            asm.put(_MOV32, to, to)
            return
        if self._replay:  # a capture may not have the whole packet
            done = self._new_label()
            asm.put(_WORD, to, _CTX, _SKB_WIRE_LEN)
            asm.jump(_JNE_IMM, done, to)
            asm.put(_WORD, to, _CTX, _SKB_LEN)
            asm.label(done)
        else:
            asm.put(_WORD, to, _CTX, _SKB_LEN)
        if self._head:
            asm.put(_ADD64, to, _TAG)

    def _host_order(self, to: int, size: int) -> None:
        if size > 1:
            self._asm.put(_TO_BE, to, immediate=8 * size)

    def _at(self, offset: int, size: int, to: int) -> None:
        """Load from a fixed place."""
        asm = self._asm
        if offset > (_XDP_MAX if self._xdp else _TC_MAX):
            # still load something, for the code that follows
            asm.put(_MOV32_IMM, to)
            asm.jump(_JEQ_IMM, _REJECT, to)
            return
        if self._xdp:
            asm.put(_WORD, _R1, _CTX, _XDP_DATA)
            asm.put(_WORD, _R2, _CTX, _XDP_END)
            asm.put(_MOV64, _R3, _R1)
            asm.put(_ADD64_IMM, _R3, immediate=offset + size)
            asm.jump(_JGT, _REJECT, _R3, _R2)
            asm.put(_LOADS[size], to, _R1, offset)
        elif self._head and offset < _IN_HEAD:
            asm.put(0x79, _R1, _FP, _STATE_AT)
            asm.put(_LOADS[size], to, _R1, STATE_HEAD + offset)
        else:
            asm.put(_MOV64_IMM, _R2, immediate=offset)
            self._load_bytes(size, to)
        self._host_order(to, size)

    def _load_bytes(self, size: int, to: int) -> None:
        """Load from offset r2 of the packet as on the wire."""
        asm = self._asm
        if self._head:
            asm.put(_SUB64, _R2, _TAG)
        asm.put(_MOV64, _R1, _CTX)
        asm.put(_MOV64, _R3, _FP)
        asm.put(_ADD64_IMM, _R3, immediate=_LOADED_AT)
        asm.put(_MOV64_IMM, _R4, immediate=size)
        asm.call(_SKB_LOAD_BYTES)
        asm.jump(_JNE_IMM, _REJECT, _R0)
        asm.put(_LOADS[size], to, _FP, _LOADED_AT)

    def _through_memory(self, register: int, mask: int) -> None:
        """Make the verifier forget what it knows of a register. Changes r1."""
        asm = self._asm
        asm.put(0x79, _R1, _FP, _STATE_AT)
        asm.put(_STORE, _R1, register, STATE_OFFSET)
        asm.put(_WORD, register, _R1, STATE_OFFSET)
        asm.put(_AND32_IMM, register, immediate=mask)

    def _behind_x(self, offset: int, size: int, to: int) -> None:
        """Load from X + a fixed number; the sum does not wrap."""
        asm = self._asm
        if offset > (_XDP_MAX if self._xdp else _TC_MAX):
            asm.put(_MOV32_IMM, to)
            asm.jump(_JEQ_IMM, _REJECT, to)
            return
        place = _R3 if self._xdp else _R2
        asm.put(_MOV64, place, _X)
        asm.put(_ADD64_IMM, place, immediate=offset)
        asm.jump(_JGT_IMM, _REJECT, place, immediate=_XDP_MAX if self._xdp else _TC_MAX)
        if self._xdp:
            self._through_memory(_R3, 0x7FFF)
            asm.put(_WORD, _R1, _CTX, _XDP_DATA)
            asm.put(_WORD, _R2, _CTX, _XDP_END)
            asm.put(_ADD64, _R1, _R3)
            asm.put(_MOV64, _R4, _R1)
            asm.put(_ADD64_IMM, _R4, immediate=size)
            asm.jump(_JGT, _REJECT, _R4, _R2)
            asm.put(_LOADS[size], to, _R1)
        elif self._head and offset < _IN_HEAD:
            beyond, done = self._new_label(), self._new_label()
            asm.jump(_JGT_IMM, beyond, _R2, immediate=_IN_HEAD - 1)
            self._through_memory(_R2, _IN_HEAD - 1)
            asm.put(_ADD64, _R1, _R2)
            asm.put(_LOADS[size], to, _R1, STATE_HEAD)
            asm.jump(_JA, done)
            asm.label(beyond)
            self._load_bytes(size, to)
            asm.label(done)
        else:
            self._load_bytes(size, to)
        self._host_order(to, size)


def translate(code: Code, *, xdp: bool, ethernet: bool, replay: bool, state_fd: int, stages_fd: int) -> bytes:
    """The bytecode of one filter program. The descriptors are those of the maps filter_states and {tc,xdp}_stages.

    Raises:
        UntranslatableError: libpcap makes no such code.
    """
    head = ethernet and not xdp
    return _Translation(code, xdp=xdp, head=head, replay=replay, state_fd=state_fd, stages_fd=stages_fd).bytes()


def load(wanted: PacketFilter, hook: str, *, replay: bool, maps: Mapping[str, int]) -> dict[int, int]:
    """Load the programs of a hook (`tc` or `xdp`); returns descriptors by slot of the stage map.

    Raises:
        CannotTraceError: the kernel refuses them.
    """
    loaded: dict[int, int] = {}
    for slot, code in ((STAGE_FILTER, wanted.ethernet), (STAGE_FILTER_NO_LINK, wanted.without_link)):
        if code is None:
            continue
        try:
            program = translate(
                code, xdp=hook == "xdp", ethernet=slot == STAGE_FILTER, replay=replay,
                state_fd=maps["filter_states"], stages_fd=maps[f"{hook}_stages"],
            )  # fmt: skip
            loaded[slot] = bpfsys.prog_load(XDP if hook == "xdp" else SCHED_CLS, f"{hook}_filter", program)
        except (OSError, UntranslatableError) as error:
            raise CannotTraceError(
                f"--filter: the kernel refuses this expression ({error}, {len(code)} instructions): shorten it"
            ) from None
    return loaded
