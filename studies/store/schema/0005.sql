-- What the study knew of another one when it started: JSON, studies.WarmStart; null for nothing.
ALTER TABLE studies ADD COLUMN warm_start TEXT;
