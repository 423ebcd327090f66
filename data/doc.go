// Package data reads everything that comes from outside: labelled files and their splits, Hugging Face
// checkpoints (config.json and safetensors). It also scores predictions.
//
// A [Task] describes a data set, a [Dataset] holds it, and a [Checkpoint] gives access to a model's
// configuration and weights. The package knows nothing about training, plans or search.
package data
