#ifndef PEFTSEARCH_TORCH_NATIVE_H
#define PEFTSEARCH_TORCH_NATIVE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Version of libtorch, e.g. "2.1.2".
const char *native_version(void);

// Instruction set of libtorch's own kernels, e.g. "AVX512"; valid until the process ends.
const char *native_cpu_capability(void);

// Compute capability of a CUDA device, 10·major+minor, as its driver gives it; 0 if there is none.
int native_cuda_capability(int device);

// Threads of libtorch's operators, in the calling thread.
void native_set_num_threads(int n);
int native_get_num_threads(void);

// Tensors are at::Tensor*. A returned error is to be freed; NULL means none. All record gradients.

// x·Wᵀ + c + factor·x·Aᵀ·Bᵀ of several matrices into out. The operands are x [tokens, in] and those of the matrices;
// places has for each matrix where W [m, in], c [m], A [r, in] and B [m, r] stand among them, -1 for none.
char *native_project(void **out, void **operands, int count, const int64_t *places, const double *factors, int matrices);

// GELU of x into *out, in its error function or its tanh form.
char *native_gelu(void **out, void *x, int tanh);

// x where a mask of probability 1-p keeps it, scaled by 1/(1-p), else 0, into *out.
char *native_dropout(void **out, void *x, double p, uint64_t seed);

// LayerNorm over the last dimension of a+b into *y, and a+b into *sum; NULL for b leaves *sum as it is.
char *native_add_norm(void **y, void **sum, void *a, void *b, void *weight, void *bias, double eps);

// Whether native_attention has a kernel for heads of a width, on the host.
int native_has_attention(int64_t width);

// Attention of flat tokens into *out. The operands are q, k, v [tokens, heads·width] and, if count is 5, the keys and
// values [p, heads·width] of a prefix. Row i has the queries from queries[i] to queries[i+1] and the keys from keys[i] to
// keys[i+1]; the lists have one number more than there are rows.
char *native_attention(void **out, void **operands, int count, const int64_t *queries, int64_t queryStarts, const int64_t *keys,
                       int64_t keyStarts, int64_t heads, double scale, int causal);

#ifdef __cplusplus
}
#endif
#endif
