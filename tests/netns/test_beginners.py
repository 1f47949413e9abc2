"""Mistakes that beginners make: each gets one sentence that says what is wrong and what to do."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.netbox import NetBox
from tests.support.tracing import one_sentence, run

pytestmark = pytest.mark.root

AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+dac_read_search",
             "--ambient-caps=+dac_read_search"]  # fmt: skip


@pytest.fixture(scope="module")
def box() -> Iterator[NetBox]:
    """A host with the interfaces eth0 and eth9, which are up, and eth1 and eth8, which are not."""
    box = NetBox()
    try:
        box.make_pair("eth0", "eth9")
        box.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth8")
        yield box
    finally:
        box.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what people have: a capture, an empty file, a log, a folder."""
    folder = tmp_path_factory.mktemp("files")
    folder.chmod(0o755)
    (folder / "trace.pcap").write_bytes(bytes.fromhex("d4c3b2a1 02000400 0000000000000000 ffff0000 01000000"))
    (folder / "empty.jsonl").touch()
    (folder / "access.log.gz").write_bytes(gzip.compress(b"192.0.2.1 - GET / 200\n" * 9))
    (folder / "out").mkdir()
    return folder


# what somebody typed, the status, and what the sentence has to say: what is wrong, and what to do
MISTAKES: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    "no interface": ((), 2, ("give an interface", "such as eth", "demo", "--help")),
    "upper case": (("ETH0",), 2, ('"ETH0"', "did you mean eth0?")),
    "unknown interface": (("eht0",), 2, ('"eht0"', "did you mean eth0?")),
    "unlike any": (("wlp3s0",), 2, ('"wlp3s0"', "there are: lo, eth", "eth0")),
    "typo in a command": (("replya", "{}/trace.pcap"), 2, ('"replya"', "did you mean", "replay`?")),
    "typo in an option": (("eth0", "--dration", "5"), 2, ("--dration", "did you mean --duration?")),
    "one dash": (("-json", "eth0"), 2, ("-json", "did you mean --json?")),
    "capture as interface": (("{}/trace.pcap",), 2, ("is a file", "replay {}/trace.pcap`")),
    "filter without its option": (("eth0", "port", "443"), 2, ('"port" is no interface', '--filter "port 443"')),
    "filter with a typo": (("eth0", "--filter", "prot 443"), 2, ("--filter: syntax error", "'dst port 443'")),
    "help with a typo": (("help", "replya"), 2, ('"replya"', "did you mean replay?")),
    "missing file": (("replay", "{}/trace.pcapng"), 2, ("No such file", "did you mean trace.pcap?")),
    "no file": (("replay",), 2, ("needs FILE", "replay FILE")),
    "empty file": (("replay", "{}/empty.jsonl"), 2, ("is empty",)),
    "another's file": (("replay", "{}/access.log.gz"), 2, ("holds no record", "-w or --json, or a capture")),
    "folder as output": (("eth0", "-w", "{}/out"), 2, ("is a folder", "such as {}/out/events.jsonl")),
    "words in a duration": (("eth0", "--duration", "5 minutes"), 2, ('"5 minutes" is not a duration', "5m")),
    "option without value": (("eth0", "--duration"), 2, ("--duration TIME",)),
    "two forms at once": (("eth0", "--json", "--text"), 2, ("--json and --text exclude each other", "one of them")),
    "interface that is down": (("eth1",), 2, ("ip link set eth1 up",)),
    "a word too many": (("demo", "eth0"), 2, ('"eth0" is a word too many for tfotrace demo', "--help")),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence(mistake: str, box: NetBox, files: Path) -> None:
    typed, code, says = MISTAKES[mistake]
    done = run(*(word.replace("{}", str(files)) for word in typed), prefix=box.command())
    one_sentence(done, code, *(word.replace("{}", str(files)) for word in says))


def test_who_forgets_sudo_is_told_so(box: NetBox) -> None:
    one_sentence(run("eth0", prefix=[*box.command(), *AS_NOBODY]), 3, "root", "sudo")


def test_who_forgets_sudo_hears_of_a_wrong_name_first(box: NetBox) -> None:
    one_sentence(run("eht0", prefix=[*box.command(), *AS_NOBODY]), 2, "did you mean eth0?")


def test_an_interface_without_traffic_is_no_mistake(box: NetBox) -> None:
    done = run("eth0", "--text", "--duration", "200ms", prefix=box.command())
    assert (done.code, done.out) == (0, b""), done
    assert "tfotrace: no handshakes" in done.err or "0 handshakes" in done.err


def test_interfaces_may_follow_options(box: NetBox) -> None:
    one_sentence(run("eth0", "--json", "eth7", prefix=box.command()), 2, '"eth7"', "did you mean eth")
