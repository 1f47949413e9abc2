-- Handshakes as documents of the Elastic Common Schema 8 (docs/MAPPING.md). Needs tfotrace.sql.
--   COPY (FROM tfotrace_ecs('events.jsonl')) TO 'ecs.ndjson' (FORMAT json);
CREATE OR REPLACE MACRO tfotrace_ecs(files) AS TABLE
SELECT
    replace(CAST(ts AS VARCHAR), ' ', 'T') || 'Z' AS "@timestamp",
    {'version': '8.11.0'} AS ecs,
    {
        'kind': 'event', 'category': ['network'], 'action': 'tcp-handshake', 'module': 'tfotrace',
        'dataset': 'tfotrace.handshake', 'id': id,
        'type': CASE
            WHEN handshake.result IN ('established', 'simultaneous_open') THEN ['connection', 'start']
            WHEN handshake.result IN ('rejected', 'unreachable') THEN ['connection', 'denied']
            ELSE ['connection', 'info'] END,
        'outcome': CASE
            WHEN handshake.result IN ('established', 'simultaneous_open') THEN 'success'
            WHEN handshake.result IN ('rejected', 'unreachable', 'no_reply', 'aborted') THEN 'failure'
            ELSE 'unknown' END,
        'duration': CAST(round((handshake.synack_delay_us + handshake.ack_delay_us) * 1000) AS BIGINT)
    } AS event,
    {
        'transport': 'tcp',
        'type': if(contains(server.ip, ':'), 'ipv6', 'ipv4'),
        'protocol': nullif(payload.protocol, 'other'),
        'community_id': community_id,
        'direction': CASE vantage WHEN 'client' THEN 'egress' WHEN 'server' THEN 'ingress' WHEN 'local' THEN 'internal'
            ELSE 'unknown' END,
        'vlan': {'id': CAST(vlan[1] AS VARCHAR)},
        'inner': {'vlan': {'id': CAST(vlan[2] AS VARCHAR)}}
    } AS network,
    {'ip': client.ip, 'port': client.port} AS source,
    {'ip': server.ip, 'port': server.port} AS destination,
    {'ip': client.ip, 'port': client.port} AS client,
    {'ip': server.ip, 'port': server.port} AS server,
    {'type': 'sensor', 'product': 'tfotrace', 'ingress': {'interface': {'name': interface}}} AS observer,
    {'pid': owner.pid, 'name': owner."name"} AS process,
    {'id': CAST(owner.uid AS VARCHAR)} AS user,
    {'client': {'server_name': tls.sni}} AS tls,
    {'request': {'method': http."method"}} AS http,
    {'domain': regexp_replace(http.host, ':[0-9]+$', '')} AS url,
    {'question': {'name': dns."name", 'type': dns."type"}} AS dns,
    {
        'schema': schema, 'hook': hook, 'vantage': vantage, 'cgroup': owner.cgroup, 'handshake': handshake, 'syn': syn,
        'synack': synack, 'negotiated': negotiated, 'tfo': tfo, 'payload': payload, 'alpn': tls.alpn, 'ech': tls.ech,
        'signature': signature, 'through': through, 'warnings': warnings, 'nat': nat,
        'changed_on_host': changed_on_host
    } AS tfotrace
FROM (
    SELECT *, if(vantage = 'server', server.process, client.process) AS owner
    FROM tfotrace_handshakes(files)
);
