#ifndef PEFTSEARCH_TORCH_HEADS_H
#define PEFTSEARCH_TORCH_HEADS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Both record gradients. Tensors are at::Tensor*; a returned error is to be freed, NULL means none.
// index[g] is an int64 tensor [n, m]: the rows of the flat tensor that group g pads; the number of its rows
// stands for padding. host says whether the tensors are in the host's memory.

// Splits flat x [tokens, heads·d] into padded[g] [n·heads, widths[g], d]: the rows of prefix
// [p, heads·d] (NULL for none), then the indexed rows, then zeros.
char *native_pad_heads(void **padded, void *x, void *prefix, void **index, const int64_t *widths, int groups,
                       int64_t heads, int host);

// The inverse, without prefix: padded[g] [n·heads, width, d] to *flat [tokens, heads·d]. Rows that no
// index names are zero.
char *native_unpad_heads(void **flat, void **padded, void **index, int groups, int64_t tokens, int64_t heads,
                         int host);

#ifdef __cplusplus
}
#endif
#endif
