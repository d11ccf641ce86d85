-- Groups, called by name from groups.py.

-- name: group
SELECT * FROM device_groups WHERE name = $1

-- name: hold
SELECT * FROM device_groups WHERE name = $1 FOR UPDATE

-- name: groups
SELECT * FROM device_groups WHERE name > $1 ORDER BY name LIMIT $2

-- name: insert
INSERT INTO device_groups (name, description, query) VALUES ($1, $2, $3) RETURNING *

-- name: change
UPDATE device_groups SET description = $2, query = $3, version = version + 1, updated_at = now()
WHERE name = $1 RETURNING *

-- name: delete
DELETE FROM device_groups WHERE name = $1

-- name: known
-- Held, so that none is deleted before it is a member.
SELECT id FROM devices WHERE id = ANY($1::text[]) AND registered_at IS NOT NULL ORDER BY id FOR KEY SHARE

-- name: add_members
INSERT INTO device_group_members (group_name, device_id) SELECT $1, u.id FROM unnest($2::text[]) AS u (id)
ON CONFLICT DO NOTHING RETURNING device_id

-- name: remove_members
DELETE FROM device_group_members WHERE group_name = $1 AND device_id = ANY($2::text[]) RETURNING device_id
