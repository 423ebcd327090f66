// The elementwise kernels of fused.cpp for one instruction set. T is float or uint16_t, which stands for bfloat16.
// What is summed is summed in float.

// y = GELU(x) and its derivative (NULL for none), n elements. The upper tail of the normal distribution is
// exp(-x²/2)·t·p(t), t = 1/(1+0.24|x|), with p fitted to an absolute error of 3e-8.
template <class T> static void gelu(const T *x, T *y, T *derivative, int64_t n) {
  for (int64_t i = 0; i < n; i += W) {
    const F v = load(x + i, n - i);
    const F t = reciprocal(1 + 0.24f * select(v < 0, -v, v));
    const F e = exp2(v * v * -0.721347520f); // exp(-x²/2)
    F p = splat(-1.20568745e-1f);
    p = p * t + 5.33137441e-1f;
    p = p * t - 6.03971243e-1f;
    p = p * t + 5.81802547e-1f;
    p = p * t - 1.28613278e-1f;
    p = p * t + 1.47690788e-1f;
    p = p * t + 9.05225128e-2f;
    const F tail = p * t * e;
    const F cdf = select(v < 0, tail, 1 - tail);
    store(y + i, v * cdf, n - i);
    if (derivative) store(derivative + i, cdf + v * e * 0.398942280f, n - i);
  }
}

// The same for 0.5·x·(1+tanh(√(2/π)·(x+0.044715·x³))).
template <class T> static void geluTanh(const T *x, T *y, T *derivative, int64_t n) {
  const float a = 0.797884561f, b = 0.797884561f * 0.044715f;
  for (int64_t i = 0; i < n; i += W) {
    const F v = load(x + i, n - i);
    F u = 2.88539008f * v * (a + b * v * v); // 2·log2(e) times the argument of tanh
    u = select(u > 126, splat(126), u);
    const F s = 1 - 1 / (1 + exp2(u)); // (1+tanh)/2
    store(y + i, v * s, n - i);
    if (derivative) store(derivative + i, s + 2 * v * s * (1 - s) * (a + 3 * b * v * v), n - i);
  }
}

// Adds bias [d] to rows of d elements.
template <class T> static void addBias(T *y, const T *bias, int64_t rows, int64_t d) {
  for (int64_t r = 0; r < rows; r++, y += d) {
    for (int64_t i = 0; i < d; i += W) store(y + i, load(y + i, d - i) + load(bias + i, d - i), d - i);
  }
}

// y = x·mask/(1-p), where the mask is 0 with probability p: a hash of seed and element, so that the backward pass draws
// it again. The elements are those from begin on.
template <class T> static void dropout(const T *x, T *y, uint64_t seed, float p, int64_t begin, int64_t n) {
  const float factor = 1 / (1 - p);
  const I threshold = I{} + int32_t(p * 0x1p31);
  for (int64_t i = 0; i < n; i += W) {
    U h = __builtin_convertvector(lanes(), U) + uint32_t(begin + i);
    h = h * 0x9e3779b1u + uint32_t(seed);
    h = (h ^ h >> 16) * 0x85ebca6bu; // two rounds of integer finalisers
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    h = (h ^ h >> 16) + uint32_t(seed >> 32);
    h = (h ^ h >> 16) * 0x7feb352du;
    h = (h ^ h >> 15) * 0x846ca68bu;
    h ^= h >> 16;
    store(y + i, select((I)(h >> 1) < threshold, F{}, load(x + i, n - i) * factor), n - i);
  }
}

// out = a·b, n elements.
template <class T> static void multiply(const T *a, const T *b, T *out, int64_t n) {
  for (int64_t i = 0; i < n; i += W) store(out + i, load(a + i, n - i) * load(b + i, n - i), n - i);
}

// total = a+b and y = LayerNorm(total), for rows of d elements; without b total is a. moments has mean and reciprocal
// standard deviation of each row.
template <class T> static void addNorm(const T *a, const T *b, const T *weight, const T *bias, float eps, T *total, T *y, float *moments, int64_t rows, int64_t d) {
  for (int64_t r = 0; r < rows; r++, a += d, y += d, moments += 2) {
    F s = {}, squares = {};
    const T *x = a;
    if (b) {
      for (int64_t i = 0; i < d; i += W) store(total + i, load(a + i, d - i) + load(b + i, d - i), d - i);
      x = total;
      b += d, total += d;
    }
    for (int64_t i = 0; i < d; i += W) s += load(x + i, d - i);
    const float mean = sum(s) / d;
    for (int64_t i = 0; i < d; i += W) {
      const F c = select(lanes() < float(d - i), load(x + i, d - i) - mean, F{});
      squares += c * c;
    }
    const float scale = 1 / __builtin_sqrtf(sum(squares) / d + eps);
    moments[0] = mean, moments[1] = scale;
    for (int64_t i = 0; i < d; i += W) {
      store(y + i, (load(x + i, d - i) - mean) * scale * load(weight + i, d - i) + load(bias + i, d - i), d - i);
    }
  }
}

// The gradient with respect to total, from those of y and, if it is not NULL, of total; dWeight and dBias [d] are added
// to, unless NULL.
template <class T> static void addNormBackward(const T *dy, const T *dTotal, const T *total, const float *moments, const T *weight, T *dx, float *dWeight, float *dBias, int64_t rows, int64_t d) {
  for (int64_t r = 0; r < rows; r++, dy += d, total += d, dx += d, moments += 2) {
    const float mean = moments[0], scale = moments[1];
    F s = {}, products = {};
    for (int64_t i = 0; i < d; i += W) {
      const F g = load(dy + i, d - i), x = (load(total + i, d - i) - mean) * scale;
      const F w = g * load(weight + i, d - i);
      s += w;
      products += w * x;
      if (dWeight) {
        store(dWeight + i, load(dWeight + i, d - i) + g * x, d - i);
        store(dBias + i, load(dBias + i, d - i) + g, d - i);
      }
    }
    const float m = sum(s) / d, p = sum(products) / d;
    for (int64_t i = 0; i < d; i += W) {
      const F x = (load(total + i, d - i) - mean) * scale;
      F g = scale * (load(dy + i, d - i) * load(weight + i, d - i) - m - x * p);
      if (dTotal) g += load(dTotal + i, d - i);
      store(dx + i, g, d - i);
    }
    if (dTotal) dTotal += d;
  }
}
