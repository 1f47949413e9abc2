"""C headers as tracer reads them: structs by the rules of C, numbers, enums, what #ifdef lets through."""

from __future__ import annotations

import pytest

from tracer.ipc import event_header
from tracer.ipc.event_header import Header, constant, header, struct

TEXT = """
#ifndef GUARD
#define N 3
#define M 0xff
enum colour {
	RED, /* one, two */
	GREEN = 4,
	BLUE,
};
struct a {
	__u8 x; /* ; */
	__u32 y;
	__u8 z[N];
};
struct foreign {
	char *x;
};
struct b {
	struct a one[2];
	__u64 w;
#ifdef MORE
	__u16 more;
#else
	__u16 less;
#endif
};
struct c {
	struct foreign one;
};
#endif
"""


def test_structs_by_the_rules_of_c() -> None:
    found = Header()
    found.read(TEXT)
    a, b = found.structs["a"], found.structs["b"]
    assert [(one.name, one.offset, one.count) for one in a.fields] == [("x", 0, 1), ("y", 4, 1), ("z", 8, 3)]
    assert (a.size, b.size, b.field("w").offset) == (12, 40, 24)
    assert found.structs.keys() == {"a", "b"}
    assert found.left_out == {"foreign": "char *x", "c": "struct foreign one"}


@pytest.mark.parametrize(
    "member", ["__s32 x", "__u32 x : 3", "__u32 x, y", "__u8 x[4 + 4]", "__u8 x[4][4]", "union u x", "__u32 *x"]
)
def test_a_member_that_is_not_understood_is_named(member: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Header()
    found.read(f"struct a {{\n\t__u8 z;\n\t{member};\n}};\n")
    assert found.left_out == {"a": member}
    monkeypatch.setattr(event_header, "header", lambda **_: found)
    with pytest.raises(KeyError, match="cannot read the member"):
        struct("a")


def test_what_could_be_read_wrongly_is_not_read() -> None:
    found = Header()
    found.read("struct a {\n\t__u8 x;\n\t__u32 y;\n} __attribute__((packed));\nstruct b {\n\t__u8 x;\n};\n")
    assert found.structs.keys() == {"b"}
    for condition in ("#if 0", "#ifdef X\n#elif defined(Y)"):
        with pytest.raises(ValueError, match="cannot decide"):
            found.read(f"{condition}\n#endif\n")


def test_names_that_are_defined_choose_lines() -> None:
    for defined, name in ((frozenset({"MORE"}), "more"), (frozenset(), "less")):
        found = Header()
        found.read(TEXT, defined)
        assert found.structs["b"].fields[-1].name == name


def test_numbers_and_enums() -> None:
    found = Header()
    found.read(TEXT)
    assert found.constants == {"N": 3, "M": 255, "RED": 0, "GREEN": 4, "BLUE": 5}


def test_what_the_programs_have() -> None:
    assert constant("STAGE_PAIR") == 0
    assert constant("NO_OFFSET") == 255
    assert struct("segment_facts").field("options").count == constant("TCP_OPTIONS_MAX") == 40
    with pytest.raises(KeyError):
        struct("nobody")
    # only where they are compiled in
    assert "packet_event" not in header().structs
    assert struct("counters", packets=True).size == struct("counters").size + 16
