"""`tfotrace extcap` under a real Wireshark, as tshark: it lists interfaces and shows handshakes with verdicts."""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.netbox import NetBox
from tests.support.patience import PATIENCE_S
from tests.support.tracing import CHECKOUT, run

pytestmark = pytest.mark.root


def _folder() -> Path:
    """Where tshark looks for such programs."""
    tshark = shutil.which("tshark")
    assert tshark is not None
    said = subprocess.run([tshark, "-G", "folders"], capture_output=True, text=True, check=True).stdout
    names = ("Extcap path:", "Global Extcap path:")  # since Wireshark 4.4 there is a personal one beside it
    (found,) = (line.split(":", 1)[1].strip() for line in said.splitlines() if line.startswith(names))
    return Path(found.split(":")[0])


@pytest.fixture(scope="module")
def box() -> Iterator[NetBox]:
    made = NetBox()
    made.run("ip", "link", "set", "lo", "up")
    yield made
    made.close()


def wireshark(box: NetBox, folder: Path, *words: str) -> list[str]:
    """tshark in the namespace, with no program of extcap but this checkout's."""
    script = folder / "tfotrace"
    command = shlex.join([sys.executable, "-m", "tracer", "extcap"])
    script.write_text(f'#!/bin/sh\ncd {shlex.quote(str(CHECKOUT))} && exec {command} "$@"\n')
    script.chmod(0o755)
    inside = 'mount --bind "$0" "$1" && shift && exec tshark "$@"'
    return box.command("unshare", "--mount", "sh", "-c", inside, str(folder), str(_folder()), *words)


def test_it_lists_interfaces(box: NetBox, tmp_path: Path) -> None:
    done = subprocess.run(wireshark(box, tmp_path, "-D"), capture_output=True, text=True, check=True)
    assert "tfotrace-lo (TCP handshakes of lo, with verdicts)" in done.stdout
    assert "tfotrace-any (TCP handshakes of all interfaces, with verdicts)" in done.stdout


def test_it_shows_verdicts(box: NetBox, tmp_path: Path) -> None:
    words = ("-i", "tfotrace-lo", "-c", "2", "-T", "fields", "-e", "tcp.flags.syn", "-e", "frame.comment")
    over = threading.Event()

    def knock() -> None:
        with box.inside():
            while not over.wait(0.1):
                with socket.socket() as client, suppress(OSError):
                    client.connect(("127.0.0.1", 9))

    knocking = threading.Thread(target=knock)
    knocking.start()
    try:
        done = subprocess.run(
            wireshark(box, tmp_path, *words), capture_output=True, text=True, check=True, timeout=4 * PATIENCE_S
        )
    finally:
        over.set()
        knocking.join()
    first = done.stdout.splitlines()[0]
    # since Wireshark 4.4 a flag is True
    assert first.partition("\t")[0] in ("1", "True")
    assert first.partition("\t")[2].startswith("tfotrace: rejected, cause no listener (certain)")
    assert "Error by extcap" not in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "extcap is for Wireshark: it is called with --extcap-interfaces, or with --extcap-interface"),
        (
            ("--extcap-interface", "tfotrace-lo"),
            "extcap is for Wireshark: say --capture, --extcap-dlts or --extcap-config",
        ),
        (
            ("--extcap-interface", "tfotrace-lo", "--capture"),
            "extcap --capture needs --fifo PATH, the pipe that Wireshark reads",
        ),
    ],
    ids=["nothing", "no_act", "no_pipe"],
)
def test_called_by_hand(words: tuple[str, ...], says: str) -> None:
    done = run("extcap", *words)
    assert (done.code, done.said) == (2, [f"tfotrace: {says}"])


def test_what_the_dialog_offers() -> None:
    done = run("extcap", "--extcap-interface", "tfotrace-lo", "--extcap-config")
    assert done.out.startswith(b"arg {number=0}{call=--filter-record}")
    done = run("extcap", "--extcap-interface", "tfotrace-lo", "--extcap-dlts")
    assert done.out == b"dlt {number=1}{name=EN10MB}{display=Ethernet}\n"
