-- What a worker does beside steps: JSON, evaluator.Doing.
ALTER TABLE leases ADD COLUMN doing TEXT NOT NULL DEFAULT '{}';
