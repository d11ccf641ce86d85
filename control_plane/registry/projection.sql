-- What the broker should hold, called by name from projection_store.py.

-- A record's name is a key's id, or, for a gateway that comes by certificate, the gateway's own: a record without a
-- secret, by which its session can be closed.

-- name: range
-- Beyond $1, up to $2 (NULL: to the end), in order of name. Keys that ended long ago are not read each time.
SELECT
    c.key_id AS name,
    c.device_id AS client_id,
    CASE WHEN c.ended_at IS NOT NULL THEN 'ended' WHEN c.held_at IS NOT NULL THEN 'held' ELSE 'pending' END AS state,
    d.status,
    coalesce(c.not_before <= now(), true) AND coalesce(c.not_after > now(), true)
        AND coalesce(d.drains_until > now(), true) AS valid,
    c.ended_why IS NOT DISTINCT FROM 'revoked' AS revoked
FROM device_credentials AS c
JOIN devices AS d ON d.id = c.device_id
WHERE c.key_id > $1
    AND ($2::text IS NULL OR c.key_id <= $2)
    AND (c.ended_at IS NULL OR c.ended_at > now() - interval '1 day')
ORDER BY c.key_id
LIMIT $3

-- name: doors
-- The records of gateways with certificates: few, and read whole.
SELECT
    g.gateway_id AS name,
    g.gateway_id AS client_id,
    'door' AS state,
    d.status,
    bool_or(g.revoked_at IS NULL) AND coalesce(d.drains_until > now(), true) AS valid,
    d.revoked_at IS NOT NULL AS revoked
FROM gateway_certificates AS g
JOIN devices AS d ON d.id = g.gateway_id
WHERE g.not_after > now() AND ($1::text IS NULL OR g.gateway_id = $1)
GROUP BY g.gateway_id, d.status, d.drains_until, d.revoked_at
ORDER BY g.gateway_id

-- name: of_device
SELECT
    c.key_id AS name,
    c.device_id AS client_id,
    CASE WHEN c.ended_at IS NOT NULL THEN 'ended' WHEN c.held_at IS NOT NULL THEN 'held' ELSE 'pending' END AS state,
    d.status,
    coalesce(c.not_before <= now(), true) AND coalesce(c.not_after > now(), true)
        AND coalesce(d.drains_until > now(), true) AS valid,
    c.ended_why IS NOT DISTINCT FROM 'revoked' AS revoked
FROM device_credentials AS c
JOIN devices AS d ON d.id = c.device_id
WHERE c.device_id = $1 AND (c.ended_at IS NULL OR c.ended_at > now() - interval '1 day')

-- name: known
-- However long ago they ended.
SELECT key_id AS name FROM device_credentials WHERE key_id = ANY($1::text[])

-- name: held
SELECT key_id AS name FROM device_credentials
WHERE key_id = ANY($1::text[]) AND held_at IS NOT NULL AND ended_at IS NULL

-- name: file
SELECT
    c.key_id AS name,
    c.device_id AS client_id,
    c.api_key_hash AS hash,
    d.status,
    coalesce(c.not_before <= now(), true) AND coalesce(c.not_after > now(), true)
        AND coalesce(d.drains_until > now(), true) AS valid,
    c.held_at IS NULL AND c.why = 'import' AS arriving
FROM device_credentials AS c
JOIN devices AS d ON d.id = c.device_id
WHERE c.ended_at IS NULL

-- name: now
SELECT now()
