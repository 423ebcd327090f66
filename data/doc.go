// Package data reads everything that comes from outside: labelled files and their splits, Hugging Face
// checkpoints (config.json and safetensors) and tokenizers. It also scores predictions.
//
// A [Task] describes a data set, a [Dataset] holds it, a [Tokenizer] turns rows into ids, and a
// [Checkpoint] gives access to a model's configuration and weights. The package knows nothing about
// training, plans or search.
package data
