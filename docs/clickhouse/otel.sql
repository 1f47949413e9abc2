-- After handshakes.sql: fills the same table from what OpenTelemetry collectors insert (docs/FLEET.md). If their ClickHouse
-- exporter has already created otel_logs, create only the view. Here otel_logs keeps nothing and passes the lines on.

CREATE DATABASE IF NOT EXISTS otel;

CREATE TABLE IF NOT EXISTS otel.otel_logs
(
    Timestamp          DateTime64(9),
    TraceId            String,
    SpanId             String,
    TraceFlags         UInt8,
    SeverityText       LowCardinality(String),
    SeverityNumber     UInt8,
    ServiceName        LowCardinality(String),
    Body               String,
    ResourceSchemaUrl  LowCardinality(String),
    ResourceAttributes Map(LowCardinality(String), String),
    ScopeSchemaUrl     LowCardinality(String),
    ScopeName          String,
    ScopeVersion       LowCardinality(String),
    ScopeAttributes    Map(LowCardinality(String), String),
    LogAttributes      Map(LowCardinality(String), String)
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS otel.logs_to_tfotrace TO tfotrace.lines AS
SELECT ResourceAttributes['host.name'] AS host, Body AS line
FROM otel.otel_logs;
