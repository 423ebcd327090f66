// Vectors of W floats and the functions that the kernels make of them. Included by kernels.h, once for each
// instruction set.

typedef float F __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));
typedef uint32_t U __attribute__((vector_size(4 * W)));
typedef uint16_t H __attribute__((vector_size(2 * W)));

template <class V> static inline V loadAs(const void *p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
static inline F splat(float x) { return F{} + x; }
static inline F select(I mask, F a, F b) { return mask ? a : b; }
static inline F larger(F a, F b) { return select(a > b, a, b); }

// The number of each lane.
static inline F lanes() {
  F v;
  for (int i = 0; i < W; i++) v[i] = i;
  return v;
}

// The first n lanes of a, the others of b.
static inline F first(int64_t n, F a, F b) { return n >= W ? a : select(lanes() < float(n), a, b); }

static inline U wide(H h) {
#ifdef KERNELS_512
  return (U)_mm512_cvtepu16_epi32((__m256i)h); // GCC converts halves
#else
  return __builtin_convertvector(h, U);
#endif
}

// bfloat16 is the upper half of a float; uint16_t stands for it here.
static inline F widen(H h) { return (F)(wide(h) << 16); }

// To the nearest, ties to even; NaN stays NaN.
static inline H narrow(F x) {
#ifdef KERNELS_BF16
  return (H)_mm512_cvtneps_pbh((__m512)x);
#else
  U u = (U)x;
  u += 0x7fff + ((u >> 16) & 1);
  u = (U)(x == x ? (I)u : (I)(U{} + 0x7fc00000u));
  return __builtin_convertvector(u >> 16, H);
#endif
}

static inline F load(const float *p) { return loadAs<F>(p); }
static inline F load(const uint16_t *p) { return widen(loadAs<H>(p)); }
static inline void store(float *p, F x) { __builtin_memcpy(p, &x, sizeof x); }
static inline void store(uint16_t *p, F x) {
  const H h = narrow(x);
  __builtin_memcpy(p, &h, sizeof h);
}

// The first n elements, at most W; the others are 0.
template <class T> static inline F load(const T *p, int64_t n) {
  if (n >= W) return load(p);
  T some[W] = {};
  __builtin_memcpy(some, p, n * sizeof(T));
  return load(some);
}
template <class T> static inline void store(T *p, F x, int64_t n) {
  if (n >= W) return store(p, x);
  T some[W];
  store(some, x);
  __builtin_memcpy(p, some, n * sizeof(T));
}

// Each lane of another, its number changed in the bits of S.
template <int S> static inline F swap(F v) {
  I from;
  for (int i = 0; i < W; i++) from[i] = i ^ S;
  return __builtin_shuffle(v, from);
}
template <int S = W / 2> static inline float sum(F v) {
  v += swap<S>(v);
  if constexpr (S > 1) return sum<S / 2>(v);
  return v[0];
}
template <int S = W / 2> static inline float largest(F v) {
  v = larger(v, swap<S>(v));
  if constexpr (S > 1) return largest<S / 2>(v);
  return v[0];
}

// 1/x, to about 2^-23.
static inline F reciprocal(F x) {
#ifdef KERNELS_512
  const F r = (F)_mm512_rcp14_ps((__m512)x);
  return r * (2 - x * r);
#else
  return 1 / x;
#endif
}

// 2^x for x of at most 127; what is below 2^-126 becomes that. The polynomial, a minimax fit on [-1/2, 1/2], is
// exact to 2e-9.
static inline F exp2(F x) {
  x = select(x < -126, splat(-126), x);
  const F shifted = x + 0x1.8p23f; // its lower bits are x to the nearest integer
  const F r = x - (shifted - 0x1.8p23f);
  F y = splat(1.53457834e-4f);
  y = y * r + 1.33999297e-3f;
  y = y * r + 9.61848907e-3f;
  y = y * r + 5.55032864e-2f;
  y = y * r + 2.40226462e-1f;
  y = y * r + 6.93147182e-1f;
  y = y * r + 1;
  return y * (F)(((I)shifted << 23) + 0x3f800000);
}

// Transposes W rows of W words.
template <int S> static inline void transposeBy(F (&v)[W]) {
  I low, high;
  for (int i = 0; i < W; i++) {
    low[i] = i & S ? W + i - S : i;
    high[i] = i & S ? W + i : i + S;
  }
#pragma GCC unroll 16
  for (int i = 0; i < W; i++) {
    if (i & S) continue;
    const F a = v[i], b = v[i + S];
    v[i] = __builtin_shuffle(a, b, low);
    v[i + S] = __builtin_shuffle(a, b, high);
  }
  if constexpr (S > 1) transposeBy<S / 2>(v);
}
static inline void transpose(F (&v)[W]) { transposeBy<W / 2>(v); }
