"""Listeners as /proc/net/tcp has them."""

from __future__ import annotations

import struct
from pathlib import Path

from tracer.linux.listening import Listening, listening


def word(address: bytes) -> str:
    return "".join(f"{number:08X}" for number in struct.unpack(f"={len(address) // 4}I", address))


def test_listening_sockets_are_read_and_no_others(tmp_path: Path) -> None:
    title = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    row = "{}: {}:01BB 00000000:0000 {} 00000000:00000000 00:00000000 00000000 33 0 {} 1 0 100 0 0 10 0\n"
    four, six = word(bytes((192, 0, 2, 1))), word(bytes.fromhex("20010db8000000000000000000000001"))
    (tmp_path / "tcp").write_text(title + row.format(0, four, "0A", 77) + row.format(1, four, "01", 78))
    (tmp_path / "tcp6").write_text(title + row.format(0, six, "0A", 79))
    both = [Listening("192.0.2.1", 443, 33, 77), Listening("2001:db8::1", 443, 33, 79)]
    assert listening(str(tmp_path)) == both
    assert listening(str(tmp_path), 443) == both
    assert listening(str(tmp_path), 80) == []
    (tmp_path / "tcp6").unlink()
    assert len(listening(str(tmp_path))) == 1
