// Package peft says what is inserted into a frozen pretrained model, and what it costs.
//
// Glossary: a module is one serial adapter, parallel adapter, prefix or LoRA in one layer; a [Plan]
// lists the modules of every layer; a [Geometry] is the shape of the backbone that a plan is for.
//
// One transformer block of the BERT family, with all four modules (LN is the block's own LayerNorm;
// x the block's input, a the input of the feed-forward part):
//
//	K, V ← [prefix K; W_k x], [prefix V; W_v x]        prefix
//	W_q  ← W_q + (alpha/rank)·B·A                      LoRA, likewise on any target
//	a    = LN₁(x + W_o·attention(Q, K, V))
//	f    = W₂·gelu(W₁·a)
//	y    = LN₂(a + f + S(LN₂(a+f)) + 4·P(a))           S serial adapter, P parallel adapter
//
// The package is pure Go and knows nothing about training or search.
package peft
