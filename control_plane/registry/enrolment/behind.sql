-- Devices behind a gateway, called by name from behind.py.

-- name: take_turn
-- As a registration takes it (registry/store.py): one at a time for an id or serial, in one order for all.
SELECT pg_advisory_xact_lock(t.number)
FROM (SELECT DISTINCT hashtextextended(u.name, 0) AS number FROM unnest($1::text[]) AS u (name) ORDER BY 1) AS t

-- name: pending
SELECT count(*) FROM gateway_ownership AS o
JOIN devices AS d ON d.id = o.device_id AND d.status = 'pending'
WHERE o.gateway_id = $1 AND o.until_at IS NULL

-- name: found
SELECT
    d.status,
    d.registered_at IS NOT NULL AS registered,
    EXISTS (
        SELECT FROM gateway_ownership AS o WHERE o.device_id = d.id AND o.gateway_id = $2 AND o.until_at IS NULL
    ) AS mine
FROM devices AS d WHERE d.id = $1

-- name: serial_taken
SELECT EXISTS (SELECT FROM devices WHERE type = $1 AND serial = $2 AND status <> 'retired')

-- name: insert_type
INSERT INTO device_types (name) VALUES ($1) ON CONFLICT (name) DO NOTHING

-- name: insert_device
INSERT INTO devices (id, serial, type, kind, status, registered_at)
VALUES ($1, $2, $3, 'device', 'pending', now())
RETURNING version

-- name: insert_ownership
INSERT INTO gateway_ownership (device_id, gateway_id, from_at) VALUES ($1, $2, now())

-- name: own
SELECT
    d.id,
    d.status,
    coalesce((
        SELECT jsonb_agg(jsonb_build_object('key_id', c.key_id, 'hash', c.api_key_hash) ORDER BY c.key_id)
        FROM device_credentials AS c
        WHERE c.device_id = d.id AND c.held_at IS NOT NULL AND c.ended_at IS NULL
            AND (c.not_after IS NULL OR c.not_after > now())
    ), '[]'::jsonb)::text AS keys
FROM gateway_ownership AS o
JOIN devices AS d ON d.id = o.device_id AND d.registered_at IS NOT NULL
WHERE o.gateway_id = $1 AND o.until_at IS NULL
ORDER BY d.id
