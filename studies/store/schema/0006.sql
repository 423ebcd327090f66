-- Times are Unix milliseconds from here on, all by the database's clock.
UPDATE studies SET created = created * 1000;
UPDATE trials SET created = created * 1000, started = started * 1000, finished = finished * 1000;
UPDATE confirmations SET finished = finished * 1000;

-- studies.path and studies.config are the study file as it was last used; this is the one at the start.
ALTER TABLE studies ADD COLUMN first_config TEXT;
UPDATE studies SET first_config = config;

-- The number of changes to a study's trials. Whoever changes one first takes the next number, and so the lock of
-- the study's trials: nobody sees a change before those with lower numbers.
CREATE TABLE counters (
    study    INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    version  INTEGER NOT NULL,
    PRIMARY KEY (study)
) STRICT, WITHOUT ROWID;
INSERT INTO counters (study, version) SELECT id, 1 FROM studies;

-- Who works on what: a row for each running trial, and one with trial -1 for the process that makes the next
-- proposal. Beside the trials, which do not change with each sign of life.
CREATE TABLE leases (
    study      INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    trial      INTEGER NOT NULL,
    lease      TEXT    NOT NULL,
    host       TEXT    NOT NULL,
    boot       TEXT    NOT NULL,
    namespace  TEXT    NOT NULL,            -- of process ids
    process    TEXT    NOT NULL,            -- process id and start time
    until      INTEGER NOT NULL,            -- after it the lease is over, whatever became of the process
    reported   INTEGER NOT NULL,
    step       INTEGER NOT NULL DEFAULT 0,  -- of the training
    steps      INTEGER NOT NULL DEFAULT 0,
    loss       REAL    NOT NULL DEFAULT 0,
    PRIMARY KEY (study, trial)
) STRICT, WITHOUT ROWID;

-- What a list of trials needs comes first in a row; what is long stands at its end.
ALTER TABLE trials ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE trials ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE trials ADD COLUMN candidate_key TEXT;
ALTER TABLE trials ADD COLUMN proposed_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE trials ADD COLUMN proposed_point TEXT;
ALTER TABLE trials ADD COLUMN proposed_candidate TEXT NOT NULL DEFAULT '';
UPDATE trials SET proposed_reason = reason, proposed_point = point, proposed_candidate = candidate;
ALTER TABLE trials DROP COLUMN reason;
ALTER TABLE trials DROP COLUMN point;
ALTER TABLE trials DROP COLUMN candidate;
ALTER TABLE trials DROP COLUMN plan_key;
ALTER TABLE trials DROP COLUMN host;
ALTER TABLE trials DROP COLUMN process;
ALTER TABLE trials DROP COLUMN heartbeat;
ALTER TABLE trials RENAME COLUMN proposed_reason TO reason;
ALTER TABLE trials RENAME COLUMN proposed_point TO point;
ALTER TABLE trials RENAME COLUMN proposed_candidate TO candidate;
CREATE INDEX trials_by_version ON trials (study, version);
CREATE UNIQUE INDEX trials_by_candidate ON trials (study, candidate_key);

-- Tells this database from others, and from one that was put in its place. live says that a process writes it:
-- then the file alone lacks what stands in the -wal file beside it.
CREATE TABLE instance (
    id    TEXT    NOT NULL,
    live  INTEGER NOT NULL
) STRICT;
