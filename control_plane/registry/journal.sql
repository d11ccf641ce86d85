-- What a change leaves behind, called by name from journal.py.

-- name: bump
UPDATE devices SET version = version + 1, updated_at = now() WHERE id = $1 RETURNING version

-- name: view
SELECT view FROM device_view WHERE id = $1

-- name: insert_outbox
INSERT INTO registry_outbox (topic, key, value, ce_id, ce_type) VALUES ($1, $2, $3, $4, $5)

-- name: insert_audit
INSERT INTO audit_log (actor, source, action, target, detail, detail_sha256) VALUES ($1, $2, $3, $4, $5, $6)
RETURNING id

-- name: insert_audit_detail
INSERT INTO audit_details (audit_id, before, after)
SELECT $1, $2::jsonb -> 'before', $2::jsonb -> 'after'
