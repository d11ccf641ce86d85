-- Gateways' certificates, called by name from store.py.

-- name: gateway
-- Held, so that a revocation at the same moment waits and finds the new row, or is found by it.
SELECT kind, status, drains_until <= now() AS drained, revoked_at IS NOT NULL AS revoked
FROM devices WHERE id = $1 AND registered_at IS NOT NULL
FOR SHARE

-- name: insert
INSERT INTO gateway_certificates (serial, gateway_id, public_key, not_before, not_after)
VALUES ($1, $2, $3, $4, $5)

-- name: revoke
UPDATE gateway_certificates SET revoked_at = now(), revoked_why = $2
WHERE gateway_id = $1 AND revoked_at IS NULL AND not_after > now()
RETURNING serial

-- name: listed
-- What a broker must refuse: revoked for good, or of a gateway that may not connect now (and may again later).
SELECT g.serial, coalesce(g.revoked_at, d.updated_at) AS at
FROM gateway_certificates AS g
JOIN devices AS d ON d.id = g.gateway_id
WHERE g.not_after > now()
    AND (g.revoked_at IS NOT NULL OR d.status NOT IN ('provisioned', 'active') OR d.drains_until <= now())
ORDER BY g.serial

-- name: bearer
-- The gateway of a certificate that is good now.
SELECT g.gateway_id, g.public_key, d.status
FROM gateway_certificates AS g
JOIN devices AS d ON d.id = g.gateway_id
WHERE g.serial = $1 AND g.revoked_at IS NULL AND g.not_before <= now() AND g.not_after > now()
    AND (d.drains_until IS NULL OR d.drains_until > now())

-- name: of_gateway
SELECT serial, not_before, not_after, issued_at, revoked_at, revoked_why
FROM gateway_certificates WHERE gateway_id = $1 ORDER BY not_after DESC, serial LIMIT 100
