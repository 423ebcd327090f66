-- The standard deviation of the predicted final score of a pruned trial: how far the samplers trust it.
ALTER TABLE trials ADD COLUMN forecast_sd REAL;
