-- Session slots of ingest: the MQTT client id `_ingest-<slot>` belongs to the holder.

-- The rules are in control_plane/ingest/lease.py. No time here decides anything: a process that wants the slot watches
-- `renewals` by its own clock. incarnation: one run of the holder, so that two processes of one name notice each other.
CREATE TABLE ingest_slots (
    slot integer PRIMARY KEY CHECK (slot >= 0),
    holder text COLLATE "C" CHECK (length(holder) BETWEEN 1 AND 128),
    incarnation text COLLATE "C",
    renewals bigint NOT NULL DEFAULT 0,
    taken_at timestamptz NOT NULL DEFAULT now(),
    renewed_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((holder IS NULL) = (incarnation IS NULL))
);
