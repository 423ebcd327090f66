#include "native.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/add.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/native_dropout.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <type_traits>
#include <vector>

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

namespace {

const int64_t queryBlock = 32; // queries of a row that are computed together
const int64_t maxWidth = 256;  // of a head

struct AttentionShape {
  int64_t rows, heads, width, prefixes, longest; // longest is the most keys of a row
  const int64_t *queries, *keys;                 // where each row starts, and where the last one ends
  int64_t qStep, kStep, vStep, prefixStep;       // from token to token, in elements
  float scale;
  bool causal;
};

struct AttentionTensors {
  const void *q, *k, *v, *prefixKeys, *prefixValues;
  void *out;
  float *stats; // [tokens, heads, 2]
  const void *dOut;
  void *dq, *dk, *dv;
  float *dPrefixKeys, *dPrefixValues;
};

template <class T> struct KernelsOf {
  void (*gelu)(const T *, T *, T *, int64_t);
  void (*geluTanh)(const T *, T *, T *, int64_t);
  void (*addBias)(T *, const T *, int64_t, int64_t);
  void (*dropout)(const T *, T *, uint64_t, float, int64_t, int64_t);
  void (*multiply)(const T *, const T *, T *, int64_t);
  void (*addNorm)(const T *, const T *, const T *, const T *, float, T *, T *, float *, int64_t, int64_t);
  void (*addNormBackward)(const T *, const T *, const T *, const float *, const T *, T *, float *, float *, int64_t, int64_t);
  void (*attention)(const AttentionShape &, const AttentionTensors &, int64_t, int64_t, void *);
  void (*attentionBackward)(const AttentionShape &, const AttentionTensors &, int64_t, int64_t, void *);
};

#define ALL_KERNELS(T) \
  { gelu<T>, geluTanh<T>, addBias<T>, dropout<T>, multiply<T>, addNorm<T>, addNormBackward<T>, attention<T>, attentionBackward<T> }

namespace plain {
#define W 4
#include "simd.h"
#include "kernels.h"
#include "attention.h"
#undef W
const KernelsOf<float> floats = ALL_KERNELS(float);
const KernelsOf<uint16_t> bfloats = ALL_KERNELS(uint16_t);
} // namespace plain

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
#define W 8
#include "simd.h"
#include "kernels.h"
#include "attention.h"
#undef W
const KernelsOf<float> floats = ALL_KERNELS(float);
const KernelsOf<uint16_t> bfloats = ALL_KERNELS(uint16_t);
} // namespace avx2
#pragma GCC pop_options

#define W 16
#define KERNELS_512
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
namespace avx512 {
#include "simd.h"
#include "kernels.h"
#include "attention.h"
const KernelsOf<float> floats = ALL_KERNELS(float);
} // namespace avx512
#pragma GCC pop_options

#define KERNELS_BF16
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,prefer-vector-width=512")
namespace avx512bf16 {
#include "simd.h"
#include "kernels.h"
#include "attention.h"
const KernelsOf<uint16_t> bfloats = ALL_KERNELS(uint16_t);
} // namespace avx512bf16
#pragma GCC pop_options

#define KERNELS_AMX
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16,prefer-vector-width=512")
namespace amx {
#include "simd.h"
#include "attention.h"
} // namespace amx
#pragma GCC pop_options
#undef KERNELS_AMX
#undef KERNELS_BF16
#undef KERNELS_512
#undef W
#endif

#if defined(__x86_64__)
// Whether there are tiles for bfloat16, Linux lets this process use them, and oneDNN's own limit does not exclude them.
bool tilesAllowed() {
  const char *const limit = std::getenv("ONEDNN_MAX_CPU_ISA");
  if (limit && !std::strstr(limit, "AMX") && std::strcmp(limit, "DEFAULT") && std::strcmp(limit, "ALL")) return false;
  unsigned a, b, c, d;
  const unsigned bfloat16 = 1 << 22, tiles = 1 << 24;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & bfloat16) || !(d & tiles)) return false;
  const long requestPermission = 0x1023, tileData = 18; // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, requestPermission, tileData) == 0;
}
#endif

struct Kernels {
  KernelsOf<float> floats;
  KernelsOf<uint16_t> bfloats;
};

// The kernels for the instructions that libtorch uses as well.
const Kernels &kernels() {
  static const Kernels chosen = [] {
#if defined(__x86_64__)
    const std::string capability = at::get_cpu_capability();
    if (capability == "AVX512" && __builtin_cpu_supports("avx512bf16")) {
      Kernels best{avx512::floats, avx512bf16::bfloats};
      if (tilesAllowed()) {
        best.bfloats.attention = amx::attention<uint16_t>;
        best.bfloats.attentionBackward = amx::attentionBackward<uint16_t>;
      }
      return best;
    }
    if (capability == "AVX512") return Kernels{avx512::floats, avx2::bfloats};
    if (capability == "AVX2") return Kernels{avx2::floats, avx2::bfloats};
#endif
    return Kernels{plain::floats, plain::bfloats};
  }();
  return chosen;
}

template <class T> const KernelsOf<T> &kernelsOf();
template <> const KernelsOf<float> &kernelsOf() { return kernels().floats; }
template <> const KernelsOf<uint16_t> &kernelsOf() { return kernels().bfloats; }

template <class T> T *data(const Tensor &t) { return static_cast<T *>(t.data_ptr()); }
template <class T> T *dataOrNull(const Tensor &t) { return t.defined() ? data<T>(t) : nullptr; }

// Calls f with a float or, for bfloat16, a uint16_t.
template <class Call> void byType(const Tensor &t, Call call) {
  if (t.scalar_type() == at::kFloat) call(float());
  else call(uint16_t());
}

// Whether there are kernels for a tensor.
bool fused(const Tensor &t) {
  return t.device().is_cpu() && (t.scalar_type() == at::kFloat || t.scalar_type() == at::kBFloat16);
}

const int64_t grain = 16384; // elements for which another thread pays

// One of the matrices that Project applies: where its tensors stand among the operands, -1 for none.
struct Matrix {
  int64_t weight, bias, a, b;
  double factor;
};

// Linear maps of one x, the first operand, with LoRA. libtorch's own linear copies the bias before each product, and its
// gradients of x are made one by one and added up; here products add to what is there.
struct Project : Function<Project> {
  static variable_list forward(AutogradContext *ctx, at::TensorList operands, const std::vector<Matrix> &matrices) {
    const Tensor &x = operands[0];
    variable_list results, saved(operands.begin(), operands.end());
    std::vector<int64_t> places;
    std::vector<double> factors;
    bool trained = false; // a gradient that needs x
    for (const Matrix &m : matrices) {
      const Tensor &weight = operands[m.weight];
      trained = trained || m.a >= 0 || weight.requires_grad();
      const bool host = m.bias >= 0 && fused(x) && operands[m.bias].scalar_type() == x.scalar_type();
      Tensor y = m.bias >= 0 && !host ? at::linear(x, weight, operands[m.bias]) : at::linear(x, weight);
      if (m.a >= 0) {
        Tensor inner = at::linear(x, operands[m.a]);
        if (m.factor != 1) inner.mul_(m.factor);
        y.addmm_(inner, operands[m.b].t());
        saved.push_back(inner);
      }
      if (host) addBias(y, operands[m.bias].contiguous());
      results.push_back(y);
      places.insert(places.end(), {m.weight, m.bias, m.a, m.b});
      factors.push_back(m.factor);
    }
    if (!trained) saved[0] = Tensor();
    ctx->save_for_backward(saved);
    ctx->saved_data["operands"] = static_cast<int64_t>(operands.size());
    ctx->saved_data["places"] = places;
    ctx->saved_data["factors"] = factors;
    ctx->set_materialize_grads(false);
    return results;
  }

  static void addBias(const Tensor &y, const Tensor &bias) {
    byType(y, [&](auto zero) {
      using T = decltype(zero);
      const int64_t d = bias.numel();
      at::parallel_for(0, y.size(0), grain / d + 1, [&](int64_t begin, int64_t end) {
        kernelsOf<T>().addBias(data<T>(y) + begin * d, data<T>(bias), end - begin, d);
      });
    });
  }

  static variable_list backward(AutogradContext *ctx, const variable_list &grads) {
    const variable_list saved = ctx->get_saved_variables();
    const auto places = ctx->saved_data["places"].toIntVector();
    const auto factors = ctx->saved_data["factors"].toDoubleVector();
    const Tensor &x = saved[0];
    const size_t operands = ctx->saved_data["operands"].toInt();
    variable_list result(operands + 1); // the matrices' places have none
    size_t inner = operands;
    const auto add = [](Tensor &sum, const Tensor &a, const Tensor &b) { sum = sum.defined() ? sum.addmm_(a, b) : at::mm(a, b); };
    for (size_t i = 0; i < grads.size(); i++) {
      const Matrix m{places[4 * i], places[4 * i + 1], places[4 * i + 2], places[4 * i + 3], factors[i]};
      const size_t own = m.a >= 0 ? inner++ : 0;
      if (!grads[i].defined()) continue;
      const Tensor dy = grads[i].contiguous();
      if (ctx->needs_input_grad(m.weight)) result[m.weight] = at::mm(dy.t(), x);
      if (m.bias >= 0 && ctx->needs_input_grad(m.bias)) result[m.bias] = dy.sum(0);
      if (ctx->needs_input_grad(0)) add(result[0], dy, saved[m.weight]);
      if (m.a < 0) continue;
      result[m.b] = at::mm(dy.t(), saved[own]);
      Tensor dInner = at::mm(dy, saved[m.b]);
      if (m.factor != 1) dInner.mul_(m.factor);
      result[m.a] = at::mm(dInner.t(), x);
      if (ctx->needs_input_grad(0)) add(result[0], dInner, saved[m.a]);
    }
    return result;
  }
};

struct GELU : Function<GELU> {
  static Tensor forward(AutogradContext *ctx, const Tensor &input, bool tanh, bool grad) {
    const Tensor x = input.contiguous(), y = at::empty_like(x), derivative = grad ? at::empty_like(x) : Tensor();
    byType(x, [&](auto zero) {
      using T = decltype(zero);
      const auto kernel = tanh ? kernelsOf<T>().geluTanh : kernelsOf<T>().gelu;
      at::parallel_for(0, x.numel(), grain, [&](int64_t begin, int64_t end) {
        kernel(data<T>(x) + begin, data<T>(y) + begin, grad ? data<T>(derivative) + begin : nullptr, end - begin);
      });
    });
    if (grad) ctx->save_for_backward({derivative});
    return y;
  }

  static variable_list backward(AutogradContext *ctx, const variable_list &grads) {
    const Tensor derivative = ctx->get_saved_variables()[0], dy = grads[0].contiguous(), dx = at::empty_like(dy);
    byType(dy, [&](auto zero) {
      using T = decltype(zero);
      at::parallel_for(0, dy.numel(), grain, [&](int64_t begin, int64_t end) {
        kernelsOf<T>().multiply(data<T>(dy) + begin, data<T>(derivative) + begin, data<T>(dx) + begin, end - begin);
      });
    });
    return {dx, Tensor(), Tensor()};
  }
};

Tensor gelu(const Tensor &x, bool tanh) {
  if (!fused(x)) return at::gelu(x, tanh ? "tanh" : "none");
  return GELU::apply(x, tanh, at::GradMode::is_enabled() && x.requires_grad());
}

struct Dropout : Function<Dropout> {
  static Tensor apply_(const Tensor &input, double p, uint64_t seed) {
    const Tensor x = input.contiguous(), y = at::empty_like(x);
    byType(x, [&](auto zero) {
      using T = decltype(zero);
      at::parallel_for(0, x.numel(), grain, [&](int64_t begin, int64_t end) {
        kernelsOf<T>().dropout(data<T>(x) + begin, data<T>(y) + begin, seed, p, begin, end - begin);
      });
    });
    return y;
  }

  static Tensor forward(AutogradContext *ctx, const Tensor &x, double p, int64_t seed) {
    ctx->saved_data["p"] = p;
    ctx->saved_data["seed"] = seed;
    return apply_(x, p, seed);
  }

  static variable_list backward(AutogradContext *ctx, const variable_list &grads) {
    return {apply_(grads[0], ctx->saved_data["p"].toDouble(), ctx->saved_data["seed"].toInt()), Tensor(), Tensor()};
  }
};

// On a device its own generator draws the mask, from the same seed.
Tensor dropout(const Tensor &x, double p, uint64_t seed) {
  if (fused(x)) return Dropout::apply(x, p, static_cast<int64_t>(seed));
  at::Generator generator = at::globalContext().defaultGenerator(x.device());
  generator.set_current_seed(seed);
  return std::get<0>(at::native_dropout(x, p, true));
}

// The operands are weight, bias, a and, if there is one, b.
struct AddNorm : Function<AddNorm> {
  static variable_list forward(AutogradContext *ctx, at::TensorList operands, double eps) {
    const Tensor weight = operands[0].contiguous(), bias = operands[1].contiguous(), a = operands[2].contiguous();
    const Tensor b = operands.size() > 3 ? operands[3].contiguous() : Tensor();
    const int64_t d = weight.numel(), rows = a.numel() / d;
    const Tensor total = b.defined() ? at::empty_like(a) : a, y = at::empty_like(a);
    const Tensor moments = at::empty({rows, 2}, a.options().dtype(at::kFloat));
    byType(a, [&](auto zero) {
      using T = decltype(zero);
      at::parallel_for(0, rows, grain / d + 1, [&](int64_t begin, int64_t end) {
        kernelsOf<T>().addNorm(data<T>(a) + begin * d, b.defined() ? data<T>(b) + begin * d : nullptr, data<T>(weight), data<T>(bias), eps,
                               data<T>(total) + begin * d, data<T>(y) + begin * d, data<float>(moments) + begin * 2, end - begin, d);
      });
    });
    ctx->save_for_backward({weight, total, moments});
    ctx->saved_data["sum"] = b.defined();
    ctx->set_materialize_grads(false);
    return b.defined() ? variable_list{y, total} : variable_list{y};
  }

  static variable_list backward(AutogradContext *ctx, const variable_list &grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &weight = saved[0], &total = saved[1], &moments = saved[2];
    const bool isSum = ctx->saved_data["sum"].toBool(), trained = ctx->needs_input_grad(0) || ctx->needs_input_grad(1);
    const Tensor dTotal = isSum && grads[1].defined() ? grads[1].contiguous() : Tensor();
    if (!grads[0].defined()) { // only the sum was used
      return {Tensor(), Tensor(), dTotal, dTotal, Tensor()};
    }
    const Tensor dy = grads[0].contiguous(), dx = at::empty_like(dy);
    const int64_t d = weight.numel(), rows = dy.numel() / d;
    Tensor dWeight, dBias;
    if (trained) {
      dWeight = at::zeros({d}, moments.options());
      dBias = at::zeros({d}, moments.options());
    }
    byType(dy, [&](auto zero) {
      using T = decltype(zero);
      const auto part = [&](int64_t begin, int64_t end) {
        kernelsOf<T>().addNormBackward(data<T>(dy) + begin * d, dTotal.defined() ? data<T>(dTotal) + begin * d : nullptr, data<T>(total) + begin * d,
                                       data<float>(moments) + begin * 2, data<T>(weight), data<T>(dx) + begin * d,
                                       dataOrNull<float>(dWeight), dataOrNull<float>(dBias), end - begin, d);
      };
      if (trained) part(0, rows); // one thread: the sums over rows are in order
      else at::parallel_for(0, rows, grain / d + 1, part);
    });
    variable_list result{trained ? dWeight.to(weight.scalar_type()) : Tensor(), trained ? dBias.to(weight.scalar_type()) : Tensor(), dx};
    if (isSum) result.push_back(dx);
    result.emplace_back(); // eps has none
    return result;
  }
};

variable_list addNorm(const Tensor &a, const Tensor &b, const Tensor &weight, const Tensor &bias, double eps) {
  TORCH_CHECK(a.dim() > 0 && a.numel() > 0 && weight.dim() == 1 && weight.size(0) == a.size(-1) && bias.sizes() == weight.sizes(), "weight and bias must have the size of the last dimension");
  TORCH_CHECK(!b.defined() || a.sizes() == b.sizes(), "summands of different shapes");
  if (fused(a) && weight.scalar_type() == a.scalar_type() && bias.scalar_type() == a.scalar_type() && (!b.defined() || b.scalar_type() == a.scalar_type())) {
    variable_list operands{weight, bias, a};
    if (b.defined()) operands.push_back(b);
    return AddNorm::apply(at::TensorList(operands), eps);
  }
  const Tensor total = b.defined() ? at::add(a, b) : a;
  return {at::layer_norm(total, {weight.numel()}, weight, bias, eps), total};
}

// Attention's own copy of where rows start.
struct RowStarts {
  std::vector<int64_t> queries, keys;
};

struct Attention : Function<Attention> {
  // Scratch memory for one thread: what attentionBackward takes, which is more than attention does.
  static size_t scratch(const AttentionShape &s) {
    const int64_t keys = (s.prefixes + s.longest + 31) / 32 * 32;
    return 4 * (5 * keys * s.width + 5 * queryBlock * s.width + 6 * queryBlock * keys) + 64 * 20;
  }

  static AttentionShape shape(const variable_list &operands, const RowStarts &starts, int64_t heads, double scale, bool causal) {
    AttentionShape s{};
    s.rows = starts.queries.size() - 1;
    s.heads = heads;
    s.width = operands[0].size(1) / heads;
    s.queries = starts.queries.data();
    s.keys = starts.keys.data();
    for (int64_t i = 0; i < s.rows; i++) s.longest = std::max(s.longest, s.keys[i + 1] - s.keys[i]);
    s.qStep = operands[0].stride(0);
    s.kStep = operands[1].stride(0);
    s.vStep = operands[2].stride(0);
    s.prefixes = operands.size() > 3 ? operands[3].size(0) : 0;
    s.prefixStep = heads * s.width;
    s.scale = scale;
    s.causal = causal;
    return s;
  }

  // Zeros for tokens that are in no row.
  static void clearOutside(const Tensor &tokens, const std::vector<int64_t> &starts) {
    tokens.narrow(0, 0, starts.front()).zero_();
    tokens.narrow(0, starts.back(), tokens.size(0) - starts.back()).zero_();
  }

  template <class Kernel> static void run(Kernel kernel, const AttentionShape &s, const AttentionTensors &t) {
    at::parallel_for(0, s.heads, 1, [&](int64_t begin, int64_t end) {
      const std::unique_ptr<char[]> memory(new char[scratch(s) + 64]);
      const auto address = reinterpret_cast<uintptr_t>(memory.get());
      kernel(s, t, begin, end, reinterpret_cast<void *>((address + 63) / 64 * 64));
    });
  }

  static AttentionTensors tensors(const variable_list &operands) {
    AttentionTensors t{};
    t.q = operands[0].data_ptr();
    t.k = operands[1].data_ptr();
    t.v = operands[2].data_ptr();
    if (operands.size() > 3) {
      t.prefixKeys = operands[3].data_ptr();
      t.prefixValues = operands[4].data_ptr();
    }
    return t;
  }

  // The operands are q, k, v and, if there is a prefix, its keys and values.
  static Tensor forward(AutogradContext *ctx, at::TensorList given, const RowStarts &starts, int64_t heads, double scale, bool causal) {
    variable_list operands;
    for (const Tensor &t : given) operands.push_back(t.stride(1) == 1 && operands.size() < 3 ? t : t.contiguous());
    const AttentionShape s = shape(operands, starts, heads, scale, causal);
    const Tensor &q = operands[0];
    const Tensor out = at::empty({q.size(0), heads * s.width}, q.options());
    const Tensor stats = at::empty({q.size(0), heads, 2}, q.options().dtype(at::kFloat));
    clearOutside(out, starts.queries);
    AttentionTensors t = tensors(operands);
    t.out = out.data_ptr();
    t.stats = data<float>(stats);
    byType(q, [&](auto zero) { run(kernelsOf<decltype(zero)>().attention, s, t); });
    operands.push_back(stats);
    ctx->save_for_backward(operands);
    ctx->saved_data["queries"] = starts.queries;
    ctx->saved_data["keys"] = starts.keys;
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["causal"] = causal;
    return out;
  }

  static variable_list backward(AutogradContext *ctx, const variable_list &grads) {
    variable_list operands = ctx->get_saved_variables();
    const Tensor stats = operands.back(), dOut = grads[0].contiguous();
    operands.pop_back();
    const RowStarts starts{ctx->saved_data["queries"].toIntVector(), ctx->saved_data["keys"].toIntVector()};
    const AttentionShape s = shape(operands, starts, ctx->saved_data["heads"].toInt(), ctx->saved_data["scale"].toDouble(), ctx->saved_data["causal"].toBool());
    variable_list result;
    for (int i = 0; i < 3; i++) {
      result.push_back(at::empty({operands[i].size(0), s.heads * s.width}, dOut.options()));
      clearOutside(result.back(), i == 0 ? starts.queries : starts.keys);
    }
    for (size_t i = 3; i < operands.size(); i++) result.push_back(at::zeros(operands[i].sizes(), stats.options()));
    AttentionTensors t = tensors(operands);
    t.stats = data<float>(stats);
    t.dOut = dOut.data_ptr();
    t.dq = result[0].data_ptr();
    t.dk = result[1].data_ptr();
    t.dv = result[2].data_ptr();
    if (operands.size() > 3) {
      t.dPrefixKeys = data<float>(result[3]);
      t.dPrefixValues = data<float>(result[4]);
    }
    byType(dOut, [&](auto zero) { run(kernelsOf<decltype(zero)>().attentionBackward, s, t); });
    for (size_t i = 3; i < operands.size(); i++) result[i] = result[i].to(dOut.scalar_type());
    result.resize(result.size() + 4); // the other arguments have none
    return result;
  }
};

// Refuses what the kernels would read or write out of bounds.
void checkAttention(const variable_list &operands, const RowStarts &starts, int64_t heads, bool causal) {
  const Tensor &q = operands[0];
  TORCH_CHECK(heads > 0 && q.dim() == 2 && q.size(1) % heads == 0 && native_has_attention(q.size(1) / heads), "no kernel for ", heads, " heads");
  for (const Tensor &t : operands) {
    TORCH_CHECK(fused(t) && t.scalar_type() == q.scalar_type(), "operands must be float32 or bfloat16 tensors of the host, all of one type");
    TORCH_CHECK(t.dim() == 2 && t.size(1) == q.size(1), "operands of different widths");
  }
  TORCH_CHECK(operands[1].size(0) == operands[2].size(0), "other values than keys");
  TORCH_CHECK(operands.size() == 3 || operands[3].size(0) == operands[4].size(0), "another prefix of values than of keys");
  TORCH_CHECK(starts.queries.size() > 1 && starts.queries.size() == starts.keys.size(), "no rows, or other rows of queries than of keys");
  for (size_t i = 0; i < starts.queries.size(); i++) {
    const int64_t query = starts.queries[i], key = starts.keys[i];
    TORCH_CHECK(query >= 0 && query <= q.size(0) && key >= 0 && key <= operands[1].size(0), "row ", i, " is outside of the tokens");
    if (i == 0) continue;
    const int64_t queries = query - starts.queries[i - 1], keys = key - starts.keys[i - 1];
    TORCH_CHECK(queries >= 0 && keys > 0 && !(causal && queries > keys), "row ", i - 1, " has ", queries, " queries and ", keys, " keys");
  }
}

const Tensor &tensor(void *t) { return *static_cast<Tensor *>(t); }

// Runs f; its message, to be freed, if it threw.
template <class Body> char *guarded(Body body) {
  try {
    body();
    return nullptr;
  } catch (const std::exception &e) {
    return strdup(e.what());
  }
}

} // namespace

char *native_gelu(void **out, void *x, int tanh) {
  return guarded([&] { *out = new Tensor(gelu(tensor(x), tanh != 0)); });
}

char *native_add_norm(void **y, void **sum, void *a, void *b, void *weight, void *bias, double eps) {
  return guarded([&] {
    const variable_list results = addNorm(tensor(a), b ? tensor(b) : Tensor(), tensor(weight), tensor(bias), eps);
    *y = new Tensor(results[0]);
    if (b) *sum = new Tensor(results[1]);
  });
}

char *native_project(void **out, void **operands, int count, const int64_t *places, const double *factors, int matrices) {
  return guarded([&] {
    variable_list list;
    for (int i = 0; i < count; i++) list.push_back(tensor(operands[i]));
    TORCH_CHECK(list[0].dim() == 2, "x must have two dimensions");
    std::vector<Matrix> all;
    for (int i = 0; i < matrices; i++) all.push_back({places[4 * i], places[4 * i + 1], places[4 * i + 2], places[4 * i + 3], factors[i]});
    for (const Matrix &m : all) {
      const int64_t size = list[m.weight].size(0);
      TORCH_CHECK(m.bias < 0 || (list[m.bias].dim() == 1 && list[m.bias].size(0) == size), "a bias must have the size of its matrix");
    }
    const variable_list results = Project::apply(at::TensorList(list), all);
    for (int i = 0; i < matrices; i++) out[i] = new Tensor(results[i]);
  });
}

char *native_dropout(void **out, void *x, double p, uint64_t seed) {
  return guarded([&] { *out = new Tensor(dropout(tensor(x), p, seed)); });
}

int native_has_attention(int64_t width) { return width % 32 == 0 && width <= maxWidth; }

char *native_attention(void **out, void **operands, int count, const int64_t *queries, int64_t queryStarts, const int64_t *keys,
                       int64_t keyStarts, int64_t heads, double scale, int causal) {
  return guarded([&] {
    variable_list list;
    for (int i = 0; i < count; i++) list.push_back(tensor(operands[i]));
    const RowStarts starts{{queries, queries + queryStarts}, {keys, keys + keyStarts}};
    checkAttention(list, starts, heads, causal != 0);
    *out = new Tensor(Attention::apply(at::TensorList(list), starts, heads, scale, causal != 0));
  });
}
