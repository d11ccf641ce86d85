-- The registry's statements, called by name from store.py.

-- name: token
SELECT
    role,
    token_hash,
    scopes,
    CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' END AS ended
FROM api_tokens
WHERE id = $1

-- name: take_turn
-- Held to the transaction's end. In one order for all, whatever the names are, so that two never wait for each other.
SELECT pg_advisory_xact_lock(t.number)
FROM (SELECT DISTINCT hashtextextended(u.name, 0) AS number FROM unnest($1::text[]) AS u (name) ORDER BY 1) AS t

-- name: lock_devices
-- All that a registration may replace, in order of id: one wants dev-1 with the serial of dev-2, another the reverse.
SELECT id FROM devices
WHERE id = $1::text
    OR (type = $2 AND serial = $3 AND status <> 'retired')
    OR id = (SELECT device_id FROM idempotency_keys WHERE actor = $4 AND key = $5::text)
ORDER BY id
FOR UPDATE

-- name: lock_device_of_key
-- The device before its keys, as a registration that takes its place does: the other order is a deadlock.
SELECT d.id FROM devices AS d
WHERE d.id = (SELECT c.device_id FROM device_credentials AS c WHERE c.key_id = $1)
FOR UPDATE

-- name: claim
SELECT
    i.request_sha256,
    i.device_id,
    d.registered_at IS NOT NULL AS registered,
    EXISTS (
        SELECT FROM device_credentials AS c
        WHERE c.device_id = d.id AND c.ended_at IS NULL AND c.last_used_at IS NOT NULL
    ) AS key_used
FROM idempotency_keys AS i
JOIN devices AS d ON d.id = i.device_id
WHERE i.actor = $1 AND i.key = $2
FOR UPDATE OF d

-- name: holder_of_id
SELECT id, registered_at IS NOT NULL AS registered FROM devices WHERE id = $1 FOR UPDATE

-- name: holder_of_serial
SELECT id, registered_at IS NOT NULL AS registered FROM devices
WHERE type = $1 AND serial = $2 AND status <> 'retired' FOR UPDATE

-- name: registered_kind
SELECT kind FROM devices WHERE id = $1 AND registered_at IS NOT NULL

-- name: registered_kind_for_change
SELECT kind, version FROM devices WHERE id = $1 AND registered_at IS NOT NULL FOR UPDATE

-- name: drop_unfinished
-- Deletes keys, ownership and idempotency key with it; the keys' ids are for the broker.
WITH keys AS (SELECT key_id FROM device_credentials WHERE device_id = $1),
gone AS (DELETE FROM devices WHERE id = $1 AND registered_at IS NULL)
SELECT key_id FROM keys

-- name: insert_type
INSERT INTO device_types (name) VALUES ($1) ON CONFLICT (name) DO NOTHING

-- name: insert_device
INSERT INTO devices (id, serial, type, kind, status, labels, location)
VALUES ($1, $2, $3, $4, 'provisioned', $5, $6)

-- name: insert_ownership
INSERT INTO gateway_ownership (device_id, gateway_id, from_at) VALUES ($1, $2, now())

-- name: insert_claim
INSERT INTO idempotency_keys (actor, key, request_sha256, device_id) VALUES ($1, $2, $3, $4)

-- name: insert_credential
INSERT INTO device_credentials (key_id, device_id, api_key_hash) VALUES ($1, $2, $3)

-- name: hold_credential
UPDATE device_credentials SET held_at = now() WHERE key_id = $1 AND held_at IS NULL AND ended_at IS NULL
RETURNING device_id

-- name: finish_device
UPDATE devices SET registered_at = now(), updated_at = now() WHERE id = $1 AND registered_at IS NULL RETURNING version

-- name: end_unseen
WITH renewed AS (UPDATE device_credentials SET rotated_at = now() WHERE key_id = $2)
UPDATE device_credentials SET ended_at = now()
WHERE device_id = $1 AND key_id <> $2 AND ended_at IS NULL AND last_used_at IS NULL
RETURNING key_id

-- name: drop_credential
DELETE FROM device_credentials WHERE key_id = $1 AND held_at IS NULL

-- name: device
SELECT d.*, o.gateway_id
FROM devices AS d
LEFT JOIN gateway_ownership AS o ON o.device_id = d.id AND o.until_at IS NULL
WHERE d.id = $1 AND d.registered_at IS NOT NULL

-- name: keys
SELECT key_id, created_at, last_used_at FROM device_credentials
WHERE device_id = $1 AND held_at IS NOT NULL AND ended_at IS NULL
ORDER BY created_at

-- name: end_ownership
UPDATE gateway_ownership SET until_at = greatest(now(), from_at) WHERE device_id = $1 AND until_at IS NULL

-- name: owner
SELECT gateway_id FROM gateway_ownership WHERE device_id = $1 AND until_at IS NULL

-- name: types
SELECT name, metrics, limits, version, updated_at FROM device_types WHERE name > $1 ORDER BY name LIMIT $2

-- name: type
SELECT name, metrics, limits, version, updated_at FROM device_types WHERE name = $1

-- name: put_type
INSERT INTO device_types (name, metrics, limits) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE
SET metrics = excluded.metrics, limits = excluded.limits, version = device_types.version + 1, updated_at = now()
RETURNING name, metrics, limits, version, updated_at

-- name: sweep_devices
-- An import takes longer; it is mended by being done again within a day.
DELETE FROM devices AS d
WHERE d.registered_at IS NULL
    AND d.created_at < now() - CASE
        WHEN EXISTS (SELECT FROM device_credentials AS c WHERE c.device_id = d.id AND c.why = 'import')
            THEN interval '1 day'
        ELSE $1::interval
    END

-- name: sweep_credentials
DELETE FROM device_credentials
WHERE held_at IS NULL
    AND created_at < now() - CASE WHEN why = 'import' THEN interval '1 day' ELSE $1::interval END

-- name: sweep_claims
DELETE FROM idempotency_keys WHERE created_at < now() - $1::interval

-- name: call_reconciler
NOTIFY registry_reconcile

-- name: ingest_subscribed
SELECT EXISTS (SELECT FROM ingest_slots WHERE subscribed_at IS NOT NULL)

-- name: outbox_depth
SELECT count(*) AS waiting, coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest_s
FROM registry_outbox

-- name: outbox_head
SELECT seq, topic, key, value, ce_id, ce_type, created_at FROM registry_outbox ORDER BY seq LIMIT $1

-- name: outbox_done
DELETE FROM registry_outbox WHERE seq = ANY($1::bigint[])
