-- The process that ran a trial last; null of trials that ended with an older version.
ALTER TABLE trials ADD COLUMN host TEXT;
ALTER TABLE trials ADD COLUMN process TEXT;
