-- name: look
SELECT holder, renewals FROM ingest_slots WHERE slot = $1

-- name: take
-- If the slot is new, free, or ours; or if it still is as it was watched ($4, NULL if nothing was watched).
INSERT INTO ingest_slots AS s (slot, holder, incarnation) VALUES ($1, $2, $3)
ON CONFLICT (slot) DO UPDATE SET
    holder = EXCLUDED.holder,
    incarnation = EXCLUDED.incarnation,
    renewals = s.renewals + 1,
    taken_at = now(),
    renewed_at = now()
WHERE s.holder IS NULL OR s.holder = EXCLUDED.holder OR s.renewals = $4
RETURNING s.renewals

-- name: renew
UPDATE ingest_slots SET renewals = renewals + 1, renewed_at = now()
WHERE slot = $1 AND holder = $2 AND incarnation = $3
RETURNING renewals

-- name: subscribed
UPDATE ingest_slots SET subscribed_at = COALESCE(subscribed_at, now())
WHERE slot = $1 AND holder = $2 AND incarnation = $3
RETURNING subscribed_at

-- name: release
UPDATE ingest_slots SET holder = NULL, incarnation = NULL, renewals = renewals + 1, renewed_at = now()
WHERE slot = $1 AND holder = $2 AND incarnation = $3
RETURNING renewals
