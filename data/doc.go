// Package data reads labelled files and their splits. Below it lie data/checkpoint (Hugging Face model
// directories), data/tokenizer, data/metric (scores) and data/files (whole files).
//
// A [Task] describes a data set and a [Dataset] holds it. The package knows nothing about training, plans
// or search.
package data
