// Package studies is a study's life: the loop that runs trials ([Study.Run]), and the full trainings that
// confirm what it found ([Study.Confirm]). Package config reads study files, package store keeps studies.
//
//	file, err := config.Read("study.yaml")
//	inputs, err := file.Open()
//	db, err := store.Open("studies.db")
//	study, err := studies.Start(ctx, db, file, inputs)        // new, or continued
//	status, err := study.Run(ctx, open, studies.RunOptions{})
//
// A trial is waiting, running, or has an outcome: complete, pruned or failed. Outcomes are written in
// one transaction with the learning curve and the new front. A trial that was interrupted, in whatever
// way, waits again and runs with the same number, plan and seed, so that with one worker an interrupted
// search and an uninterrupted one are the same.
package studies
