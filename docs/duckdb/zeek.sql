-- Handshakes as lines of Zeek's logs (docs/MAPPING.md). Needs tfotrace.sql.
--   COPY (FROM tfotrace_zeek_conn('events.jsonl')) TO 'conn.log' (FORMAT json);
CREATE OR REPLACE MACRO tfotrace_zeek(files) AS TABLE
SELECT
    epoch_ns(ts) / 1e9 AS ts, 'C' || id AS uid, client.ip AS "id.orig_h", client.port AS "id.orig_p",
    server.ip AS "id.resp_h", server.port AS "id.resp_p", handshake, vantage, vlan, community_id, payload, tls, http, dns
FROM tfotrace_handshakes(files);

CREATE OR REPLACE MACRO tfotrace_zeek_conn(files) AS TABLE
SELECT
    ts, uid, "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", 'tcp' AS proto,
    CASE payload.protocol WHEN 'tls' THEN 'ssl' WHEN 'http' THEN 'http' WHEN 'dns' THEN 'dns' END AS service,
    -- the state after the handshake: only Zeek knows what happened to the connection later
    CASE handshake.result
        WHEN 'established' THEN 'S1' WHEN 'half_open' THEN 'S1' WHEN 'rejected' THEN 'REJ' WHEN 'aborted' THEN 'RSTO'
        WHEN 'no_reply' THEN 'S0' WHEN 'unreachable' THEN 'S0' ELSE 'OTH' END AS conn_state,
    vantage IN ('client', 'local') AS local_orig, vantage IN ('server', 'local') AS local_resp,
    vlan[1] AS vlan, vlan[2] AS inner_vlan, community_id
FROM tfotrace_zeek(files);

CREATE OR REPLACE MACRO tfotrace_zeek_ssl(files) AS TABLE
SELECT ts, uid, "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", tls.sni AS server_name
FROM tfotrace_zeek(files) WHERE tls IS NOT NULL;

CREATE OR REPLACE MACRO tfotrace_zeek_http(files) AS TABLE
SELECT ts, uid, "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", http."method" AS "method", http.host AS host
FROM tfotrace_zeek(files) WHERE http IS NOT NULL;

CREATE OR REPLACE MACRO tfotrace_zeek_dns(files) AS TABLE
SELECT ts, uid, "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", 'tcp' AS proto, dns."name" AS query,
    dns."type" AS qtype_name
FROM tfotrace_zeek(files) WHERE dns IS NOT NULL;
