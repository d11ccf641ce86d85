-- Who may speak, for years: the whole life of devices and their keys, groups, enrolment, certificates, limits,
-- quarantine, and an audit log that says who did what, from where, before and after.

CREATE EXTENSION IF NOT EXISTS pg_trgm;

-- Tokens. scopes: families of operations (shared/authority.py) that the token is narrowed to; empty: all of its role.
ALTER TABLE api_tokens
    ADD COLUMN scopes text[] NOT NULL DEFAULT '{}',
    ADD COLUMN expires_at timestamptz,
    ADD COLUMN created_by text,
    ADD COLUMN last_used_at timestamptz;

-- location: {"place": "hall 3", "lat": 52.5, "lon": 13.4}, each part optional.
-- status_before: where a release or a resume goes back to.
-- hardware_id: what a gateway's hardware said of itself when it enrolled (SHA-256, hex): the same hardware enrolled
-- again keeps its id. replaced_at, drains_until: a replaced gateway may send its own batches with what it accepted
-- before, nothing else, until then.
-- revoked_at: cut off for good (stolen). forgotten_at: its personal data was erased.
-- pseudonym: its name in logs, so that whois finds it; NULL until the registry wrote it.
ALTER TABLE devices
    ADD COLUMN location jsonb CHECK (jsonb_typeof(location) = 'object'),
    ADD COLUMN status_before text
        CHECK (status_before IN ('pending', 'provisioned', 'active')),
    ADD COLUMN hardware_id text COLLATE "C",
    ADD COLUMN replaced_by text COLLATE "C" REFERENCES devices (id),
    ADD COLUMN replaced_at timestamptz,
    ADD COLUMN drains_until timestamptz,
    ADD COLUMN retired_at timestamptz,
    ADD COLUMN revoked_at timestamptz,
    ADD COLUMN forgotten_at timestamptz,
    ADD COLUMN pseudonym text COLLATE "C",
    ADD COLUMN certificate_only boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX devices_hardware ON devices (hardware_id) WHERE hardware_id IS NOT NULL AND status <> 'retired';
CREATE INDEX devices_serial_text ON devices USING gin (serial gin_trgm_ops);
CREATE INDEX devices_status ON devices (status, id) WHERE registered_at IS NOT NULL;
CREATE INDEX devices_type ON devices (type, id) WHERE registered_at IS NOT NULL;
CREATE INDEX devices_gateways ON devices (id) WHERE kind = 'gateway' AND registered_at IS NOT NULL;
CREATE INDEX devices_pseudonym ON devices (pseudonym) WHERE pseudonym IS NOT NULL;
CREATE INDEX devices_no_pseudonym ON devices (id) WHERE pseudonym IS NULL AND forgotten_at IS NULL;
CREATE INDEX gateway_ownership_page ON gateway_ownership (gateway_id, device_id) WHERE until_at IS NULL;
DROP INDEX gateway_ownership_gateway;
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
INSERT INTO device_labels (name, value, device_id)
SELECT l.key, l.value, d.id FROM devices AS d, jsonb_each_text(d.labels) AS l;

-- replaced_ms: a gateway whose place another took says nothing of later moments.
CREATE OR REPLACE VIEW device_view AS
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

-- A type's default limits; a device's own go before them, the policy `limits` stands behind both.
ALTER TABLE device_types
    ADD COLUMN limits jsonb CHECK (jsonb_typeof(limits) = 'object');

-- A key is valid from not_before until not_after (NULL: no end); a rotation gives the old key an end, so both are valid
-- for the overlap. why: registration, reissue, rotation, schedule, self, enrolment, import.
-- replaces: the key whose end this one's first use brings about (agent-driven rotation, confirmed by use).
ALTER TABLE device_credentials
    ADD COLUMN not_before timestamptz,
    ADD COLUMN not_after timestamptz,
    ADD COLUMN why text NOT NULL DEFAULT 'registration',
    ADD COLUMN replaces text COLLATE "C",
    ADD COLUMN ended_why text;
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

-- The key that a rotation gave out under this Idempotency-Key; a registration's is its device's newest.
ALTER TABLE idempotency_keys ADD COLUMN key_id text COLLATE "C";

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

-- The audit log only grows. Personal values (before, after) stand apart, so that forgetting a device can erase them;
-- detail_sha256 still proves what they were.
ALTER TABLE audit_log
    ADD COLUMN source text,
    ADD COLUMN detail_sha256 bytea CHECK (octet_length(detail_sha256) = 32);
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
