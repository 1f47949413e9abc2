-- Records of tfotrace in DuckDB 1.1 or newer: duckdb -init docs/duckdb/tfotrace.sql, or .read it.
-- We declare the columns: else DuckDB guesses them from the first lines, and guesses wrong if all values are null.

-- Did a connection live? The server answered, closed, or acked more than its SYN-ACK did, and did not reset it before it
-- answered. (In records of older versions, which lack `copies`, the FIN may be the client's.)
CREATE OR REPLACE MACRO tfotrace_lived(handshake) AS
    handshake.result = 'established' AND coalesce(handshake.after, '') <> 'reset_by_server' AND (
        handshake.first_response_us IS NOT NULL
        OR (handshake.settled_by = 'fin' AND handshake.copies IS NOT NULL)
        OR coalesce(handshake.request_acked, false));

-- Was a handshake refused, or never finished?
CREATE OR REPLACE MACRO tfotrace_failed(handshake) AS
    handshake.result IN ('rejected', 'aborted', 'unreachable', 'no_reply', 'half_open');

-- Handshakes of one file or many ('/var/log/tfotrace/*.jsonl*', ['a.jsonl', 'b.jsonl.zst']). Lines that are no JSON, such as
-- one that is cut, are left out; start, stats, notice and end records too. `filename` tells hosts apart.
CREATE OR REPLACE MACRO tfotrace_handshakes(files) AS TABLE
SELECT * EXCLUDE (event)
FROM read_json(
    files,
    format = 'newline_delimited', ignore_errors = true, filename = true, maximum_object_size = 1048576,
    columns = {
        event: 'VARCHAR',
        schema: 'BIGINT',
        ts: 'TIMESTAMP_NS',
        id: 'VARCHAR',
        interface: 'VARCHAR',
        hook: 'VARCHAR',
        vlan: 'BIGINT[]',
        vantage: 'VARCHAR',
        community_id: 'VARCHAR',
        client: 'STRUCT("ip" VARCHAR, "port" BIGINT, "process" STRUCT("pid" BIGINT, "name" VARCHAR, "uid" BIGINT,
            "cgroup" VARCHAR))',
        server: 'STRUCT("ip" VARCHAR, "port" BIGINT, "process" STRUCT("pid" BIGINT, "name" VARCHAR, "uid" BIGINT,
            "cgroup" VARCHAR))',
        handshake: 'STRUCT("result" VARCHAR, "settled_by" VARCHAR, "syn_count" BIGINT, "synack_count" BIGINT,
            "late_syns" BIGINT, "synack_delay_us" DOUBLE, "ack_delay_us" DOUBLE, "rtt_us" DOUBLE,
            "first_response_us" DOUBLE, "icmp" STRUCT("type" BIGINT, "code" BIGINT, "from" VARCHAR),
            "challenge_acks" BIGINT, "connect_us" DOUBLE, "first_request_us" DOUBLE, "after" VARCHAR,
            "answered_syn" BIGINT, "answered_ecn" VARCHAR, "reset" STRUCT("from" VARCHAR, "after_us" DOUBLE,
            "ttl" BIGINT, "hops" BIGINT, "reason" VARCHAR), "misfits" STRUCT("rst" BIGINT, "synack" BIGINT,
            "icmp" BIGINT), "copies" BIGINT, "synack_isns" BIGINT, "resumed" VARCHAR, "request_acked" BOOLEAN,
            "request_repeats" BIGINT, "drop" STRUCT("segment" VARCHAR, "reason" VARCHAR, "at" VARCHAR, "netns" BIGINT),
            "cause" VARCHAR, "cause_confidence" VARCHAR, "cause_at" VARCHAR, "listener" STRUCT("ip" VARCHAR,
            "port" BIGINT, "queued" BIGINT, "backlog" BIGINT, "process" STRUCT("pid" BIGINT, "name" VARCHAR,
            "uid" BIGINT, "cgroup" VARCHAR)))',
        syn: 'STRUCT("seq" BIGINT, "payload_len" BIGINT, "mss" BIGINT, "wscale" BIGINT, "window" BIGINT,
            "sack_permitted" BOOLEAN, "ts_val" BIGINT, "ts_ecr" BIGINT, "ttl" BIGINT, "hops" BIGINT, "ecn" VARCHAR,
            "mptcp" VARCHAR, "md5" BOOLEAN, "ao" BOOLEAN, "options" VARCHAR[])',
        synack: 'STRUCT("seq" BIGINT, "payload_len" BIGINT, "mss" BIGINT, "wscale" BIGINT, "window" BIGINT,
            "sack_permitted" BOOLEAN, "ts_val" BIGINT, "ts_ecr" BIGINT, "ttl" BIGINT, "hops" BIGINT, "ecn" VARCHAR,
            "mptcp" VARCHAR, "md5" BOOLEAN, "ao" BOOLEAN, "options" VARCHAR[], "acked_payload_len" BIGINT)',
        negotiated: 'STRUCT("wscale" BOOLEAN, "sack" BOOLEAN, "timestamps" BOOLEAN, "ecn" VARCHAR, "mptcp" BOOLEAN)',
        tfo: 'STRUCT("request" VARCHAR, "outcome" VARCHAR, "group" VARCHAR, "kind" BIGINT, "cookie_len" BIGINT,
            "cookie_id" VARCHAR, "cookie" VARCHAR, "synack_kind" BIGINT, "synack_cookie_len" BIGINT,
            "synack_cookie_id" VARCHAR, "synack_cookie" VARCHAR, "cookie_check" VARCHAR, "cause" VARCHAR,
            "cause_confidence" VARCHAR, "rtt_saved_us" DOUBLE, "delay_us" DOUBLE, "client_fail" VARCHAR)',
        payload: 'STRUCT("protocol" VARCHAR, "captured" BOOLEAN, "truncated" BOOLEAN)',
        tls: 'STRUCT("sni" VARCHAR, "alpn" VARCHAR[], "ech" BOOLEAN)',
        http: 'STRUCT("method" VARCHAR, "host" VARCHAR)',
        dns: 'STRUCT("name" VARCHAR, "type" VARCHAR)',
        signature: 'STRUCT("p0f" VARCHAR)',
        through: 'VARCHAR[]',
        warnings: 'VARCHAR[]',
        nat: 'STRUCT("client" STRUCT("ip" VARCHAR, "port" BIGINT), "server" STRUCT("ip" VARCHAR, "port" BIGINT),
            "id" VARCHAR)',
        changed_on_host: 'VARCHAR[]'
    }
)
WHERE event = 'handshake';
