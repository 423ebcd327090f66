#include "heads.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstring>
#include <exception>
#include <vector>

using at::Tensor;
using at::TensorList;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// Where the rows of each group come from, and how wide a padded row is. (Function would take a list of
// tensors for operands.)
struct Layout {
  std::vector<Tensor> index;
  std::vector<int64_t> widths;
  int64_t heads;
};

// Copies one group between flat [tokens, heads·d] and padded [n·heads, width, d], whose indexed rows
// start at column `first`: into padded, or out of it.
void move(const Tensor &flat, const Tensor &padded, const Tensor &index, int64_t first, bool into) {
  const int64_t n = index.size(0), m = index.size(1), tokens = flat.size(0);
  const int64_t heads = padded.size(0) / n, width = padded.size(1);
  const size_t chunk = padded.size(2) * padded.element_size();
  char *const flatData = static_cast<char *>(flat.data_ptr());
  char *const paddedData = static_cast<char *>(padded.data_ptr());
  const int64_t *const rows = index.data_ptr<int64_t>();
  at::parallel_for(0, n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      for (int64_t j = 0; j < m; j++) {
        const int64_t row = rows[i * m + j];
        if (row < 0 || row >= tokens) continue;
        char *f = flatData + row * heads * chunk;
        char *p = paddedData + (i * heads * width + first + j) * chunk;
        for (int64_t h = 0; h < heads; h++, f += chunk, p += width * chunk) {
          into ? std::memcpy(p, f, chunk) : std::memcpy(f, p, chunk);
        }
      }
    }
  });
}

variable_list pad(const Tensor &x, const Tensor &prefix, const Layout &to) {
  const Tensor flat = x.contiguous();
  const int64_t d = flat.size(1) / to.heads, p = prefix.defined() ? prefix.size(0) : 0;
  variable_list padded;
  for (size_t g = 0; g < to.index.size(); g++) {
    const int64_t n = to.index[g].size(0), width = to.widths[g];
    padded.push_back(at::zeros({n * to.heads, width, d}, flat.options()));
    if (p > 0) {
      Tensor slots = padded.back().view({n, to.heads, width, d}).narrow(2, 0, p);
      slots.copy_(prefix.reshape({1, p, to.heads, d}).transpose(1, 2));
    }
    move(flat, padded.back(), to.index[g], p, true);
  }
  return padded;
}

Tensor unpad(TensorList padded, const Layout &from, int64_t first, int64_t tokens) {
  Tensor flat = at::zeros({tokens, from.heads * padded[0].size(2)}, padded[0].options());
  for (size_t g = 0; g < padded.size(); g++) {
    move(flat, padded[g].contiguous(), from.index[g], first, false);
  }
  return flat;
}

void save(AutogradContext *ctx, const Layout &layout) {
  ctx->saved_data["index"] = layout.index;
  ctx->saved_data["widths"] = layout.widths;
  ctx->saved_data["heads"] = layout.heads;
}

Layout saved(AutogradContext *ctx) {
  return {ctx->saved_data["index"].toTensorVector(), ctx->saved_data["widths"].toIntVector(),
          ctx->saved_data["heads"].toInt()};
}

// Operands are x and, if there is one, the prefix.
struct Pad : torch::autograd::Function<Pad> {
  static variable_list forward(AutogradContext *ctx, TensorList operands, const Layout &to) {
    const Tensor prefix = operands.size() > 1 ? operands[1] : Tensor();
    save(ctx, to);
    ctx->saved_data["tokens"] = operands[0].size(0);
    ctx->saved_data["prefix"] = prefix.defined() ? prefix.size(0) : 0;
    return pad(operands[0], prefix, to);
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const Layout from = saved(ctx);
    const int64_t p = ctx->saved_data["prefix"].toInt();
    variable_list operands;
    operands.push_back(ctx->needs_input_grad(0) ? unpad(grads, from, p, ctx->saved_data["tokens"].toInt()) : Tensor());
    if (p > 0) { // the sum over all rows
      Tensor prefix;
      for (const Tensor &grad : grads) {
        Tensor sum = grad.reshape({-1, from.heads, grad.size(1), grad.size(2)}).narrow(2, 0, p).sum(0, false, at::kFloat);
        prefix = prefix.defined() ? prefix.add_(sum) : sum; // [heads, p, d]
      }
      operands.push_back(prefix.transpose(0, 1).reshape({p, -1}).to(grads[0].scalar_type()));
    }
    operands.emplace_back(); // the layout has none
    return operands;
  }
};

struct Unpad : torch::autograd::Function<Unpad> {
  static Tensor forward(AutogradContext *ctx, TensorList padded, const Layout &from, int64_t tokens) {
    save(ctx, from);
    return unpad(padded, from, 0, tokens);
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    variable_list padded = pad(grads[0], Tensor(), saved(ctx));
    padded.resize(padded.size() + 2); // layout and tokens have none
    return padded;
  }
};

// Rows of flat x at an index [n, m] of padded rows: [n·m, D]; back [tokens] is where in them each token is. Every token
// is in one row, so the gradient is read, too, from where it is: adding it up would be slow, and in no fixed order. Tokens
// behind those of back are in no row.
struct Spread : torch::autograd::Function<Spread> {
  static Tensor forward(AutogradContext *ctx, const Tensor &x, const Tensor &index, const Tensor &back) {
    ctx->save_for_backward({back});
    ctx->saved_data["tokens"] = x.size(0);
    return x.index_select(0, index.flatten());
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    return {collected(grads[0], ctx->get_saved_variables()[0], ctx->saved_data["tokens"].toInt()), Tensor(), Tensor()};
  }

  static Tensor collected(const Tensor &padded, const Tensor &back, int64_t tokens) {
    Tensor flat = at::empty({tokens, padded.size(1)}, padded.options()), known = flat.narrow(0, 0, back.size(0));
    at::index_select_out(known, padded, 0, back);
    if (back.size(0) < tokens) flat.narrow(0, back.size(0), tokens - back.size(0)).zero_();
    return flat;
  }
};

// The inverse: padded [n·m, D] to flat [tokens, D].
struct Collect : torch::autograd::Function<Collect> {
  static Tensor forward(AutogradContext *ctx, const Tensor &padded, const Tensor &back, int64_t tokens) {
    ctx->save_for_backward({back});
    ctx->saved_data["rows"] = padded.size(0);
    return Spread::collected(padded, back, tokens);
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const Tensor back = ctx->get_saved_variables()[0];
    Tensor padded = at::zeros({ctx->saved_data["rows"].toInt(), grads[0].size(1)}, grads[0].options());
    padded.index_copy_(0, back, grads[0].narrow(0, 0, back.size(0)));
    return {padded, Tensor(), Tensor()};
  }
};

// Which tokens padded rows are of.
struct Padding {
  Tensor index, back;
};

// Attention of rows that are padded to one length.
Tensor paddedAttention(const std::vector<Tensor> &operands, const Padding &to, const Padding &from, const Tensor &mask,
                       int64_t heads, double scale, double dropout, uint64_t seed) {
  const int64_t n = to.index.size(0), d = operands[0].size(1) / heads;
  const auto rows = [&](const Tensor &x, const Padding &padding, const Tensor &prefix) { // [n, heads, width, d]
    Tensor padded = Spread::apply(x, padding.index, padding.back).view({n, padding.index.size(1), heads, d});
    if (prefix.defined()) padded = at::cat({prefix.reshape({1, -1, heads, d}).expand({n, -1, -1, -1}), padded}, 1);
    return padded.transpose(1, 2);
  };
  const bool prefixes = operands.size() > 3;
  const Tensor q = rows(operands[0], to, Tensor());
  const Tensor k = rows(operands[1], from, prefixes ? operands[3] : Tensor());
  const Tensor v = rows(operands[2], from, prefixes ? operands[4] : Tensor());
  if (dropout > 0) {
    at::Generator generator = at::globalContext().defaultGenerator(q.device());
    generator.set_current_seed(seed);
  }
  const Tensor added = mask.view({n, 1, 1, -1}).expand({n, heads, to.index.size(1), -1});
  const Tensor a = at::scaled_dot_product_attention(q, k, v, added, dropout, false, scale); // [n, heads, m, d]
  return Collect::apply(a.transpose(1, 2).reshape({-1, heads * d}), to.back, operands[0].size(0));
}

Tensor &tensor(void *t) { return *static_cast<Tensor *>(t); }

std::vector<Tensor> tensors(void **list, int count) {
  std::vector<Tensor> all;
  for (int i = 0; i < count; i++) all.push_back(tensor(list[i]));
  return all;
}

} // namespace

char *native_pad_heads(void **padded, void *x, void *prefix, void **index, const int64_t *widths, int groups,
                       int64_t heads) {
  try {
    TORCH_CHECK(tensor(x).device().is_cpu(), "the tensors must be the host's");
    const Layout to{tensors(index, groups), {widths, widths + groups}, heads};
    variable_list operands{tensor(x)};
    if (prefix) operands.push_back(tensor(prefix));
    const variable_list all = Pad::apply(TensorList(operands), to);
    for (int g = 0; g < groups; g++) padded[g] = new Tensor(all[g]);
    return nullptr;
  } catch (const std::exception &e) {
    return strdup(e.what());
  }
}

char *native_unpad_heads(void **flat, void **padded, void **index, int groups, int64_t tokens, int64_t heads) {
  try {
    const variable_list all = tensors(padded, groups);
    Layout from{tensors(index, groups), {}, heads};
    for (const Tensor &t : all) from.widths.push_back(t.size(1));
    *flat = new Tensor(Unpad::apply(TensorList(all), from, tokens));
    return nullptr;
  } catch (const std::exception &e) {
    return strdup(e.what());
  }
}

char *native_padded_attention(void **out, void **operands, int count, void *to, void *toBack, void *from, void *fromBack,
                              void *mask, int64_t heads, double scale, double dropout, uint64_t seed) {
  try {
    *out = new Tensor(paddedAttention(tensors(operands, count), {tensor(to), tensor(toBack)}, {tensor(from), tensor(fromBack)},
                                      tensor(mask), heads, scale, dropout, seed));
    return nullptr;
  } catch (const std::exception &e) {
    return strdup(e.what());
  }
}
