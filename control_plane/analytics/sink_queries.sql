-- name: load_offsets
SELECT partition, next_offset FROM sink_offsets WHERE sink = $1 AND topic = $2 AND partition = ANY ($3::integer[]);

-- name: begin_offset
INSERT INTO sink_offsets (sink, topic, partition, next_offset) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING;

-- name: skip_offset
UPDATE sink_offsets SET next_offset = $5, updated_at = now()
WHERE sink = $1 AND topic = $2 AND partition = $3 AND next_offset = $4;

-- name: lock_offsets
SELECT partition, next_offset, set_config('idle_in_transaction_session_timeout', '10s', true)
FROM sink_offsets WHERE sink = $1 AND topic = $2 AND partition = ANY ($3::integer[])
ORDER BY partition FOR UPDATE;

-- name: advance_offsets
UPDATE sink_offsets AS s SET next_offset = n.next_offset, updated_at = now()
FROM unnest($3::integer[], $4::bigint[]) AS n (partition, next_offset)
WHERE s.sink = $1 AND s.topic = $2 AND s.partition = n.partition;

-- name: insert_anomaly
INSERT INTO anomalies (
    id, ts, device_id, metric, value, score, severity, reason, expected, source, episode_id
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO NOTHING;

-- name: today
SELECT (now() AT TIME ZONE 'UTC')::date;

-- name: partitions_of
SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = $1::regclass;

-- name: lock_keeper
SELECT pg_advisory_xact_lock(1213547011);

-- name: expire_anomalies
DELETE FROM anomalies WHERE id IN (
    SELECT id FROM anomalies WHERE stored_at < now() - make_interval(days => $1) ORDER BY stored_at LIMIT 5000
);

-- name: list_anomalies
SELECT id, ts, device_id, metric, value, score, severity, reason, expected, source, episode_id, stored_at
FROM anomalies
WHERE ($1::text IS NULL OR device_id = $1) AND ($2::timestamptz IS NULL OR ts >= $2)
ORDER BY ts DESC, id LIMIT $3;
