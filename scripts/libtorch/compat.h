// Included before gotch 0.9.1's C++, which is generated for libtorch 2.1, where a newer libtorch is used: what
// gotch wraps and later versions removed or changed. Declared in namespace torch these hide libtorch's own functions
// of the same names from gotch. peftsearch calls none of them.
#pragma once
#ifdef __cplusplus
#include <torch/torch.h>

#include <stdexcept>

namespace torch {

[[noreturn]] inline void notWrapped(const char *name) {
  throw std::logic_error(std::string(name) + ": gotch wraps the one of libtorch 2.1, and this libtorch is another");
}

inline Tensor cholesky(const Tensor &, bool) { notWrapped("cholesky"); }
inline Tensor &cholesky_out(Tensor &, const Tensor &, bool) { notWrapped("cholesky_out"); }
inline std::tuple<Tensor, Tensor> qr(const Tensor &, bool) { notWrapped("qr"); }
inline std::tuple<Tensor, Tensor> qr_out(Tensor &, Tensor &, const Tensor &, bool) { notWrapped("qr_out"); }
inline std::vector<Tensor> align_tensors(TensorList) { notWrapped("align_tensors"); }
inline Tensor _cslt_sparse_mm(const Tensor &, const Tensor &, const Tensor &, bool) { notWrapped("_cslt_sparse_mm"); }
template <typename... Operands> std::tuple<Tensor, Tensor> _scaled_mm(const Operands &...) { notWrapped("_scaled_mm"); }
template <typename... Operands> std::tuple<Tensor, Tensor> _scaled_mm_out(const Operands &...) { notWrapped("_scaled_mm_out"); }

} // namespace torch

#define align_as expand_as // a method: it can only be replaced by one
#endif
