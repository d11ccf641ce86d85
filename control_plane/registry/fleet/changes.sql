-- Changes of one device, called by name from changes.py.

-- name: hold
SELECT serial, labels, location, limits, version FROM devices
WHERE id = $1 AND registered_at IS NOT NULL FOR UPDATE

-- name: set_values
UPDATE devices SET serial = $2, labels = $3, location = $4, limits = $5 WHERE id = $1
