// Package torch is a thin layer on libtorch through gotch's libtch: tensors, the operations that the
// models need, and AdamW.
//
// A [Scope] is an arena. It owns every tensor that its methods return and frees them together, so a
// training step makes one scope and frees it at the end; what outlives the step (weights, caches) is
// made by a longer-lived scope. There are no finalisers.
//
// A scope keeps the first error of its operations. After it, operations do nothing and return nil,
// which later operations accept; model code reads like the formula it computes, and the caller checks
// [Scope.Err] once. Operands that are nil or freed are such an error, and never reach libtorch.
//
// Libtorch keeps its gradient mode, its last error and its OpenMP pool per OS thread. A scope
// therefore holds its goroutine on its OS thread until Free, and belongs to that goroutine.
//
// On the CPU, GELU, LayerNorm and attention have kernels of our own (fused.cpp) that record their own
// gradients; they are compiled for several instruction sets and chosen when the program runs.
//
// Nothing here draws random numbers: what is random comes from the caller's own seeded generator.
package torch
