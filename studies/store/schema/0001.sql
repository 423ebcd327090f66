-- One row per study. identity is what a continued study must agree with; reference fixes the hypervolume.
CREATE TABLE studies (
    id          INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL UNIQUE,
    created     INTEGER NOT NULL,           -- Unix seconds, as every time
    path        TEXT    NOT NULL,           -- of the study file, absolute
    config      TEXT    NOT NULL,           -- the study file at the start
    identity    TEXT    NOT NULL,           -- JSON object
    metric      TEXT    NOT NULL,
    geometry    TEXT    NOT NULL,           -- JSON, peft.Geometry
    reference   TEXT    NOT NULL,           -- JSON, search.Reference
    seed        INTEGER NOT NULL
) STRICT;

CREATE TABLE trials (
    study        INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    number       INTEGER NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('waiting', 'running', 'complete', 'pruned', 'failed')),
    origin       TEXT    NOT NULL,          -- sampler, or baseline:NAME
    reason       TEXT    NOT NULL,          -- why the sampler proposed it
    point        TEXT,                      -- JSON array; null outside the space
    candidate    TEXT    NOT NULL,          -- JSON, evaluator.Candidate
    plan_key     TEXT    NOT NULL,
    params       INTEGER NOT NULL,          -- trainable parameters without the head
    seed         INTEGER NOT NULL,
    created      INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    -- who runs it; null unless running
    lease        TEXT,
    host         TEXT,
    process      TEXT,
    heartbeat    INTEGER,
    started      INTEGER,
    -- the outcome
    finished     INTEGER,
    score        REAL,
    best_step    INTEGER,
    steps        INTEGER,
    dev          TEXT,                      -- JSON object, every metric
    head_params  INTEGER,
    wall_s       REAL,
    peak_bytes   INTEGER,
    stopped      TEXT,                      -- why it was pruned, or why training ended early
    failure_kind TEXT,
    failure      TEXT,
    PRIMARY KEY (study, number),
    CHECK (state NOT IN ('complete', 'pruned') OR score IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX trials_by_state ON trials (study, state);

-- Dev scores at the rungs.
CREATE TABLE curves (
    study  INTEGER NOT NULL,
    trial  INTEGER NOT NULL,
    step   INTEGER NOT NULL,
    steps  INTEGER NOT NULL,                -- of the whole budget
    loss   REAL    NOT NULL,
    score  REAL    NOT NULL,
    PRIMARY KEY (study, trial, step),
    FOREIGN KEY (study, trial) REFERENCES trials (study, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- The front after each complete trial.
CREATE TABLE fronts (
    study       INTEGER NOT NULL,
    sequence    INTEGER NOT NULL,           -- complete trials so far
    trial       INTEGER NOT NULL,           -- the one that was the last
    hypervolume REAL    NOT NULL,
    members     TEXT    NOT NULL,           -- JSON array of trial numbers, by parameters
    PRIMARY KEY (study, sequence),
    FOREIGN KEY (study, trial) REFERENCES trials (study, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
