-- Quarantines, called by name from keeper.py and shelf.py.

-- name: supersede
-- One that is open although its device is not quarantined: it was suspended and resumed, or retired.
UPDATE quarantines SET released_at = now(), released_by = 'superseded' WHERE device_id = $1 AND released_at IS NULL

-- name: insert
INSERT INTO quarantines (device_id, by, reason, evidence, until)
VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5::float8))
RETURNING id, at, until

-- name: close
UPDATE quarantines SET released_at = now(), released_by = $2 WHERE device_id = $1 AND released_at IS NULL
RETURNING id

-- name: due
SELECT device_id FROM quarantines
WHERE released_at IS NULL AND until <= now()
ORDER BY until
LIMIT 100

-- name: next_due_s
SELECT extract(epoch FROM min(until) - now())::float8 FROM quarantines WHERE released_at IS NULL AND until IS NOT NULL

-- name: wake
SELECT pg_notify('registry_quarantine', '')

-- name: list
SELECT q.id, q.device_id, d.status, q.at, q.by, q.reason, q.evidence::text, q.until, q.released_at, q.released_by
FROM quarantines AS q
JOIN devices AS d ON d.id = q.device_id
WHERE ($1::bigint IS NULL OR q.id < $1)
    AND ($2::boolean OR q.released_at IS NULL)
    AND ($3::text IS NULL OR q.device_id = $3)
ORDER BY q.id DESC
LIMIT $4

-- name: quarantined
SELECT count(*) FROM quarantines WHERE released_at IS NULL

-- name: releases_since
SELECT device_id, max(released_at) AS at FROM quarantines
WHERE released_at > now() - make_interval(secs => $1::float8)
GROUP BY device_id

-- name: suspects
-- Of those named: who is registered and neither quarantined nor out of service, and behind which gateway.
SELECT d.id, d.status, o.gateway_id
FROM devices AS d
LEFT JOIN gateway_ownership AS o ON o.device_id = d.id AND o.until_at IS NULL
WHERE d.id = ANY($1::text[]) AND d.registered_at IS NOT NULL
