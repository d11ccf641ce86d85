-- Tokens and the audit log, called by name from token_store.py and audit_store.py.

-- name: creator
-- Held against a revocation that comes at the same moment.
SELECT expires_at, revoked_at IS NOT NULL OR coalesce(expires_at <= now(), false) AS ended
FROM api_tokens WHERE id = $1 FOR SHARE

-- name: insert_token
INSERT INTO api_tokens (id, name, role, token_hash, scopes, expires_at, created_by)
VALUES ($1, $2, $3, $4, $5::text[], $6, $7)
ON CONFLICT (id) DO NOTHING
RETURNING id

-- name: renew_token
-- The answer with its secret was never seen: a new secret ends the old one.
UPDATE api_tokens SET token_hash = $2 WHERE id = $1

-- name: token_for_change
SELECT
    id, name, role, scopes, created_by, created_at, last_used_at, expires_at, revoked_at,
    CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'usable' END AS state
FROM api_tokens WHERE id = $1 FOR UPDATE

-- name: token_view
SELECT
    id, name, role, scopes, created_by, created_at, last_used_at, expires_at, revoked_at,
    CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'usable' END AS state
FROM api_tokens WHERE id = $1

-- name: tokens
SELECT
    id, name, role, scopes, created_by, created_at, last_used_at, expires_at, revoked_at,
    CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'usable' END AS state
FROM api_tokens
WHERE id > $1
    AND ($2::boolean IS NULL OR $2 = (revoked_at IS NULL AND coalesce(expires_at > now(), true)))
ORDER BY id
LIMIT $3

-- name: hold_admins
-- In one order for all; whoever waits here sees what the other left.
SELECT id, expires_at FROM api_tokens
WHERE role = 'admin' AND scopes = '{}' AND revoked_at IS NULL AND coalesce(expires_at > now(), true)
ORDER BY id
FOR UPDATE

-- name: revoke_token
UPDATE api_tokens SET revoked_at = now() WHERE id = $1

-- name: use_tokens
UPDATE api_tokens AS t SET last_used_at = greatest(t.last_used_at, u.at)
FROM unnest($1::text[], $2::timestamptz[]) AS u (id, at)
WHERE t.id = u.id

-- name: audit_newest_first
SELECT
    l.id, l.at, l.actor, l.source, l.action, l.target, l.detail, l.detail_sha256, d.before, d.after,
    d.audit_id IS NOT NULL AS has_values
FROM audit_log AS l
LEFT JOIN audit_details AS d ON d.audit_id = l.id
WHERE ($1::text IS NULL OR l.actor = $1)
    AND ($2::text IS NULL OR l.target = $2)
    AND ($3::text IS NULL OR l.action = $3 OR starts_with(l.action, $3 || '.'))
    AND l.at >= $4::timestamptz
    AND l.at < $5::timestamptz
    AND (l.at, l.id) < ($6::timestamptz, $7::bigint)
ORDER BY l.at DESC, l.id DESC
LIMIT $8

-- name: audit_oldest_first
SELECT
    l.id, l.at, l.actor, l.source, l.action, l.target, l.detail, l.detail_sha256, d.before, d.after,
    d.audit_id IS NOT NULL AS has_values
FROM audit_log AS l
LEFT JOIN audit_details AS d ON d.audit_id = l.id
WHERE ($1::text IS NULL OR l.actor = $1)
    AND ($2::text IS NULL OR l.target = $2)
    AND ($3::text IS NULL OR l.action = $3 OR starts_with(l.action, $3 || '.'))
    AND l.at >= $4::timestamptz
    AND l.at < $5::timestamptz
    AND (l.at, l.id) > ($6::timestamptz, $7::bigint)
ORDER BY l.at, l.id
LIMIT $8
