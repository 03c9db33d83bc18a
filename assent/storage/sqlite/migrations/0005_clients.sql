-- ── threads in the order of their last use ──

-- What one person sees, and what everybody of a tenant does.
CREATE INDEX threads_by_owner_and_use ON threads (tenant, owner, updated_at, thread_id);
CREATE INDEX threads_by_tenant_and_use ON threads (tenant, updated_at, thread_id);


-- ── schedules ──

-- The time after which there is no other run; NULL for none.
ALTER TABLE schedules ADD ends_at TEXT;
