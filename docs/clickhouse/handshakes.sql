-- Handshake records of many hosts in ClickHouse (docs/FLEET.md). Collectors insert raw lines; fields that are often
-- queried become columns, the rest stays in `record`.

CREATE DATABASE IF NOT EXISTS tfotrace;

CREATE TABLE IF NOT EXISTS tfotrace.handshakes
(
    ts              DateTime64(9, 'UTC') CODEC(Delta, ZSTD),
    host            LowCardinality(String),
    id              FixedString(16),              -- the same at every host that saw the handshake
    interface       LowCardinality(Nullable(String)),
    vantage         LowCardinality(String),
    community_id    String,
    client_ip       IPv6,                         -- IPv4 as ::ffff:a.b.c.d
    client_port     UInt16,
    server_ip       IPv6,
    server_port     UInt16,
    result          LowCardinality(String),
    after           LowCardinality(Nullable(String)),
    settled_by      LowCardinality(String),
    request_acked   Nullable(Bool),
    lived           Bool ALIAS result = 'established' AND ifNull(after, '') != 'reset_by_server'
        AND (first_response_us IS NOT NULL OR settled_by = 'fin' OR ifNull(request_acked, false)),
    syn_count       UInt8,
    rtt_us          Nullable(Float64),
    first_response_us Nullable(Float64),
    syn_payload_len UInt16,
    request         LowCardinality(String),
    outcome         LowCardinality(Nullable(String)),
    tfo_group       LowCardinality(Nullable(String)),
    cause           LowCardinality(Nullable(String)),
    cause_confidence LowCardinality(Nullable(String)),
    rtt_saved_us    Nullable(Float64),
    delay_us        Nullable(Float64),
    sni             LowCardinality(Nullable(String)),
    record          String CODEC(ZSTD(3))
)
ENGINE = MergeTree
PARTITION BY toDate(ts)
ORDER BY (server_ip, server_port, ts)
TTL toDateTime(ts) + INTERVAL 30 DAY;

-- Collectors insert here, but the table keeps nothing. start, stats, notice and end records are left out.
CREATE TABLE IF NOT EXISTS tfotrace.lines (host String, line String) ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS tfotrace.lines_to_handshakes TO tfotrace.handshakes AS
SELECT
    parseDateTime64BestEffort(JSONExtractString(line, 'ts'), 9, 'UTC') AS ts,
    host,
    toFixedString(JSONExtractString(line, 'id'), 16) AS id,
    JSONExtract(line, 'interface', 'Nullable(String)') AS interface,
    JSONExtractString(line, 'vantage') AS vantage,
    JSONExtractString(line, 'community_id') AS community_id,
    toIPv6(JSONExtractString(line, 'client', 'ip')) AS client_ip,
    JSONExtractUInt(line, 'client', 'port') AS client_port,
    toIPv6(JSONExtractString(line, 'server', 'ip')) AS server_ip,
    JSONExtractUInt(line, 'server', 'port') AS server_port,
    JSONExtractString(line, 'handshake', 'result') AS result,
    JSONExtract(line, 'handshake', 'after', 'Nullable(String)') AS after,
    JSONExtractString(line, 'handshake', 'settled_by') AS settled_by,
    JSONExtract(line, 'handshake', 'request_acked', 'Nullable(Bool)') AS request_acked,
    JSONExtractUInt(line, 'handshake', 'syn_count') AS syn_count,
    JSONExtract(line, 'handshake', 'rtt_us', 'Nullable(Float64)') AS rtt_us,
    JSONExtract(line, 'handshake', 'first_response_us', 'Nullable(Float64)') AS first_response_us,
    JSONExtractUInt(line, 'syn', 'payload_len') AS syn_payload_len,
    JSONExtractString(line, 'tfo', 'request') AS request,
    JSONExtract(line, 'tfo', 'outcome', 'Nullable(String)') AS outcome,
    JSONExtract(line, 'tfo', 'group', 'Nullable(String)') AS tfo_group,
    JSONExtract(line, 'tfo', 'cause', 'Nullable(String)') AS cause,
    JSONExtract(line, 'tfo', 'cause_confidence', 'Nullable(String)') AS cause_confidence,
    JSONExtract(line, 'tfo', 'rtt_saved_us', 'Nullable(Float64)') AS rtt_saved_us,
    JSONExtract(line, 'tfo', 'delay_us', 'Nullable(Float64)') AS delay_us,
    JSONExtract(line, 'tls', 'sni', 'Nullable(String)') AS sni,
    line AS record
FROM tfotrace.lines
WHERE JSONExtractString(line, 'event') = 'handshake';
