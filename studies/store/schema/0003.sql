-- The predicted final score of a pruned trial: what the samplers learn from. Its own score is that of a
-- shorter training.
ALTER TABLE trials ADD COLUMN forecast REAL;
