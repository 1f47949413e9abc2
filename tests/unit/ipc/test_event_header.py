"""C headers as tracer reads them: structs by the rules of C, numbers, enums, what #ifdef lets through."""

from __future__ import annotations

import pytest

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
    assert found.structs.keys() == {"a", "b"}  # the others hold what is not ours


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
