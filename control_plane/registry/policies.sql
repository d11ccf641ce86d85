-- Policies, called by name from policies.py.

-- name: read
SELECT value, version FROM policies WHERE name = $1

-- name: hold
SELECT value, version FROM policies WHERE name = $1 FOR UPDATE

-- name: make
-- So that there is a row to hold; version 0 is the default that nobody has set.
INSERT INTO policies (name, value, version) VALUES ($1, $2, 0) ON CONFLICT (name) DO NOTHING

-- name: replace
UPDATE policies SET value = $2, version = version + 1, updated_at = now() WHERE name = $1 RETURNING version
