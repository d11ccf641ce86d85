-- Moves of a device's life, called by name from moves.py.

-- name: hold
SELECT status, status_before FROM devices WHERE id = $1 AND registered_at IS NOT NULL FOR UPDATE

-- name: set_status
UPDATE devices SET status = $2, status_before = $3 WHERE id = $1

-- name: end_keys
UPDATE device_credentials SET ended_at = now(), ended_why = $2 WHERE device_id = $1 AND ended_at IS NULL

-- name: end_ownership
UPDATE gateway_ownership SET until_at = greatest(now(), from_at) WHERE device_id = $1 AND until_at IS NULL

-- name: mark_retired
UPDATE devices SET retired_at = now(), revoked_at = CASE WHEN $2 THEN now() END WHERE id = $1
