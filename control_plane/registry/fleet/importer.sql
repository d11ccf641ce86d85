-- Many devices at once, called by name from importer.py. A batch stands in the temporary table `import_lines`.

-- name: stage
CREATE TEMPORARY TABLE IF NOT EXISTS import_lines (
    line integer NOT NULL,
    id text COLLATE "C" NOT NULL,
    serial text NOT NULL,
    type text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    gateway_id text COLLATE "C",
    labels text NOT NULL,
    location text,
    limits text,
    pseudonym text NOT NULL,
    key_id text,
    hash text
)

-- name: clear
TRUNCATE import_lines

-- name: now
SELECT now()

-- name: taken
-- Lines whose id or serial is a registered device's. Each line asks two indexes: nobody knows the statistics of a
-- temporary table, and a join that reads the whole fleet must not be thought cheaper.
SELECT
    l.line,
    CASE WHEN d.id IS NOT NULL THEN 'id-taken' ELSE 'serial-taken' END AS why
FROM import_lines AS l
LEFT JOIN LATERAL (
    SELECT i.id FROM devices AS i WHERE i.id = l.id AND i.registered_at IS NOT NULL LIMIT 1
) AS d ON true
LEFT JOIN LATERAL (
    SELECT i.id FROM devices AS i
    WHERE i.type = l.type AND i.serial = l.serial AND i.status <> 'retired' AND i.registered_at IS NOT NULL LIMIT 1
) AS s ON true
WHERE d.id IS NOT NULL OR s.id IS NOT NULL

-- name: drop_lines
DELETE FROM import_lines WHERE line = ANY($1::integer[])

-- name: no_gateway
-- $1: keys are made, so a gateway of this import is not registered before its end.
SELECT l.line
FROM import_lines AS l
LEFT JOIN LATERAL (
    SELECT i.id FROM devices AS i
    WHERE i.id = l.gateway_id AND i.kind = 'gateway' AND (i.registered_at IS NOT NULL OR $1) LIMIT 1
) AS g ON true
WHERE l.gateway_id IS NOT NULL AND g.id IS NULL
    AND l.gateway_id NOT IN (SELECT own.id FROM import_lines AS own WHERE own.kind = 'gateway')

-- name: replace_unfinished
-- Registrations that were never answered make way, as they do for a single one.
DELETE FROM devices AS d USING import_lines AS l
WHERE d.registered_at IS NULL AND (d.id = l.id OR (d.type = l.type AND d.serial = l.serial AND d.status <> 'retired'))

-- name: unfinished
SELECT EXISTS (SELECT FROM devices WHERE registered_at IS NULL)

-- name: insert_types
INSERT INTO device_types (name) SELECT DISTINCT type FROM import_lines ON CONFLICT (name) DO NOTHING

-- name: insert_devices
-- In order of id, as every import does: two at once wait for each other, never both. $1: visible at once.
INSERT INTO devices (id, serial, type, kind, status, labels, location, limits, pseudonym, registered_at)
SELECT id, serial, type, kind, 'provisioned', labels::jsonb, location::jsonb, limits::jsonb, pseudonym,
    CASE WHEN $1 THEN now() END
FROM import_lines ORDER BY id
ON CONFLICT DO NOTHING
RETURNING id

-- name: insert_ownership
INSERT INTO gateway_ownership (device_id, gateway_id, from_at)
SELECT id, gateway_id, $1 FROM import_lines WHERE gateway_id IS NOT NULL

-- name: insert_keys
INSERT INTO device_credentials (key_id, device_id, api_key_hash, why)
SELECT key_id, id, hash, 'import' FROM import_lines WHERE key_id IS NOT NULL

-- name: finish
-- The broker holds their keys: make them visible. Those that lost their place meanwhile are not returned.
UPDATE devices AS d SET registered_at = now(), updated_at = now()
WHERE d.id = ANY($1::text[]) AND d.registered_at IS NULL
    AND EXISTS (SELECT FROM device_credentials AS c WHERE c.device_id = d.id AND c.held_at IS NOT NULL)
RETURNING d.id

-- name: abandon
DELETE FROM devices WHERE id = ANY($1::text[]) AND registered_at IS NULL

-- name: analyze
ANALYZE devices, device_labels, gateway_ownership
