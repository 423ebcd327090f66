-- The scores of complete and pruned trials on resamples of the dev rows, where the worker told them. Beside the trials,
-- whose lists do not need them.
CREATE TABLE resamples (
    study   INTEGER NOT NULL,
    trial   INTEGER NOT NULL,
    scores  TEXT    NOT NULL,               -- JSON array
    PRIMARY KEY (study, trial),
    FOREIGN KEY (study, trial) REFERENCES trials (study, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
