-- Keys of devices, called by name from store.py.

-- name: presented
SELECT
    c.device_id,
    c.api_key_hash,
    d.kind,
    d.status,
    d.replaced_by IS NOT NULL AS replaced,
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

-- name: policy
SELECT value FROM policies WHERE name = $1

-- name: hold_device
SELECT status FROM devices WHERE id = $1 AND registered_at IS NOT NULL FOR UPDATE

-- name: hold_devices
SELECT id FROM devices WHERE id = ANY($1::text[]) AND registered_at IS NOT NULL ORDER BY id FOR UPDATE

-- name: ring
-- The caller holds the device's row.
SELECT key_id, why, held_at IS NOT NULL AS held, last_used_at IS NOT NULL AS used, not_before, not_after, replaces
FROM device_credentials
WHERE device_id = $1 AND ended_at IS NULL
ORDER BY created_at, key_id
FOR UPDATE

-- name: insert_key
-- The clock's time and not the transaction's, which may have waited for the device's row: keys stand in this order.
INSERT INTO device_credentials (key_id, device_id, api_key_hash, created_at, not_before, not_after, why, replaces)
VALUES ($1, $2, $3, clock_timestamp(), $4, $5, $6, $7)

-- name: set_held
UPDATE device_credentials SET held_at = now(), rotated_at = CASE WHEN $2 THEN now() END WHERE key_id = $1

-- name: set_end
UPDATE device_credentials SET not_after = $2 WHERE key_id = $1

-- name: set_ended
UPDATE device_credentials SET ended_at = now(), ended_why = $2 WHERE key_id = $1

-- name: drop_reserved
DELETE FROM device_credentials WHERE key_id = $1 AND held_at IS NULL

-- name: device_of_key
SELECT device_id FROM device_credentials WHERE key_id = $1

-- name: claim
SELECT i.request_sha256, i.key_id, c.last_used_at IS NOT NULL AS used
FROM idempotency_keys AS i
LEFT JOIN device_credentials AS c ON c.key_id = i.key_id
WHERE i.actor = $1 AND i.key = $2

-- name: insert_claim
INSERT INTO idempotency_keys (actor, key, request_sha256, device_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (actor, key) DO NOTHING

-- name: set_claim
UPDATE idempotency_keys SET key_id = $3 WHERE actor = $1 AND key = $2

-- name: to_follow
-- Devices with a key in use that nothing followed from yet. NULL: among all.
SELECT c.device_id, array_agg(c.key_id ORDER BY c.key_id) AS keys
FROM device_credentials AS c
JOIN devices AS d ON d.id = c.device_id
LEFT JOIN device_credentials AS r ON r.key_id = c.replaces AND r.ended_at IS NULL AND r.not_after IS NULL
WHERE ($1::text[] IS NULL OR c.key_id = ANY($1))
    AND c.last_used_at IS NOT NULL
    AND c.ended_at IS NULL
    AND c.held_at IS NOT NULL
    AND d.registered_at IS NOT NULL
    AND (d.status = 'provisioned' OR r.key_id IS NOT NULL)
GROUP BY c.device_id
ORDER BY c.device_id
LIMIT $2

-- name: due
SELECT DISTINCT device_id FROM device_credentials
WHERE ended_at IS NULL AND held_at IS NOT NULL AND not_after <= now()
ORDER BY device_id
LIMIT $1

-- name: begun
SELECT DISTINCT device_id FROM device_credentials
WHERE ended_at IS NULL AND held_at IS NOT NULL AND not_before <= now()
ORDER BY device_id
LIMIT $1

-- name: set_begun
UPDATE device_credentials SET not_before = NULL
WHERE device_id = $1 AND ended_at IS NULL AND not_before <= now()

-- name: next_change_s
SELECT extract(epoch FROM least(
    (SELECT min(not_after) FROM device_credentials WHERE ended_at IS NULL AND not_after IS NOT NULL AND held_at IS NOT NULL),
    (SELECT min(not_before) FROM device_credentials WHERE ended_at IS NULL AND not_before IS NOT NULL AND held_at IS NOT NULL)
) - clock_timestamp())::float8

-- name: overdue
-- Living keys without an end, oldest first; their devices would have replaced them by now if they could.
SELECT c.key_id, c.device_id, d.kind, c.created_at, c.last_used_at
FROM device_credentials AS c
JOIN devices AS d ON d.id = c.device_id
WHERE c.ended_at IS NULL
    AND c.held_at IS NOT NULL
    AND c.not_after IS NULL
    AND c.created_at < now() - make_interval(secs => $1)
    AND d.registered_at IS NOT NULL
    AND d.status = ANY($2::text[])
ORDER BY c.created_at, c.key_id
LIMIT $3

-- name: overdue_count
SELECT count(*)
FROM device_credentials AS c
JOIN devices AS d ON d.id = c.device_id
WHERE c.ended_at IS NULL
    AND c.held_at IS NOT NULL
    AND c.not_after IS NULL
    AND c.created_at < now() - make_interval(secs => $1)
    AND d.registered_at IS NOT NULL
    AND d.status = ANY($2::text[])
