-- Full trainings of a plan with several seeds, scored on the test split. They are no trials: the search
-- never sees them.
CREATE TABLE confirmations (
    id        INTEGER PRIMARY KEY,
    study     INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    candidate TEXT    NOT NULL,             -- JSON, evaluator.Candidate
    seed      INTEGER NOT NULL,
    result    TEXT    NOT NULL,             -- JSON, evaluator.Result
    finished  INTEGER NOT NULL,
    UNIQUE (study, candidate, seed)
) STRICT;
