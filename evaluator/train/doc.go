// Package train fine-tunes plans: batches, schedule, rungs, checkpoints, and the cache of what frozen
// layers compute.
//
// A [Session] loads a backbone and a tokenised data set once; [Session.Train] then runs one job after
// another, and [Session.Predict] scores rows with what a job has left. A session and all it makes
// belong to one goroutine.
//
// A score depends on the job, the data, the model and the machine's arithmetic alone: not on earlier
// jobs, on the time, or on whether the job was interrupted and continued.
package train
