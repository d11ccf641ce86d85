-- Keys of devices, called by name from store.py.

-- name: presented
SELECT
    c.device_id,
    c.api_key_hash,
    d.kind,
    d.status,
    coalesce(c.last_used_at > now() - interval '1 minute', false) AS fresh
FROM device_credentials AS c
JOIN devices AS d ON d.id = c.device_id
WHERE c.key_id = $1
    AND c.held_at IS NOT NULL
    AND c.ended_at IS NULL
    AND (c.not_before IS NULL OR c.not_before <= now())
    AND (c.not_after IS NULL OR c.not_after > now())
    AND d.registered_at IS NOT NULL

-- name: self
SELECT d.id, d.kind, d.status, o.gateway_id
FROM devices AS d
LEFT JOIN gateway_ownership AS o ON o.device_id = d.id AND o.until_at IS NULL
WHERE d.id = $1 AND d.registered_at IS NOT NULL

-- name: own_devices
SELECT o.device_id
FROM gateway_ownership AS o
JOIN devices AS d ON d.id = o.device_id
WHERE o.gateway_id = $1 AND o.until_at IS NULL AND d.registered_at IS NOT NULL
ORDER BY o.device_id
LIMIT $2

-- name: keys
SELECT key_id, why, created_at, last_used_at, not_before, not_after, replaces
FROM device_credentials
WHERE device_id = $1 AND held_at IS NOT NULL AND ended_at IS NULL AND (not_after IS NULL OR not_after > now())
ORDER BY created_at, key_id

-- name: use_keys
-- Locked in one order, so that two batches never wait for each other; the devices' rows are not touched here.
WITH held AS (
    SELECT c.key_id, u.at
    FROM device_credentials AS c
    JOIN unnest($1::text[], $2::timestamptz[]) AS u (key_id, at) ON u.key_id = c.key_id
    ORDER BY c.key_id
    FOR UPDATE OF c
)
UPDATE device_credentials AS c SET last_used_at = greatest(c.last_used_at, held.at)
FROM held
WHERE c.key_id = held.key_id
