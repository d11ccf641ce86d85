-- The registry: devices, their keys, who owns whom, and what is to be told to Kafka.

CREATE EXTENSION IF NOT EXISTS pg_trgm;

-- Tokens of people and programs; the token itself is `<id>.<secret>`, only the secret's SHA-256 is kept.
CREATE TABLE api_tokens (
    id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    role text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    token_hash bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    -- Families of operations, or operations, to which the token is narrowed; empty: all of its role.
    scopes text[] NOT NULL DEFAULT '{}',
    created_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    expires_at timestamptz,
    revoked_at timestamptz
);

-- A type exists as soon as a device has it. metrics: {"temperature": {"unit": "°C", "min": -20, "max": 60}}
CREATE TABLE device_types (
    name text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$'),
    metrics jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metrics) = 'object'),
    -- Limits of its devices; a device's own go before them, the policy `limits` stands behind both.
    limits jsonb CHECK (jsonb_typeof(limits) = 'object'),
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
    registered_at timestamptz,
    -- {"place": "hall 3", "lat": 52.5, "lon": 13.4}, each part optional.
    location jsonb CHECK (jsonb_typeof(location) = 'object'),
    -- Where a release or a resume goes back to.
    status_before text CHECK (status_before IN ('pending', 'provisioned', 'active')),
    -- What a gateway's hardware said of itself when it enrolled (SHA-256, hex): the same enrolled again keeps its id.
    hardware_id text COLLATE "C",
    replaced_by text COLLATE "C" REFERENCES devices (id),
    replaced_at timestamptz,
    -- A replaced gateway may send its own batches with what it accepted before, nothing else, until then.
    drains_until timestamptz,
    retired_at timestamptz,
    -- Cut off for good (stolen).
    revoked_at timestamptz,
    -- Its personal data was erased.
    forgotten_at timestamptz,
    -- Speaks by client certificate, has no key.
    certificate_only boolean NOT NULL DEFAULT false,
    -- Its name in logs, so that whois finds it; NULL until the registry wrote it.
    pseudonym text COLLATE "C"
);
CREATE UNIQUE INDEX devices_type_serial ON devices (type, serial) WHERE status <> 'retired';
CREATE INDEX devices_unfinished ON devices (created_at) WHERE registered_at IS NULL;
CREATE UNIQUE INDEX devices_hardware ON devices (hardware_id) WHERE hardware_id IS NOT NULL AND status <> 'retired';
CREATE INDEX devices_serial_text ON devices USING gin (serial gin_trgm_ops);
CREATE INDEX devices_status ON devices (status, id) WHERE registered_at IS NOT NULL;
CREATE INDEX devices_type ON devices (type, id) WHERE registered_at IS NOT NULL;
CREATE INDEX devices_gateways ON devices (id) WHERE kind = 'gateway' AND registered_at IS NOT NULL;
CREATE INDEX devices_pseudonym ON devices (pseudonym) WHERE pseudonym IS NOT NULL;
CREATE INDEX devices_no_pseudonym ON devices (id) WHERE pseudonym IS NULL AND forgotten_at IS NULL;
-- A search by a part of the serial asks how many match before it chooses its way: a finer sample makes that sure.
ALTER TABLE devices ALTER COLUMN serial SET STATISTICS 1000;

-- Each label as a row of its own, kept by the triggers below: a list by labels walks them in order of device id, however
-- large the fleet is. No reference to devices, whose deletion the trigger follows, so that an import pays for two
-- indexes and not for three.
CREATE TABLE device_labels (
    name text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (name, value, device_id)
);
CREATE INDEX device_labels_name ON device_labels (name, device_id);

CREATE FUNCTION device_labels_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO device_labels (name, value, device_id)
    SELECT l.key, l.value, a.id FROM added AS a, jsonb_each_text(a.labels) AS l;
    RETURN NULL;
END
$$;
CREATE FUNCTION device_labels_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR OLD.labels IS DISTINCT FROM NEW.labels THEN
        DELETE FROM device_labels AS d USING jsonb_each_text(OLD.labels) AS l
        WHERE d.name = l.key AND d.value = l.value AND d.device_id = OLD.id;
        IF TG_OP = 'UPDATE' THEN
            INSERT INTO device_labels (name, value, device_id)
            SELECT l.key, l.value, NEW.id FROM jsonb_each_text(NEW.labels) AS l;
        END IF;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER device_labels_added AFTER INSERT ON devices
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION device_labels_added();
CREATE TRIGGER device_labels_updated AFTER UPDATE OF labels ON devices
    FOR EACH ROW EXECUTE FUNCTION device_labels_changed();
CREATE TRIGGER device_labels_deleted AFTER DELETE ON devices
    FOR EACH ROW EXECUTE FUNCTION device_labels_changed();

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
    ended_at timestamptz,
    -- Valid from not_before until not_after (NULL: no end); a rotation gives the old key an end, so both are valid for
    -- the overlap.
    not_before timestamptz,
    not_after timestamptz,
    -- registration, reissue, rotation, schedule, self, enrolment, import
    why text NOT NULL DEFAULT 'registration',
    -- The key whose end this one's first use brings about (agent-driven rotation, confirmed by use).
    replaces text COLLATE "C",
    ended_why text
);
CREATE INDEX device_credentials_device ON device_credentials (device_id);
CREATE INDEX device_credentials_ending ON device_credentials (not_after)
    WHERE ended_at IS NULL AND not_after IS NOT NULL;
CREATE INDEX device_credentials_beginning ON device_credentials (not_before)
    WHERE ended_at IS NULL AND not_before IS NOT NULL;
CREATE INDEX device_credentials_age ON device_credentials (created_at) WHERE ended_at IS NULL AND held_at IS NOT NULL;

-- Whoever ends keys in time sleeps until the next end: a new end wakes it.
CREATE FUNCTION device_credentials_wake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('registry_credentials', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER device_credentials_wake
    AFTER INSERT OR UPDATE OF held_at, not_before, not_after ON device_credentials
    FOR EACH ROW WHEN (NEW.not_before IS NOT NULL OR NEW.not_after IS NOT NULL)
    EXECUTE FUNCTION device_credentials_wake();

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
CREATE INDEX gateway_ownership_page ON gateway_ownership (gateway_id, device_id) WHERE until_at IS NULL;

-- A gateway is told to ask (nudger.py) when something changed for its devices, or for its own keys. That a device was
-- used changes nothing for its gateway.
CREATE FUNCTION nudge_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('registry_nudge', gateway_id) FROM gateway_ownership
    WHERE device_id = NEW.id AND until_at IS NULL;
    RETURN NULL;
END
$$;
CREATE TRIGGER devices_nudge AFTER UPDATE OF status ON devices FOR EACH ROW
    WHEN (OLD.status <> NEW.status AND NOT (OLD.status = 'provisioned' AND NEW.status = 'active'))
    EXECUTE FUNCTION nudge_status();
CREATE FUNCTION nudge_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('registry_nudge', gateway_id) FROM gateway_ownership
    WHERE device_id = NEW.device_id AND until_at IS NULL;
    PERFORM pg_notify('registry_nudge', id) FROM devices WHERE id = NEW.device_id AND kind = 'gateway';
    RETURN NULL;
END
$$;
CREATE TRIGGER device_credentials_nudge AFTER UPDATE OF held_at, not_before, not_after, ended_at ON device_credentials
    FOR EACH ROW WHEN (NEW.held_at IS NOT NULL) EXECUTE FUNCTION nudge_keys();
CREATE FUNCTION nudge_given() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('registry_nudge', gateway_id) FROM (SELECT DISTINCT gateway_id FROM added) AS given;
    RETURN NULL;
END
$$;
CREATE TRIGGER gateway_ownership_given AFTER INSERT ON gateway_ownership
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION nudge_given();
CREATE FUNCTION nudge_taken() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('registry_nudge', NEW.gateway_id);
    RETURN NULL;
END
$$;
CREATE TRIGGER gateway_ownership_taken AFTER UPDATE OF until_at ON gateway_ownership
    FOR EACH ROW EXECUTE FUNCTION nudge_taken();

-- What is decided for all: credentials, limits, quarantine, enrolment, broker. A missing row is the default in code.
CREATE TABLE policies (
    name text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[a-z]{1,32}$'),
    value jsonb NOT NULL CHECK (jsonb_typeof(value) = 'object'),
    version bigint NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- A group is a list of members, or a query over labels, type and kind; never both.
CREATE TABLE device_groups (
    name text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$'),
    description text NOT NULL DEFAULT '' CHECK (length(description) <= 256),
    query jsonb CHECK (jsonb_typeof(query) = 'object'),
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE device_group_members (
    group_name text COLLATE "C" NOT NULL REFERENCES device_groups (name) ON DELETE CASCADE,
    device_id text COLLATE "C" NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    added_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_name, device_id)
);
CREATE INDEX device_group_members_device ON device_group_members (device_id);

-- Enrolment tokens: `<id>.<secret>.<SHA-256 of the hub's CA>`; of the secret only the SHA-256 is kept.
-- labels are given to each gateway that enrols with it.
CREATE TABLE enrolment_tokens (
    id text COLLATE "C" PRIMARY KEY,
    token_hash bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    type text COLLATE "C" NOT NULL,
    labels jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(labels) = 'object'),
    uses integer NOT NULL CHECK (uses >= 1),
    used integer NOT NULL DEFAULT 0 CHECK (used BETWEEN 0 AND uses),
    replaces text COLLATE "C" REFERENCES devices (id),
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);

-- One enrolment that was answered or is under way: the same hardware asking again with the same key pair is the same
-- enrolment, so a lost answer costs no use of the token. public_key: the gateway's, SHA-256 of its DER form.
CREATE TABLE enrolments (
    token_id text COLLATE "C" NOT NULL REFERENCES enrolment_tokens (id),
    hardware_id text COLLATE "C" NOT NULL,
    public_key bytea NOT NULL CHECK (octet_length(public_key) = 32),
    gateway_id text COLLATE "C" NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (token_id, hardware_id)
);

-- Client certificates of gateways. serial: hex, as the CRL lists it.
CREATE TABLE gateway_certificates (
    serial text COLLATE "C" PRIMARY KEY,
    gateway_id text COLLATE "C" NOT NULL REFERENCES devices (id),
    public_key bytea NOT NULL CHECK (octet_length(public_key) = 32),
    not_before timestamptz NOT NULL,
    not_after timestamptz NOT NULL,
    issued_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    revoked_why text
);
CREATE INDEX gateway_certificates_gateway ON gateway_certificates (gateway_id, not_after);
CREATE INDEX gateway_certificates_revoked ON gateway_certificates (not_after) WHERE revoked_at IS NOT NULL;

-- One quarantine of a device: by whom (a token's id or `policy:<rule>`), why, on what evidence, until when.
CREATE TABLE quarantines (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id text COLLATE "C" NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT now(),
    by text NOT NULL,
    reason text NOT NULL,
    evidence jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(evidence) = 'object'),
    until timestamptz,
    released_at timestamptz,
    released_by text
);
CREATE UNIQUE INDEX quarantines_now ON quarantines (device_id) WHERE released_at IS NULL;
CREATE INDEX quarantines_ending ON quarantines (until) WHERE released_at IS NULL AND until IS NOT NULL;

-- Idempotency-Key of a creation: the same request again is the same device.
CREATE TABLE idempotency_keys (
    actor text NOT NULL,
    key text NOT NULL,
    request_sha256 bytea NOT NULL CHECK (octet_length(request_sha256) = 32),
    device_id text COLLATE "C" NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- The key that a rotation gave out; a registration's is its device's newest.
    key_id text COLLATE "C",
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

-- The audit log only grows: who (a token's id, or `policy:<rule>`) did what to whom, from which address. Personal
-- values (before, after) stand apart, so that forgetting a device can erase them; detail_sha256 still proves them.
CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    source text,
    action text NOT NULL,
    target text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}',
    detail_sha256 bytea CHECK (octet_length(detail_sha256) = 32)
);
CREATE INDEX audit_log_target ON audit_log (target, at);
CREATE INDEX audit_log_actor ON audit_log (actor, at);
CREATE INDEX audit_log_at ON audit_log (at);
CREATE TABLE audit_details (
    audit_id bigint PRIMARY KEY REFERENCES audit_log (id),
    before jsonb,
    after jsonb
);

CREATE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log only grows' USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER audit_log_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows();
CREATE TRIGGER audit_details_only_grow BEFORE UPDATE OR TRUNCATE ON audit_details
    FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows();

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
        'limits', d.limits,
        'replaced_ms', (extract(epoch FROM d.replaced_at) * 1000)::bigint
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
