// Package studies is a study's life: the study file ([Config]), the database ([Store]), the loop that
// runs trials ([Study.Run]), and the full trainings that confirm what it found ([Study.Confirm]).
//
//	config, err := studies.ReadConfig("study.yaml")
//	inputs, err := config.Open()
//	store, err := studies.OpenStore("studies.db")
//	study, err := studies.Start(ctx, store, config, inputs)   // new, or continued
//	status, err := study.Run(ctx, open, studies.RunOptions{})
//
// A trial is waiting, running, or has an outcome: complete, pruned or failed. Outcomes are written in
// one transaction with the learning curve and the new front. A trial that was interrupted, in whatever
// way, waits again and runs with the same number, plan and seed, so that with one worker an interrupted
// search and an uninterrupted one are the same.
package studies
