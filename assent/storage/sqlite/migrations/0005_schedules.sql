-- What a scheduled run may use, and why there was none at the last time.

ALTER TABLE schedules ADD COLUMN last_error TEXT;
ALTER TABLE schedules ADD COLUMN budget TEXT NOT NULL DEFAULT '{}';
