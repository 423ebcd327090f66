-- Trainings beside those by which trials came to be: of the calibration of learning rates, and again of a trial's
-- candidate. Negative numbers of trials among the leases are of these: -2 - number.
CREATE TABLE jobs (
    study        INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    number       INTEGER NOT NULL,
    version      INTEGER NOT NULL,          -- of the study's changes
    kind         TEXT    NOT NULL CHECK (kind IN ('calibration', 'replicate')),
    trial        INTEGER,                   -- of a replicate
    method       TEXT    NOT NULL,          -- of a calibration
    candidate    TEXT    NOT NULL,          -- JSON, evaluator.Candidate
    seed         INTEGER NOT NULL,
    share        REAL    NOT NULL,          -- of a trial's budget
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
CREATE INDEX jobs_by_version ON jobs (study, version);

-- A trial's score is the mean of those of its trainings; spread is the sum of their squared deviations from it, and
-- first_score that of the first one, to which the trial's curve belongs.
ALTER TABLE trials ADD COLUMN trainings INTEGER NOT NULL DEFAULT 1;
ALTER TABLE trials ADD COLUMN spread REAL NOT NULL DEFAULT 0;
ALTER TABLE trials ADD COLUMN first_score REAL;
