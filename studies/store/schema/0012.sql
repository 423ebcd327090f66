-- A job may be a map: a training of weights that many plans share, which is as long as several trials. What it
-- estimates is in studies.warm_start.
ALTER TABLE jobs RENAME TO old_jobs;
DROP INDEX jobs_by_version;
CREATE TABLE jobs (
    study        INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    number       INTEGER NOT NULL,
    version      INTEGER NOT NULL,          -- of the study's changes
    kind         TEXT    NOT NULL CHECK (kind IN ('calibration', 'map', 'replicate')),
    trial        INTEGER,                   -- of a replicate
    method       TEXT    NOT NULL,          -- of a calibration
    candidate    TEXT    NOT NULL,          -- JSON, evaluator.Candidate
    seed         INTEGER NOT NULL,
    share        REAL    NOT NULL,          -- of a trial's budget; of a map above 1
    state        TEXT    NOT NULL CHECK (state IN ('waiting', 'running', 'complete', 'failed')),
    created      INTEGER NOT NULL,
    crashes      INTEGER NOT NULL DEFAULT 0,
    lease        TEXT,
    finished     INTEGER,
    result       TEXT,                      -- JSON, evaluator.Result
    failure_kind TEXT,
    failure      TEXT,
    PRIMARY KEY (study, number),
    FOREIGN KEY (study, trial) REFERENCES trials (study, number) ON DELETE CASCADE,
    CHECK (state <> 'complete' OR result IS NOT NULL)
) STRICT, WITHOUT ROWID;
INSERT INTO jobs (study, number, version, kind, trial, method, candidate, seed, share, state, created, crashes, lease,
    finished, result, failure_kind, failure)
    SELECT study, number, version, kind, trial, method, candidate, seed, share, state, created, crashes, lease,
    finished, result, failure_kind, failure FROM old_jobs;
DROP TABLE old_jobs;
CREATE INDEX jobs_by_version ON jobs (study, version);
