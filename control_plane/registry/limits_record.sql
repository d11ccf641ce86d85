-- What types and the policy say of limits, called by name from limits_record.py.

-- name: take_turn
SELECT pg_advisory_xact_lock(hashtextextended('limits_record', 0))

-- name: read
-- Versions only grow and no type is ever deleted, so their sum tells which record is newer.
SELECT
    (SELECT value FROM policies WHERE name = 'limits') AS policy,
    coalesce((SELECT version FROM policies WHERE name = 'limits'), 0)
        + coalesce((SELECT sum(version) FROM device_types), 0)::bigint AS version,
    coalesce(
        (SELECT jsonb_object_agg(name, limits) FROM device_types WHERE limits IS NOT NULL), '{}'::jsonb
    )::text AS types

-- name: insert
INSERT INTO registry_outbox (topic, key, value, ce_id, ce_type) VALUES ($1, $2, $3, $4, $5)
