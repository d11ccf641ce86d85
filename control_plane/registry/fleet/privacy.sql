-- Pseudonyms and forgetting, called by name from privacy.py.

-- name: by_pseudonym
SELECT id FROM devices WHERE pseudonym = $1

-- name: without
SELECT id FROM devices WHERE pseudonym IS NULL AND forgotten_at IS NULL ORDER BY id LIMIT $1

-- name: sample
SELECT id, pseudonym FROM devices WHERE pseudonym IS NOT NULL LIMIT 1


-- name: reset
-- The key was changed: every name is made anew.
UPDATE devices SET pseudonym = NULL WHERE pseudonym IS NOT NULL

-- name: name_them
UPDATE devices AS d SET pseudonym = u.pseudonym
FROM unnest($1::text[], $2::text[]) AS u (id, pseudonym)
WHERE d.id = u.id AND d.forgotten_at IS NULL

-- name: hold
SELECT status FROM devices WHERE id = $1 AND registered_at IS NOT NULL FOR UPDATE

-- name: forget_device
UPDATE devices SET
    serial = $2, labels = '{}', location = NULL, limits = NULL, hardware_id = NULL, pseudonym = NULL,
    forgotten_at = now(), updated_at = now(), version = version + 1
WHERE id = $1
RETURNING version, forgotten_at

-- name: forget_groups
DELETE FROM device_group_members WHERE device_id = $1

-- name: forget_gateways
DELETE FROM gateway_ownership WHERE device_id = $1

-- name: forget_keys
DELETE FROM device_credentials WHERE device_id = $1 AND ended_at IS NOT NULL

-- name: forget_requests
DELETE FROM idempotency_keys WHERE device_id = $1

-- name: forget_enrolments
DELETE FROM enrolments WHERE gateway_id = $1

-- name: forget_quarantines
DELETE FROM quarantines WHERE device_id = $1

-- name: forget_audit_details
DELETE FROM audit_details AS d USING audit_log AS a WHERE a.id = d.audit_id AND a.target = $1

-- name: forget_telemetry
DELETE FROM telemetry WHERE device_id = $1

-- name: forget_aggregates
DELETE FROM telemetry_aggregates WHERE device_id = $1

-- name: forget_anomalies
DELETE FROM anomalies WHERE device_id = $1

-- name: tombstone
INSERT INTO registry_outbox (topic, key, value, ce_id, ce_type) VALUES ($1, $2, NULL, $3, $4)
