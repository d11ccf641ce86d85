-- What the stream jobs leave in Postgres: telemetry, aggregates, anomalies, and how far the sinks have come.

-- One normalised reading a row. Partitioned by the day on which it was stored, so that rows always fall into today's
-- partition, however late they come; ts is never later than stored_at by more than a clock's error. The partitions
-- are made and dropped by the sink (control_plane/analytics/partitions.py). flags and ts_raw are there when ts was
-- mended; metrics and score as in the event.
CREATE TABLE telemetry (
    stored_at timestamptz NOT NULL DEFAULT now(),
    ts timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    accepted_at timestamptz,
    device_id text COLLATE "C" NOT NULL,
    gateway_id text COLLATE "C",
    lane text COLLATE "C" NOT NULL,
    seq bigint,
    status text,
    metrics jsonb NOT NULL,
    clock text COLLATE "C" NOT NULL,
    skew_ms bigint,
    flags text[],
    ts_raw text,
    score jsonb
) PARTITION BY RANGE (stored_at);
CREATE INDEX telemetry_device ON telemetry (device_id, ts);

-- What thinning at a gateway left of many readings of one metric.
CREATE TABLE telemetry_aggregates (
    stored_at timestamptz NOT NULL DEFAULT now(),
    from_ts timestamptz NOT NULL,
    to_ts timestamptz NOT NULL,
    accepted_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    gateway_id text COLLATE "C" NOT NULL,
    lane text COLLATE "C" NOT NULL,
    metric text COLLATE "C" NOT NULL,
    count bigint NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL,
    mean double precision NOT NULL
) PARTITION BY RANGE (stored_at);
CREATE INDEX telemetry_aggregates_device ON telemetry_aggregates (device_id, from_ts);

-- id is the event's ce_id: a repeat is the same row. No reference to devices: a device may be forgotten.
CREATE TABLE anomalies (
    id text COLLATE "C" PRIMARY KEY,
    stored_at timestamptz NOT NULL DEFAULT now(),
    ts timestamptz NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    metric text COLLATE "C" NOT NULL,
    value double precision NOT NULL,
    score double precision NOT NULL,
    severity text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    expected double precision,
    source text COLLATE "C" NOT NULL,
    episode_id text COLLATE "C" NOT NULL
);
CREATE INDEX anomalies_device ON anomalies (device_id, ts);
CREATE INDEX anomalies_ts ON anomalies (ts);
CREATE INDEX anomalies_age ON anomalies (stored_at);

-- The first offset of a partition that a sink has not stored yet, changed in the transaction that stores the rows.
CREATE TABLE sink_offsets (
    sink text COLLATE "C" NOT NULL,
    topic text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sink, topic, partition)
);
