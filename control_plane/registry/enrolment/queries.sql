-- Enrolment's statements, called by name from store.py.

-- name: take_turn
-- Held to the transaction's end, in one order for all; the names are those of a registration (registry/store.py).
SELECT pg_advisory_xact_lock(t.number)
FROM (SELECT DISTINCT hashtextextended(u.name, 0) AS number FROM unnest($1::text[]) AS u (name) ORDER BY 1) AS t

-- name: token
SELECT * FROM enrolment_tokens WHERE id = $1

-- name: tokens
SELECT * FROM enrolment_tokens WHERE id > $1 ORDER BY id LIMIT $2

-- name: insert_token
INSERT INTO enrolment_tokens (id, token_hash, type, labels, uses, replaces, created_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, now() + $8::interval)
RETURNING *

-- name: renew_token
-- Its first answer was lost: nobody has the secret. Another request of the same name changes nothing.
UPDATE enrolment_tokens SET token_hash = $2, created_at = now(), expires_at = now() + $3::interval
WHERE id = $1 AND used = 0 AND revoked_at IS NULL
    AND (type, labels, uses) = ($4, $5::jsonb, $6) AND replaces IS NOT DISTINCT FROM $7::text
RETURNING *

-- name: revoke_token
UPDATE enrolment_tokens SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING id

-- name: spend
UPDATE enrolment_tokens SET used = used + 1 WHERE id = $1 AND used < uses AND revoked_at IS NULL RETURNING used

-- name: now
SELECT now()

-- name: earlier_key
SELECT public_key FROM enrolments WHERE token_id = $1 AND hardware_id = $2

-- name: hardware
SELECT id, kind, status, type, serial, hardware_id, replaced_by IS NOT NULL AS replaced, revoked_at IS NOT NULL AS revoked
FROM devices WHERE hardware_id = $1 AND status <> 'retired' AND registered_at IS NOT NULL

-- name: latest_of_hardware
SELECT id, revoked_at IS NOT NULL AS revoked FROM devices
WHERE hardware_id = $1 AND registered_at IS NOT NULL ORDER BY registered_at DESC LIMIT 1

-- name: gateway
SELECT id, kind, status, type, serial, hardware_id, replaced_by IS NOT NULL AS replaced, revoked_at IS NOT NULL AS revoked
FROM devices WHERE id = $1 AND registered_at IS NOT NULL

-- name: holder_of_id
SELECT id, registered_at IS NOT NULL AS registered FROM devices WHERE id = $1

-- name: holder_of_serial
SELECT id, registered_at IS NOT NULL AS registered FROM devices WHERE type = $1 AND serial = $2 AND status <> 'retired'

-- name: unfinished
SELECT id FROM devices
WHERE registered_at IS NULL AND (hardware_id = $1 OR (type = $2 AND serial = $3) OR id = $4::text)
ORDER BY id
FOR UPDATE

-- name: drop_unfinished
WITH keys AS (SELECT key_id FROM device_credentials WHERE device_id = $1),
gone AS (DELETE FROM devices WHERE id = $1 AND registered_at IS NULL)
SELECT key_id FROM keys

-- name: insert_type
INSERT INTO device_types (name) VALUES ($1) ON CONFLICT (name) DO NOTHING

-- name: insert_gateway
INSERT INTO devices (id, serial, type, kind, status, labels, hardware_id)
VALUES ($1, $2, $3, 'gateway', 'provisioned', $4, $5)

-- name: insert_credential
INSERT INTO device_credentials (key_id, device_id, api_key_hash, why) VALUES ($1, $2, $3, 'enrolment')

-- name: lock_token
SELECT id FROM enrolment_tokens WHERE id = $1 FOR UPDATE

-- name: lock_devices
-- The gateway, the one that it replaces, and whose owner changes: in order of id, as everybody locks.
SELECT id FROM devices
WHERE id = $1 OR id = $2::text
    OR id IN (SELECT device_id FROM gateway_ownership WHERE gateway_id = $2::text)
ORDER BY id
FOR UPDATE

-- name: hold_credential
UPDATE device_credentials SET held_at = now() WHERE key_id = $1 AND held_at IS NULL AND ended_at IS NULL
RETURNING device_id

-- name: finish_gateway
UPDATE devices SET registered_at = now(), updated_at = now() WHERE id = $1 AND registered_at IS NULL RETURNING version

-- name: renew_gateway
UPDATE devices SET labels = labels || $2::jsonb, hardware_id = coalesce($3::text, hardware_id)
WHERE id = $1 AND registered_at IS NOT NULL AND replaced_by IS NULL AND status IN ('provisioned', 'active')
RETURNING id

-- name: remember
INSERT INTO enrolments (token_id, hardware_id, public_key, gateway_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (token_id, hardware_id) DO UPDATE
SET public_key = excluded.public_key, gateway_id = excluded.gateway_id, at = now()

-- name: end_unseen
UPDATE device_credentials SET ended_at = now(), ended_why = 'enrolment'
WHERE device_id = $1 AND key_id <> $2 AND ended_at IS NULL AND last_used_at IS NULL
RETURNING key_id

-- name: end_later
UPDATE device_credentials SET not_after = least(not_after, now() + $3::interval)
WHERE device_id = $1 AND key_id <> $2 AND ended_at IS NULL

-- name: drop_credential
DELETE FROM device_credentials WHERE key_id = $1 AND held_at IS NULL RETURNING key_id

-- name: devices_of
-- Those that are behind the gateway now, and those that lost it when it was retired or revoked and have no other.
SELECT DISTINCT o.device_id
FROM gateway_ownership AS o
JOIN devices AS d ON d.id = o.device_id AND d.status <> 'retired'
JOIN devices AS g ON g.id = o.gateway_id
WHERE o.gateway_id = $1
    AND (
        o.until_at IS NULL
        OR (
            o.until_at >= g.retired_at
            AND NOT EXISTS (SELECT FROM gateway_ownership AS n WHERE n.device_id = d.id AND n.until_at IS NULL)
        )
    )
ORDER BY o.device_id

-- name: end_ownership
UPDATE gateway_ownership SET until_at = greatest(now(), from_at) WHERE device_id = $1 AND until_at IS NULL

-- name: insert_ownership
INSERT INTO gateway_ownership (device_id, gateway_id, from_at) VALUES ($1, $2, now())

-- name: mark_replaced
UPDATE devices SET replaced_by = $2, replaced_at = now(),
    drains_until = CASE WHEN status <> 'retired' THEN now() + $3::interval END
WHERE id = $1 AND replaced_by IS NULL
RETURNING drains_until

-- name: drained
SELECT id FROM devices WHERE drains_until <= now() AND status <> 'retired' ORDER BY drains_until LIMIT $1

-- name: owned_ids
SELECT device_id FROM gateway_ownership WHERE gateway_id = $1 AND until_at IS NULL ORDER BY device_id

-- name: policy
SELECT value FROM policies WHERE name = 'enrolment'
