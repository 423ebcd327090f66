// Package data reads labelled files and their splits. Below it lie data/checkpoint (Hugging Face model
// directories), data/tokenizer (rows to ids), data/metric (scores), data/files (whole files) and
// data/quote (foreign text in messages).
//
// A [Task] describes a data set, a [Dataset] holds it. The package knows nothing about training, plans or
// search.
package data
