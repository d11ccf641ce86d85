-- The broker's whole file and what it brings, called by name from rebuild.py.

-- name: arriving
SELECT count(*) FROM device_credentials WHERE held_at IS NULL AND ended_at IS NULL AND why = 'import'

-- name: hold
UPDATE device_credentials SET held_at = now() WHERE key_id = ANY($1::text[]) AND held_at IS NULL AND ended_at IS NULL

-- name: changed_since
-- Devices whose keys or status changed after the file was read, so that the broker may have come back with the old.
SELECT DISTINCT device_id AS id FROM device_credentials WHERE ended_at >= $1
UNION
SELECT id FROM devices WHERE updated_at >= $1 AND status NOT IN ('provisioned', 'active')

-- name: held_since
-- Keys given out after the file was read, by another process: the restart may have taken them away again.
SELECT key_id FROM device_credentials WHERE held_at >= $1 AND ended_at IS NULL

-- name: policy
SELECT value FROM policies WHERE name = 'broker'

-- name: last
SELECT extract(epoch FROM now() - max(at))::float8 FROM audit_log WHERE actor = $1 AND action = 'broker.rebuild'
