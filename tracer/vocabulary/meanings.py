"""What the vocabulary means: a sentence or two for each verdict, and what to do about it.

The facts are those of TFO.md sections 3 and 4. These texts appear in text output and on the dashboard.
"""

from __future__ import annotations

VERDICTS: dict[str | None, str] = {
    None: "TFO not judged: SYN-ACK not seen",
    "not_attempted": "no TFO",
    "cookie_granted": "TFO cookie granted",
    "cookie_not_granted": "TFO cookie not granted",
    "data_acked": "TFO data accepted",
    "data_acked_new_cookie": "TFO data accepted, new cookie",
    "data_partly_acked": "TFO data partly accepted",
    "data_not_acked": "TFO data not accepted",
    "data_not_acked_new_cookie": "TFO data not accepted, new cookie",
    "data_not_acked_same_cookie": "TFO data not accepted, same cookie back",
    "syn_timeout_fallback": "TFO SYN timed out, plain SYN answered",
    "cookie_only": "TFO cookie without data",
    "cookie_only_new_cookie": "TFO cookie without data, new cookie",
    "cookie_only_same_cookie": "TFO cookie without data, same cookie back",
    "over_acked": "TFO server acked more than was sent",
    "no_answer": "TFO SYN without answer",
    "rejected": "TFO SYN rejected",
}

# what happened and what to check, in a sentence or two
EXPLANATIONS: dict[str | None, str] = {
    None: "The client tried Fast Open and went on, but the SYN-ACK took a path that is not traced here. "
    "Trace the other interface of the route as well, as one group: eth0+eth1.",
    "not_attempted": "The SYN carried neither the Fast Open option nor data: this is an ordinary three-way handshake, "
    "in which the request leaves one round trip later.",
    "cookie_granted": "The client asked for a Fast Open cookie and got one. Its next connection to this server can "
    "carry data in the SYN and save a round trip.",
    "cookie_not_granted": "The client asked for a Fast Open cookie, but the SYN-ACK came without one: the server, its "
    "listener or something on the path does not support Fast Open. At the server, check net.ipv4.tcp_fastopen "
    "(bit 0x2) and whether the listener sets TCP_FASTOPEN.",
    "data_acked": "The server took the data of the SYN: the request arrived one round trip earlier than after an "
    "ordinary handshake. Fast Open works as intended.",
    "data_acked_new_cookie": "The server took the data and sent a new cookie: the old key is still valid as the "
    "backup key, so a key rotation is under way. Nothing is wrong.",
    "data_partly_acked": "The server took only the first part of the SYN's data; the client has to send the rest "
    "again. Part of the gain is lost.",
    "data_not_acked": "The server answered the SYN but took none of its data and sent no cookie; the client has to "
    "send the data again after the handshake. Fast Open is off there, the queue of pending Fast Open requests is "
    "full, or the server sends SYN cookies.",
    "data_not_acked_new_cookie": "The server did not recognise the cookie: it took no data and sent another cookie. "
    "Either the server's key was changed without a backup key, or the servers behind this address do not share one "
    "tcp_fastopen_key, or the client's address changed.",
    "data_not_acked_same_cookie": "The cookie was right but the data was not taken: the server could not create the "
    "connection (memory, a full accept queue).",
    "syn_timeout_fallback": "The SYN with Fast Open was lost or dropped; only a bare SYN sent after a timeout was "
    "answered. Once is packet loss; every time with the same server means that something on the path drops SYNs with "
    "data or the option. This costs a second or more.",
    "cookie_only": "The client sent its cookie but no data, so there was nothing to save; we cannot see whether the "
    "cookie was accepted.",
    "cookie_only_new_cookie": "The client sent its cookie but no data, and got another cookie back: the server did not "
    "recognise the one it sent.",
    "cookie_only_same_cookie": "The client sent its cookie but no data, and got the same cookie back.",
    "over_acked": "The SYN-ACK acknowledged more bytes than the SYN carried: something on the path or the server's "
    "TCP is broken, and the client resets such a connection.",
    "no_answer": "The SYN with Fast Open got no answer: no SYN-ACK, no reset, no ICMP error. The host is down, a "
    "firewall drops packets silently, or the path drops SYNs with data.",
    "rejected": "A reset or an ICMP error refused the SYN with Fast Open: nothing listens there, or a firewall "
    "rejects it. The port is the likely reason, seldom Fast Open.",
}

# instead of "no_answer" where segments came that do not fit: not nothing came back
NOT_FITTING = (
    "Answers to the SYN with Fast Open came, but their numbers do not fit it, so the client had to ignore them: either "
    "something on the path rewrites only one direction, or the peer's TCP is wrong."
)

# instead of what an answer without the option means, where a challenge ACK came first
CHALLENGED = (
    "The server still held a connection of the same addresses and ports and answered the SYN with Fast Open by a "
    "challenge ACK. The client reset that connection and sent a bare SYN, so Fast Open was not even tried."
)

# instead of "data_acked" where that was not the end of it
WITHOUT_LIFE: dict[str, str] = {
    "died": "The server took the data of the SYN, but then the connection died without an answer, so nothing was "
    "gained. If plain connections to this server live, something on the path lets the SYN pass and breaks what "
    "follows.",
    "unknown": "The server took the data of the SYN. Nothing came from it afterwards as far as this was traced, so it "
    "is not known whether anything was gained.",
}

REQUESTS: dict[str, str] = {
    "none": "none",
    "cookie_request": "asked for a cookie",
    "cookie_request_and_data": "asked for a cookie and sent data",
    "cookie": "sent its cookie, no data",
    "cookie_and_data": "sent its cookie and data",
    "data_only": "sent data without a cookie",
    "malformed": "malformed option (counts as none)",
}

RESULTS: dict[str, str] = {
    "none": "not settled",
    "established": "connection established",
    "rejected": "refused by a reset",
    "aborted": "reset before it was established",
    "unreachable": "refused by an ICMP error",
    "no_reply": "no reply",
    "half_open": "answered, but the client never finished it",
    "simultaneous_open": "both ends opened at once",
    "syn_on_established": "a SYN on an open connection (challenge ACK)",
}

# handshake.result of one that failed, where its cause is not known; not_fitting: no_reply, though answers came
FAILURES: dict[str, str] = {
    "rejected": "A reset answered the SYN: nobody listens at that address and port, or something refuses the SYN.",
    "aborted": "One end reset the connection before it was established.",
    "unreachable": "An ICMP error answered the SYN: a router on the way, or the host itself, cannot or may not take "
    "the SYN.",
    "no_reply": "Nothing answered the SYN as far as this was traced: the host is down, or the SYN or its answer was "
    "dropped.",
    "half_open": "The server answered the SYN, but the client's ACK never came: the SYN-ACK or the ACK was lost, or "
    "the client did not want it.",
    "not_fitting": "Answers to the SYN came, but their numbers do not fit it, so the client ignored them.",
}

# handshake.after: how an established connection went on (DESIGN.md section 3)
AFTERS: dict[str, str] = {
    "response": "the server answered",
    "reset_by_server": "the server reset the connection before it sent any data",
    "reset_by_client": "the client reset the connection after it had sent data and before an answer came",
    "closed_unused": "the client closed the connection and had sent no data, as health checks do",
    "client_closed": "the client sent data and closed its side, and no answer came",
    "server_closed": "the server closed the connection and had sent no data",
    "synack_again": "the server repeated its SYN-ACK as if it had not got the client's ACK",
    "silence": "nothing came from the server within the time for a response",
}

# handshake.settled_by: what made the record final (DESIGN.md section 4)
SETTLED: dict[str, str] = {
    "not": "not settled",
    "response": "settled by the server's first data",
    "rst": "settled by a reset",
    "icmp": "settled by an ICMP error",
    "fin": "settled by the server's FIN",
    "timeout": "settled by a timeout",
    "new_syn": "gave way to newer SYNs of its addresses and ports",
    "ack": "settled by an ACK",
    "at_end": "still open at the end",
}

# TcpExt counters: what moves them (TFO.md section 5)
COUNTERS: dict[str, str] = {
    "TCPFastOpenActive": "as client: the SYN-ACK acked all the SYN's data",
    "TCPFastOpenActiveFail": "as client: data not taken, or the SYN timed out",
    "TCPFastOpenPassive": "as server: connections created by Fast Open",
    "TCPFastOpenPassiveFail": "as server: bad cookie, or no connection could be made",
    "TCPFastOpenListenOverflow": "as server: queue of pending requests full",
    "TCPFastOpenCookieReqd": "as server: cookie asked for (even if Fast Open is off)",
    "TCPFastOpenBlackhole": "as client: Fast Open switched off after a blackhole",
    "TCPFastOpenPassiveAltKey": "as server: the backup key matched",
    "TCPReqQFullDoCookies": "SYN cookies sent because the queue was full: no Fast Open then",
    "SyncookiesSent": "SYN cookies sent",
    "ListenOverflows": "accept queue full",
    "ListenDrops": "SYNs dropped by listeners",
    **dict.fromkeys(
        (
            "TCPACKSkippedSynRecv",
            "TCPACKSkippedPAWS",
            "TCPACKSkippedSeq",
            "TCPACKSkippedFinWait2",
            "TCPACKSkippedTimeWait",
            "TCPACKSkippedChallenge",
        ),
        "an ACK that was owed, held back by the rate limit",
    ),
    "TCPTimeouts": "retransmission timeouts of any kind",
    "TCPSynRetrans": "SYNs and SYN-ACKs sent again",
}

_FASTOPEN_BITS = (
    (0x1, "clients use it"),
    (0x2, "servers offer it"),
    (0x4, "clients send data without a cookie"),
    (0x200, "servers take data without a cookie"),
    (0x400, "every listener has it"),
)


def sysctl_meaning(name: str, value: str) -> str:
    """What a sysctl's value means for Fast Open; an empty string if there is nothing to say."""
    short = name.rsplit(".", 1)[-1]
    if short == "tcp_fastopen" and value.strip().isdigit():
        bits = int(value)
        on = [words for bit, words in _FASTOPEN_BITS if bits & bit]
        off = [] if bits & 0x2 else ["servers do NOT offer it"]
        off += [] if bits & 0x1 else ["clients do NOT use it"]
        return "; ".join(on + off)
    if short == "tcp_fastopen_key":
        keys = value.count(",") + 1 if value.strip() else 0
        return "a key and a backup key" if keys > 1 else "one key, no backup: rotating it breaks cookies"
    if short == "tcp_fastopen_blackhole_timeout_sec":
        return "never switches Fast Open off" if value.strip() == "0" else "off that long after a blackhole, doubling"
    return _SYSCTLS.get(short, "")


_SYSCTLS = {
    "tcp_syncookies": "0 never, 1 when the queue is full (then no Fast Open), 2 always",
    "tcp_max_syn_backlog": "requests a listener remembers",
    "somaxconn": "upper limit of a listener's queues, Fast Open's too",
    "tcp_syn_retries": "SYNs sent again before giving up",
    "tcp_synack_retries": "SYN-ACKs sent again before giving up",
    "tcp_ecn": "0 off, 1 asks for it, 2 only answers (default)",
    "tcp_timestamps": "timestamps: show which SYN was answered",
    "tcp_window_scaling": "windows above 64 KiB",
    "tcp_sack": "selective acknowledgements",
    "tcp_no_metrics_save": "1: cookies are still kept, RTTs are not",
}
