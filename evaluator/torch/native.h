#ifndef PEFTSEARCH_TORCH_NATIVE_H
#define PEFTSEARCH_TORCH_NATIVE_H

#ifdef __cplusplus
extern "C" {
#endif

// Version of libtorch, e.g. "2.1.2".
const char *native_version(void);

// Instruction set of libtorch's own kernels, e.g. "AVX512"; valid until the process ends.
const char *native_cpu_capability(void);

// Threads of libtorch's operators, in the calling thread.
void native_set_num_threads(int n);
int native_get_num_threads(void);

// Error function GELU of the at::Tensor self into *out; returns an error to be freed, or NULL.
// (libtch's own binding leaks its mode string at every call.)
char *native_gelu(void **out, void *self);

#ifdef __cplusplus
}
#endif
#endif
