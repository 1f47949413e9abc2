-- Records of tfotrace in DuckDB 1.1 or newer: duckdb -init docs/duckdb/tfotrace.sql, or .read it.
-- The columns are spelled out: DuckDB would else guess them from the first lines, and guess wrong where all are null.

-- Handshakes of one file or many ('/var/log/tfotrace/*.jsonl*', ['a.jsonl', 'b.jsonl.zst']). Lines that are no JSON, such as
-- one that is cut, are left out; start, stats, notice and end records too. `filename` tells hosts apart.
CREATE OR REPLACE MACRO tfotrace_handshakes(files) AS TABLE
SELECT * EXCLUDE (event)
FROM read_json(
    files,
    format = 'newline_delimited', ignore_errors = true, filename = true, maximum_object_size = 1048576,
    columns = {
        event: 'VARCHAR', schema: 'INTEGER', ts: 'TIMESTAMP_NS', id: 'VARCHAR', interface: 'VARCHAR', hook: 'VARCHAR',
        vlan: 'INTEGER[]', vantage: 'VARCHAR', community_id: 'VARCHAR',
        client: 'STRUCT(ip VARCHAR, port INTEGER, process STRUCT(pid INTEGER, name VARCHAR, uid UINTEGER, cgroup VARCHAR))',
        server: 'STRUCT(ip VARCHAR, port INTEGER, process STRUCT(pid INTEGER, name VARCHAR, uid UINTEGER, cgroup VARCHAR))',
        handshake: 'STRUCT(result VARCHAR, settled_by VARCHAR, syn_count INTEGER, synack_count INTEGER,
            late_syns INTEGER, synack_delay_us DOUBLE, ack_delay_us DOUBLE, rtt_us DOUBLE, first_response_us DOUBLE,
            icmp STRUCT("type" INTEGER, code INTEGER), challenge_acks INTEGER)',
        syn: 'STRUCT(seq UINTEGER, payload_len INTEGER, mss INTEGER, wscale INTEGER, "window" INTEGER,
            sack_permitted BOOLEAN, ts_val UINTEGER, ts_ecr UINTEGER, ttl INTEGER, hops INTEGER, ecn VARCHAR,
            mptcp VARCHAR, md5 BOOLEAN, ao BOOLEAN, options VARCHAR[])',
        synack: 'STRUCT(seq UINTEGER, payload_len INTEGER, mss INTEGER, wscale INTEGER, "window" INTEGER,
            sack_permitted BOOLEAN, ts_val UINTEGER, ts_ecr UINTEGER, ttl INTEGER, hops INTEGER, ecn VARCHAR,
            mptcp VARCHAR, md5 BOOLEAN, ao BOOLEAN, options VARCHAR[], acked_payload_len INTEGER)',
        negotiated: 'STRUCT(wscale BOOLEAN, sack BOOLEAN, timestamps BOOLEAN, ecn VARCHAR, mptcp BOOLEAN)',
        tfo: 'STRUCT(request VARCHAR, outcome VARCHAR, "group" VARCHAR, kind INTEGER, cookie_len INTEGER,
            cookie_id VARCHAR, cookie VARCHAR, synack_kind INTEGER, synack_cookie_len INTEGER, synack_cookie_id VARCHAR,
            synack_cookie VARCHAR, cookie_check VARCHAR, cause VARCHAR, cause_confidence VARCHAR, rtt_saved_us DOUBLE,
            delay_us DOUBLE)',
        payload: 'STRUCT(protocol VARCHAR, captured BOOLEAN, truncated BOOLEAN)',
        tls: 'STRUCT(sni VARCHAR, alpn VARCHAR[], ech BOOLEAN)',
        http: 'STRUCT("method" VARCHAR, host VARCHAR)',
        dns: 'STRUCT("name" VARCHAR, "type" VARCHAR)',
        signature: 'STRUCT(p0f VARCHAR)'
    }
)
WHERE event = 'handshake';
