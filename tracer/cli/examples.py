"""Examples of each command, and what its exit status means: for help, man pages and docs/REFERENCE.md."""

from __future__ import annotations

from tracer.cli.parser import Example

EXAMPLES: dict[str, tuple[Example, ...]] = {
    "": (
        ("sudo tfotrace eth0", "open the dashboard; ? explains each screen"),
        ("sudo tfotrace eth0 --text", "one line per handshake, as tcpdump does"),
        ("sudo tfotrace eth0 --filter 'dst port 443' --duration 5m", "only handshakes with port 443, for five minutes"),
        ("sudo tfotrace any --text --filter-record 'result != established'", "those that fail, wherever they pass"),
        ("sudo tfotrace eth0 -w events.jsonl.zst", "the dashboard, and a recording for `tfotrace replay`"),
        ("sudo tfotrace any --quiet -w events.jsonl --rotate-size 100M --rotate-keep 20", "record permanently"),
    ),
    "compare": (
        ("tfotrace compare client.jsonl server.jsonl", "what the path between both ends did"),
        ("tfotrace compare router.jsonl:eth0 router.jsonl:eth1", "what a router did, from its own recording"),
    ),
    "demo": (
        ("sudo tfotrace demo", "open the dashboard on the lab's traffic"),
        ("sudo tfotrace demo --text --duration 30s", "the same as text, for half a minute"),
    ),
    "detach": (("sudo tfotrace detach", "look at every interface"),),
    "doctor": (
        ("sudo tfotrace doctor", "look at every interface that is up"),
        ("sudo tfotrace doctor --netns pid:1234", "look into the container of process 1234"),
    ),
    "extcap": (("tfotrace extcap --extcap-interfaces", "what Wireshark will offer"),),
    "probe": (
        ("sudo tfotrace probe example.org", "does Fast Open work from here to there, and what would it save"),
        ("sudo tfotrace probe 192.0.2.1:80 --payload http --count 20 -v", "more connections, and their ladders"),
        ("sudo tfotrace probe --hosts list.txt --json >> answers.jsonl", "many; again: only those that lack an answer"),
    ),
    "replay": (
        ("tfotrace replay events.jsonl.zst", "a recording in the dashboard, without root"),
        ("tfotrace replay events.jsonl --text --filter-record 'rtt > 50ms'", "its slow handshakes as text"),
        ("sudo tfotrace replay trace.pcapng --local 192.0.2.1", "a capture that the host 192.0.2.1 made"),
    ),
    "report": (
        ("tfotrace report events.jsonl -o events.html", "one page of a recording"),
        ("tfotrace report monday.jsonl.zst tuesday.jsonl.zst -o days.html", "one page of two"),
    ),
    "schema": (("tfotrace schema | jq '.\"$defs\" | keys'", "the kinds of records and their parts"),),
    "help": (("tfotrace help replay", "the same as tfotrace replay --help"),),
    "version": (),
}

EXIT_CODES: dict[int, str] = {
    0: "ended as asked, also by ctrl+c or a closed pipe; doctor, probe: no problem",
    2: "wrong usage: one sentence says what is wrong and what to do",
    3: "cannot trace here; doctor, probe: a problem that prevents it",
    4: "tracing ended early: the last interface went away, a disk was full ...",
    5: "doctor: another problem; probe: a server without Fast Open",
}

EXIT_STATUS = "exit status:\n" + "\n".join(f"  {code}  {says}" for code, says in EXIT_CODES.items())
