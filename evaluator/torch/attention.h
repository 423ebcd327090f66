// Attention of flat tokens, included by kernels.h.
//
// Each head of each row is a chain of small products. Their right operands are packed once, in words along which a
// product is summed: a float, or, where the instructions for it are there, a pair of bfloat16.

// Words of one float.
struct Single {
  typedef float Part; // an element of a left operand
  typedef float Word;
  static const int parts = 1; // of a word
  static const bool tiles = false;
  static inline F dot(F sum, Word a, const Word *b) { return sum + a * load(b); }
};
template <class T> struct WordsOf { typedef Single type; };

#ifdef KERNELS_BF16
// Words of two bfloat16.
struct Pairs {
  typedef uint16_t Part;
  typedef uint32_t Word;
  static const int parts = 2;
#ifdef KERNELS_AMX
  static const bool tiles = true;
#else
  static const bool tiles = false;
#endif
  static inline F dot(F sum, Word a, const Word *b) {
    return (F)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(a), (__m512bh)loadAs<__m512i>(b));
  }
};
template <> struct WordsOf<uint16_t> { typedef Pairs type; };
#endif

// sum[i, j] (+)= Σ a[i, k]·b[k, j] for a block of R rows and C vectors. Steps are in words.
template <class M, int R, int C>
static inline void block(int64_t count, const typename M::Word *a, int64_t rowStep, int64_t step, const typename M::Word *b, int64_t bStep, float *sums, int64_t sumStep, bool add) {
  F acc[R][C];
#pragma GCC unroll 8
  for (int i = 0; i < R; i++) {
#pragma GCC unroll 4
    for (int j = 0; j < C; j++) acc[i][j] = add ? load(sums + i * sumStep + j * W) : F{};
  }
  for (int64_t k = 0; k < count; k++) {
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
#pragma GCC unroll 4
      for (int j = 0; j < C; j++) acc[i][j] = M::dot(acc[i][j], a[i * rowStep + k * step], b + k * bStep + j * W);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; i++) {
#pragma GCC unroll 4
    for (int j = 0; j < C; j++) store(sums + i * sumStep + j * W, acc[i][j]);
  }
}

template <class M, int R, int C>
static inline void columns(int64_t rows, int64_t count, const typename M::Word *a, int64_t rowStep, int64_t step, const typename M::Word *b, int64_t bStep, float *sums, int64_t sumStep, bool add) {
  int64_t i = 0;
  for (; i + R <= rows; i += R) block<M, R, C>(count, a + i * rowStep, rowStep, step, b, bStep, sums + i * sumStep, sumStep, add);
  for (; i < rows; i++) block<M, 1, C>(count, a + i * rowStep, rowStep, step, b, bStep, sums + i * sumStep, sumStep, add);
}

#ifdef KERNELS_AMX
// The tiles of a thread while it lives: 8 of 16 rows of 64 bytes. oneDNN's own configuration comes back after it.
struct Tiles {
  alignas(64) char before[64];
  Tiles() {
    alignas(64) char mine[64] = {1}; // the palette; then, from byte 16, the bytes of a row, and from 48 the rows
    for (int i = 0; i < 8; i++) {
      mine[16 + 2 * i] = 64;
      mine[48 + i] = 16;
    }
    _tile_storeconfig(before);
    _tile_loadconfig(mine);
  }
  ~Tiles() { _tile_loadconfig(before); }
};

// sums (+)= a·b for 32 rows and 32 columns, or 16 where `tall` or `wide` is false.
template <bool tall, bool wide>
static inline void tileBlock(int64_t count, const uint32_t *a, int64_t rowStep, const uint32_t *b, int64_t n, float *sums, bool add) {
  if (add) {
    _tile_loadd(0, sums, n * 4);
    if (wide) _tile_loadd(1, sums + 16, n * 4);
    if (tall) _tile_loadd(2, sums + 16 * n, n * 4);
    if (tall && wide) _tile_loadd(3, sums + 16 * n + 16, n * 4);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t k = 0; k < count; k += 16) {
    _tile_loadd(4, a + k, rowStep * 4);
    _tile_loadd(6, b + k * n, n * 4);
    _tile_dpbf16ps(0, 4, 6);
    if (wide) {
      _tile_loadd(7, b + k * n + 16, n * 4);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (tall) {
      _tile_loadd(5, a + 16 * rowStep + k, rowStep * 4);
      _tile_dpbf16ps(2, 5, 6);
      if (wide) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, sums, n * 4);
  if (wide) _tile_stored(1, sums + 16, n * 4);
  if (tall) _tile_stored(2, sums + 16 * n, n * 4);
  if (tall && wide) _tile_stored(3, sums + 16 * n + 16, n * 4);
}

#else
struct Tiles {
  inline Tiles() {}
};
#endif

// A left operand, with its steps in words from row to row and along a row.
struct Left {
  const void *words;
  int64_t rowStep, step;
};

// sums [rows, n] (+)= a·b over `count` words; n is a multiple of 16 and the step of b and sums. With tiles, count is a
// multiple of 16, step is 1, and rows of a and sums are there up to a multiple of 16.
template <class M>
static void product(int64_t rows, int64_t n, int64_t count, Left left, const typename M::Word *b, float *sums, bool add) {
  const auto a = static_cast<const typename M::Word *>(left.words);
#ifdef KERNELS_AMX
  if constexpr (M::tiles) {
    for (int64_t i = 0; i < rows; i += 32) {
      for (int64_t j = 0; j < n; j += 32) {
        const auto block = rows - i > 16 ? (n - j > 16 ? tileBlock<true, true> : tileBlock<true, false>)
                                         : (n - j > 16 ? tileBlock<false, true> : tileBlock<false, false>);
        block(count, a + i * left.rowStep, left.rowStep, b + j, n, sums + i * n + j, add);
      }
    }
    return;
  }
#endif
  int64_t j = 0;
#if W == 16
  for (; j + 4 * W <= n; j += 4 * W) columns<M, 4, 4>(rows, count, a, left.rowStep, left.step, b + j, n, sums + j, n, add);
#endif
  for (; j + 2 * W <= n; j += 2 * W) columns<M, W == 16 ? 8 : 4, 2>(rows, count, a, left.rowStep, left.step, b + j, n, sums + j, n, add);
  for (; j + W <= n; j += W) columns<M, 8, 1>(rows, count, a, left.rowStep, left.step, b + j, n, sums + j, n, add);
}

// Rows of a head: first those of a prefix, then tokens, then zeros.
template <class T> struct Rows {
  const T *prefix;
  int64_t prefixes, prefixStep;
  const T *tokens;
  int64_t step, count; // count includes the prefix
  inline const T *at(int64_t i) const {
    static const T zeros[maxWidth] = {};
    if (i < prefixes) return prefix + i * prefixStep;
    return i < count ? tokens + (i - prefixes) * step : zeros;
  }
};

// A left operand: the rows as parts.
static inline void copy(const Rows<float> &from, int64_t rows, int64_t d, float *to) {
  for (int64_t i = 0; i < rows; i++) __builtin_memcpy(to + i * d, from.at(i), d * sizeof(float));
}
static inline void copy(const Rows<uint16_t> &from, int64_t rows, int64_t d, uint16_t *to) {
  for (int64_t i = 0; i < rows; i++) __builtin_memcpy(to + i * d, from.at(i), d * sizeof(uint16_t));
}
static inline void copy(const Rows<uint16_t> &from, int64_t rows, int64_t d, float *to) {
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t c = 0; c < d; c += W) store(to + i * d + c, load(from.at(i) + c));
  }
}

// A right operand that is summed along the rows: words [rows/parts, d].
template <class T> static inline void packRows(const Rows<T> &from, int64_t rows, int64_t d, float *to) { copy(from, rows, d, to); }
static inline U pairs(const uint16_t *a, const uint16_t *b) {
  return wide(loadAs<H>(a)) | wide(loadAs<H>(b)) << 16;
}
static inline void packRows(const Rows<uint16_t> &from, int64_t rows, int64_t d, uint32_t *to) {
  for (int64_t i = 0; i < rows; i += 2, to += d) {
    for (int64_t c = 0; c < d; c += W) {
      const U words = pairs(from.at(i) + c, from.at(i + 1) + c);
      __builtin_memcpy(to + c, &words, sizeof words);
    }
  }
}

// A right operand that is summed along the columns: words [d/parts, rows], rows a multiple of 16.
template <class T, class Word> static inline void packColumns(const Rows<T> &from, int64_t rows, int64_t d, Word *to) {
  constexpr int parts = std::is_same_v<Word, float> ? 1 : 2;
  for (int64_t i = 0; i < rows; i += W) {
    for (int64_t c = 0; c < d / parts; c += W) {
      F v[W];
      for (int j = 0; j < W; j++) {
        const T *row = from.at(i + j) + c * parts;
        if constexpr (parts == 1) v[j] = load(row);
        else v[j] = loadAs<F>(row);
      }
      transpose(v);
      for (int j = 0; j < W; j++) __builtin_memcpy(to + (c + j) * rows + i, &v[j], sizeof v[j]);
    }
  }
}

// Keys are padded to a multiple of 16, with tiles of 32.
template <class M> static inline int64_t padded(int64_t n) {
  const int64_t unit = M::tiles ? 32 : 16;
  return (n + unit - 1) / unit * unit;
}

// How many keys token i of a row's queries sees.
static inline int64_t visible(const AttentionShape &s, int64_t queries, int64_t keys, int64_t i) {
  return s.causal ? keys - queries + i + 1 : keys;
}

// Takes the scratch memory in pieces.
struct Scratch {
  char *next;
  template <class T> inline T *take(int64_t n) {
    T *p = reinterpret_cast<T *>(next);
    next += (n * sizeof(T) + 63) / 64 * 64;
    return p;
  }
};

// Of heads begin to end of all rows: out = softmax(scale·q·kᵀ)·v, and stats, the shift and factor of each softmax.
template <class T> static void attention(const AttentionShape &s, const AttentionTensors &t, int64_t begin, int64_t end, void *memory) {
  typedef typename WordsOf<T>::type M;
  typedef typename M::Part Part;
  typedef typename M::Word Word;
  const int64_t d = s.width, most = padded<M>(s.prefixes + s.longest);
  Scratch scratch{static_cast<char *>(memory)};
  Word *k = scratch.take<Word>(d * most), *v = scratch.take<Word>(d * most);
  Part *q = scratch.take<Part>(queryBlock * d), *weights = scratch.take<Part>(queryBlock * most);
  float *scores = scratch.take<float>(queryBlock * most), *context = scratch.take<float>(queryBlock * d);
  const float scale = s.scale * 1.44269504f; // for powers of 2
  const Tiles tiles;
  for (int64_t r = 0; r < s.rows; r++) {
    const int64_t queries = s.queries[r + 1] - s.queries[r], keys = s.prefixes + s.keys[r + 1] - s.keys[r], n = padded<M>(keys);
    for (int64_t h = begin; h < end; h++) {
      const Rows<T> keyRows{(const T *)t.prefixKeys + h * d, s.prefixes, s.prefixStep, (const T *)t.k + s.keys[r] * s.kStep + h * d, s.kStep, keys};
      const Rows<T> valueRows{(const T *)t.prefixValues + h * d, s.prefixes, s.prefixStep, (const T *)t.v + s.keys[r] * s.vStep + h * d, s.vStep, keys};
      packColumns(keyRows, n, d, k);
      packRows(valueRows, n, d, v);
      for (int64_t start = 0; start < queries; start += queryBlock) {
        const int64_t count = queries - start < queryBlock ? queries - start : queryBlock, token = s.queries[r] + start;
        copy(Rows<T>{nullptr, 0, 0, (const T *)t.q + token * s.qStep + h * d, s.qStep, count}, count, d, q);
        product<M>(count, n, d / M::parts, {q, d / M::parts, 1}, k, scores, false);
        float *stats = t.stats + (token * s.heads + h) * 2;
        for (int64_t i = 0; i < count; i++) {
          const int64_t seen = visible(s, queries, keys, start + i);
          const float *row = scores + i * n;
          F top = splat(-__builtin_inff()), total = {};
          for (int64_t j = 0; j < seen; j += W) top = larger(first(seen - j, load(row + j), top), top);
          const float shift = largest(top) * scale;
          for (int64_t j = 0; j < n; j += W) {
            const F e = first(seen - j, exp2(load(row + j) * scale - shift), F{});
            total += e;
            store(weights + i * n + j, e);
          }
          stats[i * s.heads * 2] = shift;
          stats[i * s.heads * 2 + 1] = 1 / sum(total);
        }
        product<M>(count, d, n / M::parts, {weights, n / M::parts, 1}, v, context, false);
        T *out = (T *)t.out + token * s.heads * d + h * d;
        for (int64_t i = 0; i < count; i++, out += s.heads * d) {
          for (int64_t c = 0; c < d; c += W) store(out + c, load(context + i * d + c) * stats[i * s.heads * 2 + 1]);
        }
      }
    }
  }
}

// Gradients of a head's keys or values, as rows of floats, to the prefix, where those of all rows are summed, and to tokens.
template <class T> static inline void scatter(const float *rows, int64_t d, float *prefix, int64_t prefixes, int64_t prefixStep, T *tokens, int64_t count, int64_t step) {
  for (int64_t i = 0; i < count; i++, rows += d) {
    for (int64_t c = 0; c < d; c += W) {
      const F x = load(rows + c);
      if (i < prefixes) {
        store(prefix + i * prefixStep + c, load(prefix + i * prefixStep + c) + x);
      } else {
        store(tokens + (i - prefixes) * step + c, x);
      }
    }
  }
}

// The transpose of a left operand [rows, n], for a sum along its rows. Floats serve as they are.
template <bool tiles> static inline Left transposed(const float *parts, int64_t, int64_t n, float *) { return {parts, 1, n}; }
template <bool tiles> static inline Left transposed(const uint16_t *parts, int64_t rows, int64_t n, uint32_t *to) {
  if constexpr (!tiles) {
    packRows(Rows<uint16_t>{nullptr, 0, 0, parts, n, rows}, rows, n, to);
    return {to, 1, n};
  }
  for (int64_t j = 0; j < n; j += W) {
    F v[W];
    for (int i = 0; i < W; i++) v[i] = (F)pairs(parts + 2 * i * n + j, parts + (2 * i + 1) * n + j);
    transpose(v);
    for (int i = 0; i < W; i++) __builtin_memcpy(to + (j + i) * W, &v[i], sizeof v[i]);
  }
  return {to, W, 1};
}

// The gradients of q, k, v and the prefix from that of out, of heads begin to end.
template <class T> static void attentionBackward(const AttentionShape &s, const AttentionTensors &t, int64_t begin, int64_t end, void *memory) {
  typedef typename WordsOf<T>::type M;
  typedef typename M::Part Part;
  typedef typename M::Word Word;
  const int64_t d = s.width, most = padded<M>(s.prefixes + s.longest), all = s.heads * d;
  Scratch scratch{static_cast<char *>(memory)};
  Word *k = scratch.take<Word>(d * most), *v = scratch.take<Word>(d * most), *keyWords = scratch.take<Word>(d * most);
  Part *q = scratch.take<Part>(queryBlock * d), *g = scratch.take<Part>(queryBlock * d);
  Part *weights = scratch.take<Part>(queryBlock * most), *dScores = scratch.take<Part>(queryBlock * most);
  Word *qWords = scratch.take<Word>(queryBlock * d), *gWords = scratch.take<Word>(queryBlock * d);
  Word *weightWords = scratch.take<Word>(queryBlock * most), *dScoreWords = scratch.take<Word>(queryBlock * most);
  float *scores = scratch.take<float>(queryBlock * most), *dWeights = scratch.take<float>(queryBlock * most);
  float *dq = scratch.take<float>(queryBlock * d), *dk = scratch.take<float>(d * most), *dv = scratch.take<float>(d * most);
  const float scale = s.scale * 1.44269504f;
  const Tiles tiles;
  for (int64_t r = 0; r < s.rows; r++) {
    const int64_t queries = s.queries[r + 1] - s.queries[r], keys = s.prefixes + s.keys[r + 1] - s.keys[r], n = padded<M>(keys);
    for (int64_t h = begin; h < end; h++) {
      const Rows<T> keyRows{(const T *)t.prefixKeys + h * d, s.prefixes, s.prefixStep, (const T *)t.k + s.keys[r] * s.kStep + h * d, s.kStep, keys};
      const Rows<T> valueRows{(const T *)t.prefixValues + h * d, s.prefixes, s.prefixStep, (const T *)t.v + s.keys[r] * s.vStep + h * d, s.vStep, keys};
      packColumns(keyRows, n, d, k);
      packColumns(valueRows, n, d, v);
      packRows(keyRows, n, d, keyWords);
      for (int64_t start = 0; start < queries; start += queryBlock) {
        const int64_t count = queries - start < queryBlock ? queries - start : queryBlock, token = s.queries[r] + start;
        const Rows<T> queryRows{nullptr, 0, 0, (const T *)t.q + token * s.qStep + h * d, s.qStep, count};
        const Rows<T> gradRows{nullptr, 0, 0, (const T *)t.dOut + token * all + h * d, all, count};
        copy(queryRows, count, d, q);
        copy(gradRows, count, d, g);
        product<M>(count, n, d / M::parts, {q, d / M::parts, 1}, k, scores, false);
        product<M>(count, n, d / M::parts, {g, d / M::parts, 1}, v, dWeights, false);
        const float *stats = t.stats + (token * s.heads + h) * 2;
        for (int64_t i = 0; i < count; i++) {
          const int64_t seen = visible(s, queries, keys, start + i);
          float *row = scores + i * n;
          const float *dRow = dWeights + i * n;
          const float shift = stats[i * s.heads * 2], factor = stats[i * s.heads * 2 + 1];
          F total = {};
          for (int64_t j = 0; j < n; j += W) {
            const F w = first(seen - j, exp2(load(row + j) * scale - shift) * factor, F{});
            total += w * load(dRow + j);
            store(row + j, w);
            store(weights + i * n + j, w);
          }
          const float mean = sum(total);
          for (int64_t j = 0; j < n; j += W) store(dScores + i * n + j, load(row + j) * (load(dRow + j) - mean) * s.scale);
        }
        product<M>(count, d, n / M::parts, {dScores, n / M::parts, 1}, keyWords, dq, false);
        T *dQueries = (T *)t.dq + token * all + h * d;
        for (int64_t i = 0; i < count; i++, dQueries += all) {
          for (int64_t c = 0; c < d; c += W) store(dQueries + c, load(dq + i * d + c));
        }
        const int64_t even = M::tiles ? queryBlock : (count + M::parts - 1) / M::parts * M::parts; // whole words or tiles
        for (int64_t i = count * n; i < even * n; i += W) {
          store(weights + i, F{});
          store(dScores + i, F{});
        }
        packRows(queryRows, even, d, qWords);
        packRows(gradRows, even, d, gWords);
        product<M>(keys, d, even / M::parts, transposed<M::tiles>(weights, even, n, weightWords), gWords, dv, start > 0);
        product<M>(keys, d, even / M::parts, transposed<M::tiles>(dScores, even, n, dScoreWords), qWords, dk, start > 0);
      }
      scatter(dk, d, t.dPrefixKeys + h * d, s.prefixes, all, (T *)t.dk + s.keys[r] * all + h * d, keys, all);
      scatter(dv, d, t.dPrefixValues + h * d, s.prefixes, all, (T *)t.dv + s.keys[r] * all + h * d, keys, all);
    }
  }
}
