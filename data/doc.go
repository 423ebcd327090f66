// Package data reads labelled files and their splits, and tokenizers. Below it lie data/checkpoint (Hugging
// Face model directories), data/metric (scores) and data/files (whole files).
//
// A [Task] describes a data set, a [Dataset] holds it, and a [Tokenizer] turns rows into ids. The package
// knows nothing about training, plans or search.
package data
