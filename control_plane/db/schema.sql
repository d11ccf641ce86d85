-- The registry: devices, their keys, who owns whom, and what is to be told to Kafka.

-- Tokens of people and programs; the token itself is `<id>.<secret>`, only the secret's SHA-256 is kept.
CREATE TABLE api_tokens (
    id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    role text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    token_hash bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

-- A type exists as soon as a device has it. metrics: {"temperature": {"unit": "°C", "min": -20, "max": 60}}
CREATE TABLE device_types (
    name text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$'),
    metrics jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metrics) = 'object'),
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- registered_at is set when the broker holds the key. Until then the device does not exist for anybody: its key was
-- never shown, and the next registration of its id or serial takes its place.
CREATE TABLE devices (
    id text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$'),
    serial text NOT NULL CHECK (length(serial) BETWEEN 1 AND 128),
    type text COLLATE "C" NOT NULL REFERENCES device_types (name),
    kind text NOT NULL CHECK (kind IN ('device', 'gateway')),
    status text NOT NULL
        CHECK (status IN ('pending', 'provisioned', 'active', 'quarantined', 'suspended', 'retired')),
    labels jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(labels) = 'object'),
    limits jsonb CHECK (jsonb_typeof(limits) = 'object'),
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    registered_at timestamptz
);
CREATE UNIQUE INDEX devices_type_serial ON devices (type, serial) WHERE status <> 'retired';
CREATE INDEX devices_unfinished ON devices (created_at) WHERE registered_at IS NULL;

-- api_key_hash is in the broker's own format, so that an empty broker can be rebuilt from here.
-- held_at: the broker confirmed the key. rotated_at: when this key took another's place. ended_at: it is no longer valid.
CREATE TABLE device_credentials (
    key_id text COLLATE "C" PRIMARY KEY,
    device_id text COLLATE "C" NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    api_key_hash text NOT NULL CHECK (api_key_hash LIKE '$7$%'),
    created_at timestamptz NOT NULL DEFAULT now(),
    held_at timestamptz,
    rotated_at timestamptz,
    last_used_at timestamptz,
    ended_at timestamptz
);
CREATE INDEX device_credentials_device ON device_credentials (device_id);

-- Which gateway speaks, or spoke, for a device.
CREATE TABLE gateway_ownership (
    device_id text COLLATE "C" NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    gateway_id text COLLATE "C" NOT NULL REFERENCES devices (id),
    from_at timestamptz NOT NULL,
    until_at timestamptz,
    PRIMARY KEY (device_id, from_at),
    CHECK (until_at >= from_at),
    CHECK (gateway_id <> device_id)
);
CREATE UNIQUE INDEX gateway_ownership_now ON gateway_ownership (device_id) WHERE until_at IS NULL;
CREATE INDEX gateway_ownership_gateway ON gateway_ownership (gateway_id) WHERE until_at IS NULL;

-- Idempotency-Key of a creation: the same request again is the same device.
CREATE TABLE idempotency_keys (
    actor text NOT NULL,
    key text NOT NULL,
    request_sha256 bytea NOT NULL CHECK (octet_length(request_sha256) = 32),
    device_id text COLLATE "C" NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (actor, key)
);
CREATE INDEX idempotency_keys_device ON idempotency_keys (device_id);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

-- What is to be told to Kafka, written with the change itself. A row is deleted when Kafka has it.
CREATE TABLE registry_outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    key text NOT NULL,
    value bytea,
    ce_id text NOT NULL,
    ce_type text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION registry_outbox_wake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('registry_outbox', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER registry_outbox_wake AFTER INSERT ON registry_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION registry_outbox_wake();

CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_target ON audit_log (target, at);

-- What every service needs to know of a device, as JSON: the registry topic's value, and what the normaliser asks for
-- an id that it does not know yet. At most the newest 32 ownerships.
CREATE VIEW device_view AS
SELECT
    d.id,
    jsonb_build_object(
        'id', d.id,
        'kind', d.kind,
        'type', d.type,
        'status', d.status,
        'version', d.version,
        'gateways', coalesce((
            SELECT jsonb_agg(
                jsonb_build_object(
                    'gateway_id', o.gateway_id,
                    'from_ms', (extract(epoch FROM o.from_at) * 1000)::bigint,
                    'until_ms', (extract(epoch FROM o.until_at) * 1000)::bigint
                ) ORDER BY o.from_at
            )
            FROM (
                SELECT * FROM gateway_ownership AS g
                WHERE g.device_id = d.id ORDER BY g.from_at DESC LIMIT 32
            ) AS o
        ), '[]'::jsonb),
        'limits', d.limits
    )::text AS view
FROM devices AS d
WHERE d.registered_at IS NOT NULL;

-- Session slots of ingest: the MQTT client id `_ingest-<slot>` belongs to the holder.

-- The rules are in control_plane/ingest/lease.py. No time here decides anything: a process that wants the slot watches
-- `renewals` by its own clock. incarnation: one run of the holder, so that two processes of one name notice each other.
CREATE TABLE ingest_slots (
    slot integer PRIMARY KEY CHECK (slot >= 0),
    holder text COLLATE "C" CHECK (length(holder) BETWEEN 1 AND 128),
    incarnation text COLLATE "C",
    renewals bigint NOT NULL DEFAULT 0,
    taken_at timestamptz NOT NULL DEFAULT now(),
    renewed_at timestamptz NOT NULL DEFAULT now(),
    -- Since when the slot's session at the broker has its subscriptions; NULL before the first time. The registry gives
    -- out no key before one slot has it: what a device sends to a broker without that session reaches nobody.
    subscribed_at timestamptz,
    CHECK ((holder IS NULL) = (incarnation IS NULL))
);

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
