-- Which servers never accept SYN data on a connection that lives? `acked`: accepted, but then reset or silent.
SELECT IPv6NumToString(server_ip) AS server, server_port, count() AS attempts,
    countIf(outcome IN ('data_acked', 'data_acked_new_cookie')) AS acked, any(cause) AS cause
FROM tfotrace.handshakes
WHERE syn_payload_len > 0
GROUP BY server_ip, server_port
HAVING countIf(outcome IN ('data_acked', 'data_acked_new_cookie') AND lived) = 0
ORDER BY attempts DESC
LIMIT 20;

-- Does it pay? Median time to the first response byte with and without Fast Open, by server.
SELECT IPv6NumToString(server_ip) AS server, server_port,
    quantileIf(0.5)(first_response_us, outcome IN ('data_acked', 'data_acked_new_cookie')) / 1000 AS with_ms,
    quantileIf(0.5)(first_response_us, outcome = 'not_attempted') / 1000 AS without_ms
FROM tfotrace.handshakes
WHERE lived
GROUP BY server_ip, server_port
HAVING countIf(outcome = 'data_acked') > 0 AND countIf(outcome = 'not_attempted') > 0
ORDER BY without_ms - with_ms DESC;

-- Handshakes seen by two hosts with different options: something between them removed the option.
SELECT id, groupArray(host) AS hosts, groupArray(request) AS requests
FROM tfotrace.handshakes
GROUP BY id
HAVING uniqExact(host) > 1 AND uniqExact(request) > 1
LIMIT 20;

-- Round trips saved per hour, and what lost SYNs of attempts cost, in seconds.
SELECT toStartOfHour(ts) AS hour,
    sum(rtt_saved_us) / 1e6 AS saved,
    sumIf(delay_us, outcome != 'not_attempted') / 1e6 AS lost
FROM tfotrace.handshakes
GROUP BY hour
ORDER BY hour;
