#ifndef PEFTSEARCH_TORCH_HEADS_H
#define PEFTSEARCH_TORCH_HEADS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// All record gradients. Tensors are at::Tensor*; a returned error is to be freed, NULL means none.
// index[g] is an int64 tensor [n, m]: the rows of the flat tensor that group g pads; the number of its rows
// stands for padding. The first two take tensors in the host's memory.

// Splits flat x [tokens, heads·d] into padded[g] [n·heads, widths[g], d]: the rows of prefix
// [p, heads·d] (NULL for none), then the indexed rows, then zeros.
char *native_pad_heads(void **padded, void *x, void *prefix, void **index, const int64_t *widths, int groups,
                       int64_t heads);

// The inverse, without prefix: padded[g] [n·heads, width, d] to *flat [tokens, heads·d]. Rows that no
// index names are zero.
char *native_unpad_heads(void **flat, void **padded, void **index, int groups, int64_t tokens, int64_t heads);

// Attention of flat tokens into *out [queries, heads·d], by libtorch's own kernel. The operands are queries, keys and
// values and, if count is 5, the keys and values [p, heads·d] of a prefix. The queries and keys of a row are those at
// to [n, m] and from [n, k], which have padding of any tokens; toBack [queries that are in rows] and fromBack [keys that
// are] say where in [n·m] and [n·k] each is. mask [n, p+k] is added to the scores.
char *native_padded_attention(void **out, void **operands, int count, void *to, void *toBack, void *from, void *fromBack,
                              void *mask, int64_t heads, double scale, double dropout, uint64_t seed);

#ifdef __cplusplus
}
#endif
#endif
