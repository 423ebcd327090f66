-- What a full training's result depends on beside its candidate and seed. Trainings of schema 6 or before do not say:
-- they had the study file at the start.
CREATE TABLE trainings (
    id         INTEGER PRIMARY KEY,
    study      INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    candidate  TEXT    NOT NULL,             -- JSON, evaluator.Candidate
    seed       INTEGER NOT NULL,
    conditions TEXT    NOT NULL,
    result     TEXT    NOT NULL,             -- JSON, evaluator.Result
    finished   INTEGER NOT NULL,
    UNIQUE (study, candidate, seed, conditions)
) STRICT;
INSERT INTO trainings (id, study, candidate, seed, conditions, result, finished)
    SELECT id, study, candidate, seed, '', result, finished FROM confirmations;
DROP TABLE confirmations;
