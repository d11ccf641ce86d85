-- Since when the slot's session at the broker has its subscriptions; NULL before the first time. The registry gives out
-- no key before one slot has it: what a device sends to a broker without that session reaches nobody.
ALTER TABLE ingest_slots ADD COLUMN subscribed_at timestamptz;
